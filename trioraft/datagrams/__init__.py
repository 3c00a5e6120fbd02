"""Datagrams: bytes of the network to messages, and back. The only code that reads bytes of strangers.

``socket``          the UDP socket
``endpoint``        what a node or client uses: datagrams in, events and datagrams out; no I/O
``receiver``        which datagrams count, and what they mean
``sender``          envelopes, seals, and each ``Hello``
``handshake``       how a process proves its address; which process speaks for a node id
``sessions``        what is known of each other process
``events``          what an endpoint reports

``wire``            the format in full; envelopes
``headers``         what stands before an envelope
``cbor``            the decoder

``sealing``         what is derived from keys
``primitives``      the package ``cryptography``, when it is needed
``keys``            keys as people write them
``rights``          what the holder of each key may say
``channels``        which key opens a datagram
``ephemerals``      X25519 values
``generations``     keys of the release before
``cookies``         challenges and tokens
``replay``          datagrams that were seen before

``fragments``       messages that are larger than a datagram
``retransmission``  their sending side
``reassembly``      their receiving side
``batches``         small messages that go together

``identity``        the process that an endpoint speaks for
``client_loop``     the loop between socket and endpoint, in a client
"""
