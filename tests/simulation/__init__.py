"""Hostile cluster life from a seed: the real consensus code on a virtual network, disks and clocks.

``python -m tests.simulation`` runs it. One seed is one life of one cluster, from nodes without state to the moment
when, all faults over, it must agree on a leader again. Everything in it comes from one random source, so a seed gives
the same life, event by event, on every machine. Sessions and requests of clients are the real code too, and nodes
answer them with it. In the end every command of a client with a session must have been carried out, once, unless its
session ended or it was given up; what a client was told must be so; all replicas must be equal, and what the clients
of the key-value store saw must be linearizable.

Two kinds of fault are worse than what the software promises to bear, and take away what is checked. While a whole
machine stands still (``freeze``), leader work on it may overlap with that of others: only its token protects from
that. In a life in which clocks leap or stand still (``clock leap``) nothing is checked that goes by clocks (promises
to refuse votes, leases of leaders and of keys, exclusive leader work) and no read goes by the lease; everything else
must hold all the same. A node that is lost with its disk is never more than a part of a minority.

In most lives an operator changes the members, at random. In those of the profile ``autopilot`` nobody does: the
members follow a service, by the real autopilot and address book of each node. Replicas come, with or without room for
another voter, go for good, ask to leave, are replaced without their data, and move to other addresses, also to those
of others; each node asks a DNS that says, at times and perhaps to it alone, nothing, not all, what was true a moment
ago, or where another service is. Nobody may be removed who is there, and in the end, when DNS tells the truth, the
members must be the replicas that there are.

``loop``          virtual time
``profile``       what a seed's cluster is like, and which faults it meets (swarm testing: never all in each)
``network``       loss, duplication, reordering, delay, blocked links
``disk``          what is there after a crash, and what is damaged
``host``          a machine: its clock and disk, and the process on it, which drives the real core
``replicas``      what a process does with the log: applies it, reads, takes and receives snapshots
``store``         the real key-value store, its watches and its clock of leases
``requesting``    what clients ask of a node: the real requests, and what they need around them
``workload``      what clients ask, with and without sessions, and what the answers must be
``session_clients``  the real sessions and requests of clients, on the network
``store_clients`` what they ask of the key-value store
``supervision``   leader work, as the supervisor process of a node runs it
``faults``        when something goes wrong, and what
``upkeep``        who changes the members, and replaces what is lost
``service``       the service that members follow: its replicas come, move, leave and go
``dns``           what DNS says of it, which need not be true
``pilot``         the autopilot of a process, with its address book
``checks``        what must hold, checked at each step
``log_checks``    what must hold of the log, of acknowledged commands and of reads
``member_checks`` what must hold of changes of the members
``pilot_checks``  what must hold of what the autopilot does to the members
``store_checks``  what must hold of the key-value store, its watches, its leases and its clients' history
``simulation``    one life, whole
``campaign``      many lives
``report``        what came of them
``trace``         what happened, readable
``mutants``       seeded bugs that must be found (``python -m tests.simulation.mutants``)
``downtime``      the paper's experiment: how long there is no leader after one has crashed
``figure16``      the picture of that
"""
