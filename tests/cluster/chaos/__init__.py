"""Chaos on real processes: real sockets and disks, faults from outside, clients whose history is checked.

::

    python -m tests.cluster.chaos --minutes 10

A life (:mod:`~tests.cluster.chaos.life`) is a cluster on a bad network, clients that write down what they see
(:mod:`tests.cluster.recorded_clients`), and a storm (:mod:`~tests.cluster.chaos.storm`) that has one fault after
another, some at the same time. Afterwards all is healed, everybody has to agree again, and what was seen is judged
(:mod:`~tests.cluster.chaos.verdict`) and drawn (:mod:`~tests.cluster.chaos.picture`).

As root on Linux each node has a network namespace of its own (:mod:`tests.cluster.namespaces`), whose link goes down
and whose address changes; elsewhere there is a relay on loopback (:mod:`tests.cluster.relay`), and that is said.
"""
