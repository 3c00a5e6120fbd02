"""Raft's rules, without I/O, without a clock and without randomness of their own.

Theory of operation
-------------------
A :class:`~trioraft.consensus.core.Core` is fed with messages (:meth:`receive`), the time (:meth:`handle_timer`) and
the news that a write is on disk (:meth:`persisted`). Its only way out is a :meth:`turn`, which says what is to be
done now, in its order (:class:`~trioraft.consensus.turn.Turn`): act on events, send, write, apply, come back at a
certain time. The same inputs always give the same outputs. :class:`trioraft.node.member.Member` is what drives it.

All that a member remembers is in :mod:`state`; the rules are functions on it, one for each rule of the paper or
of what this software adds to it, in one module for each chapter::

    forming ──formation stands──▶ follower ──election timeout──▶ pre-candidate ──quorum would vote──▶ candidate
                                     ▲  ▲                         │    ▲                             │     │
                                     │  └──heartbeat, newer term──┘    └────inconclusive round───────┘     │
                                     └───no quorum answers, newer term, transfer───  leader  ◀──quorum votes┘

``formation``    nodes without a cluster form one, and only one
``election``     pre-vote, vote, victory
``append_entries`` heartbeats and entries, from the leader's log to the others', and when they are committed
``quorum``       what a leader must keep to go on leading
``snapshots``    for who is behind the leader's log
``reads``        linearizable reads, by a round or by the lease
``lease``        promises: why nobody can be elected while a lease runs
``leader_work``  leader work: it has ended before any other node starts leader work
``transfer``     giving leadership to another node
``membership``   learners, changes of the voters by joint consensus, who joins and who is removed
``progress``     how far each follower is: who keeps up, and who knows that it is removed
``roles``        becoming a follower, from whatever one was
``numbers``      what no member can mean, and is dropped; ``far_terms``, how a term far above one's own is learned all
                 the same
``core``         the table from messages to rules, and the way in and out

Nothing leaves before what it depends on is on disk; :class:`~trioraft.consensus.ledger.Ledger` sees to that, so
that no rule has to.
"""

from trioraft.consensus.core import Core
from trioraft.consensus.hard import HardState
from trioraft.consensus.state import Role
from trioraft.consensus.timing import Timing
from trioraft.consensus.turn import Turn

__all__ = ["Core", "HardState", "Role", "Timing", "Turn"]
