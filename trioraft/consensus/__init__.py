"""Raft's rules, without I/O, without a clock and without randomness of their own.

Theory of operation
-------------------
A :class:`~trioraft.consensus.core.Core` is fed with messages (:meth:`receive`), the time (:meth:`handle_timer`) and
the news that a write is on disk (:meth:`persisted`). Its only way out is a :meth:`turn`, which lists what must be
done now, in this order (:class:`~trioraft.consensus.turn.Turn`): act on events, send, write, apply, come back at a
certain time. The same inputs always give the same outputs. A :class:`trioraft.node.member.Member` drives the core.

All that a member remembers is in :mod:`state`. The rules are functions on it: one function for each rule of the
paper, and for each rule that this software adds; one module for each chapter::

    forming ──formation stands──▶ follower ──election timeout──▶ pre-candidate ──quorum would vote──▶ candidate
                                     ▲  ▲                         │    ▲                             │     │
                                     │  └──heartbeat, newer term──┘    └────inconclusive round───────┘     │
                                     └───no quorum answers, newer term, transfer───  leader  ◀──quorum votes┘

``core``            a whole member: the rule that a message or the timer calls, and the one way out
``operations``      the calls by which the program around a member tells it something
``steps``           the beginning and the end of every step
``turn``            the duties of one turn, in order
``view``            the properties of a member that others may read; an ``observer`` is called after each step, to
                    record or check it
``events``          the news that a member has for the program around it
``admission``       the messages that are taken in; ``numbers``, the values that no member can mean; ``far_terms``,
                    how a member learns a term far above its own all the same

``state``           all that a member remembers; ``hard`` is the part of it that a restart must not lose
``log``             the entries; ``configuration``, the members and voters that follow from them, and the quorum
``ledger``          the changes that wait for the disk, and the messages that depend on them
``timing``          the durations that a cluster runs by

``formation``       nodes without a cluster form one, and only one
``election``        pre-vote, vote, victory
``append_entries``  heartbeats and entries, from the leader's log to the followers' logs, and their commitment
``progress``        the progress of each follower: whether it keeps up, and whether it knows that it is removed
``tally``           the values that a quorum has reached, computed when they grow
``quorum``          check-quorum: the conditions under which a leader goes on leading
``roles``           becoming a follower, from any role
``snapshots``       for followers that are behind the beginning of the leader's log
``reads``           linearizable reads, by a round or by the lease
``lease``           promises and leases: why nobody can be elected while a lease runs
``leader_work``     leader work: it has ended before any other node starts leader work
``endings``         a leadership that ended with its process: the node says so when it is started again
``transfer``        giving leadership to another node
``membership``      learners, changes of the voters by joint consensus, nodes that join and nodes that are removed

No message leaves before the state that it depends on is on disk. :class:`~trioraft.consensus.ledger.Ledger` sees to
that, so no rule has to.

Figure 2 of the Raft paper, rule by rule
----------------------------------------
A server of the paper is a member here. An RPC is a message whose answer is a message of its own. A place below is a
file of this folder, or of one beside it, and a name in it.

No single place compares terms: each handler of a message does, and calls :func:`roles.become_follower` for a newer
one. By design some newer terms are not taken over: that of a pre-vote request, which nobody has yet; that of a
candidate, by a leader and by a voter that heard from one a moment ago (:func:`lease.is_sticky`), unless it is the
chosen successor; that of a follower which is no member any more; and one that is far above the member's own
(:mod:`far_terms`). ::

    State
      currentTerm, votedFor: on disk before any answer                hard.py:HardState
      log[]: on disk before any answer                                log.py:Log
      commitIndex, lastApplied                                        state.py:State
      nextIndex[], matchIndex[]: of a leader                          state.py:Follower
    AppendEntries RPC
      sender: entries, or none for a heartbeat                        append_entries.py:send_batch
                                                                      append_entries.py:heartbeat
      1. reply false if term < currentTerm                            append_entries.py:handle_append_entries
      2. reply false if no entry at prevLogIndex has prevLogTerm      append_entries.py:store_entries
      3. delete an entry that conflicts, and all that follow it       append_entries.py:store_entries
      4. append any new entries that are not in the log               append_entries.py:store_entries
      5. commitIndex = min(leaderCommit, index of last new entry)     append_entries.py:follow_commit_index
    RequestVote RPC
      sender: candidate's term, and the last entry of its log         election.py:vote_request
      1. reply false if term < currentTerm                            election.py:handle_vote_request
      2. grant a free vote if the log is at least as up-to-date       election.py:handle_vote_request
                                                                      election.py:is_up_to_date
    All servers
      commitIndex > lastApplied: apply                                core.py:Core.turn
                                                                      node/apply.py:Applying.apply
      a message has a newer term: adopt it, convert to follower       roles.py:become_follower
    Followers
      respond to RPCs from candidates and leaders                     core.py:Core.receive
      election timeout, no AppendEntries, no vote: candidate          core.py:Core.handle_timer
                                                                      election.py:start_pre_vote
                                                                      roles.py:reset_election_timer
    Candidates
      start election: new term, own vote, timer, RequestVote          election.py:start_election
                                                                      election.py:start_round
      votes from majority: become leader                              election.py:conclude_election
      AppendEntries from new leader: convert to follower              append_entries.py:handle_append_entries
      election timeout: start new election                            election.py:ask_again
                                                                      election.py:give_up_round
    Leaders
      empty AppendEntries upon election and during idle periods       append_entries.py:send_heartbeats
      command from client: append it, respond after it is applied     append_entries.py:propose
                                                                      node/proposals.py:Proposals.applied
      last log index >= nextIndex: send entries from nextIndex        append_entries.py:send_entries
                                                                      append_entries.py:send_batch
      success: update nextIndex and matchIndex                        append_entries.py:note_match
      failure: decrement nextIndex, and retry                         append_entries.py:handle_rejection
      N > commitIndex on a majority, of currentTerm: commit N         append_entries.py:advance_commit_index
"""

from trioraft.consensus.core import Core
from trioraft.consensus.hard import HardState
from trioraft.consensus.state import Role
from trioraft.consensus.timing import Timing
from trioraft.consensus.turn import Turn

__all__ = ["Core", "HardState", "Role", "Timing", "Turn"]
