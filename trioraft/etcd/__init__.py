"""etcd's v3 API on the key-value store of a node, for clients that were written for etcd.

``README.md`` beside this file says what is served, and what differs from etcd.

``messages``        the messages of the API, with their names and field numbers
``services``        the methods, with their paths
``proto_json``      messages as JSON, as proto3 defines it; ``go_json`` words what is wrong with a document
``status``          errors, with etcd's texts, codes and HTTP statuses
``http1``           one connection: requests and answers, by h11
``port``            all connections: listening, limits, TLS (``certificates``), and the end
``guard``           which requests are not taken from a browser
``gateway``         the way of a request to its method and back; ``pages`` has what is asked by GET
``host``            what the methods need of the node
``key_values``, ``translate``, ``watches``, ``leases``, ``cluster``, ``maintenance``, ``locks``, ``auth``
                    the methods, service by service
``metrics``         what Prometheus is told

Nothing here is imported before ``CLIENT_BIND_PORT`` is set.
"""
