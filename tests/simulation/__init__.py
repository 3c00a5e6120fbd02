"""Hostile cluster life from a seed: the real consensus code on a virtual network, disks and clocks.

``python -m tests.simulation --seeds 300`` runs it. One seed is one life of one cluster, from nodes without state
to the moment when, all faults over, it must agree on a leader again. Everything in it comes from one random
source, so a seed gives the same life, event by event, on every machine. In the end, too, every command of a client
with a session must have been carried out, once, and all replicas must be equal.

``loop``         virtual time
``profile``      what a seed's cluster is like, and which faults it meets (swarm testing: never all in each)
``network``      loss, duplication, reordering, delay, blocked links
``disk``         what is there after a crash
``host``         a machine: its clock and disk, and the process on it, which drives the real core
``replicas``     what a process does with the log: applies it, reads, takes and receives snapshots
``workload``     clients with and without sessions
``supervision``  leader work, as the supervisor process of a node runs it
``faults``       when something goes wrong, and what
``checks``       what must hold, checked at each step
``log_checks``   what must hold of the log, of acknowledged commands and of reads
``simulation``   one life, whole
``campaign``     many lives
``trace``        what happened, readable
``mutants``      seeded bugs that the simulator must find
"""
