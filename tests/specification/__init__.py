"""What this software adds to Raft, as specifications in TLA+ that a model checker goes through.

``Formation.tla``   nodes without a cluster form one, and only one
``Election.tla``    pre-vote, vote, leases and check-quorum: one leader a term, one lease at a time
``Recovery.tla``    the same, from any state at all: a connected quorum can come to have a leader
``LeaderWork.tla``  promises, leases, exclusive leader work, transfer, and what a leader says that was killed

Each says at its beginning what it leaves out. ``python -m tests.specification`` lets TLC look at every state within
the bounds of ``<module>.<bounds>.cfg``, then takes rules out of the specification, one at a time, and expects TLC
to notice (`mutations`). With ``--full`` it goes on to the larger bounds. All have three nodes:

==========  ========  ===========================================================  =======================
module      bounds    what they are                                                distinct states
==========  ========  ===========================================================  =======================
Formation   bounded   two formations                                               11,094 of 84,143
Formation   refusals  three formations, one refusal kept by each node              many times that
Election    bounded   one term, from the start; promise of one tick, restarts      6,949 of 101,059
Election    lease     one election after a first leader                            many times that
Recovery    bounded   two terms and two lengths of logs, any state in them         31,279 of 101,003
LeaderWork  bounded   one election after the first; promise and grace of one tick  273,132 of 2,168,810
LeaderWork  ticks     the same with a promise of two ticks                         many times that
LeaderWork  terms     two elections after the first                                many times that
LeaderWork  endings   as bounded; leaders that were killed say so                  many times that
==========  ========  ===========================================================  =======================

States that differ only in the names of nodes or formations count once.

``python -m tests.specification traces`` goes the other way: lives of the simulator are recorded as nodes record their
transitions (`recording`; with ``TRACE_FILE`` real nodes do), and TLC decides whether they are behaviours of Election,
Formation and LeaderWork (``TraceElection.tla``, ``TraceFormation.tla``, ``TraceLeaderWork.tla``; `trace_election`,
`trace_formation` and `trace_leader_work` write what they read). Each line must be a step that the specification
allows, with its messages sent before and its times right to a few microseconds, and the node must be afterwards as
the line says. Traces of seeded bugs must be refused (`traced_mutants`).

LeaderWork lets a leader and a follower act at once, and has one clock for all. ``TraceLeaderWork.tla`` takes its
steps apart: a claim is heard in one line and counted on in another, and a write takes time. It counts on the clocks
of all nodes, which the simulator tells with every line; at none may leader work run on two nodes. Terms, roles and
leases it takes from the lines: those TraceElection checks. What a leader says that was killed is left out of both, so
the nodes of a trace know no place of their own.
"""
