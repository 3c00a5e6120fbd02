"""Numbers that no member can mean: a message with one of them is dropped, whole, before any rule sees it.

A node trusts the messages of members, because members hold the cluster's key, if there is one. But a wrong number may
do lasting harm. A term of 2**62 leaves no other election; leader work that may run for three years keeps any other
leader work from starting. One message is enough for that, even one that is sent by mistake.

It is always safe to drop a message, because any message may be lost. So every number has a bound that no meant value
can reach, and some numbers must fit to others in the same message: an entry is of no later term than its leader, and
a candidate's last entry is of an earlier term than its election.

=======================  ============================  =============================================================
number                   bound                         why no meant value is beyond it
=======================  ============================  =============================================================
a term                   `TERM_STEP` above one's own   fewer elections while a node is away; else see
                                                       :mod:`trioraft.consensus.far_terms`
an index of the log      `INDEX_MAX`                   the number of a session has no room for a larger one
a leader's sequence      `SEQUENCE_MAX`                a million messages a second for nine years of one term
leader work              `CLAIM_MAX`                   twice what the longest settings make, an hour for each
a promise                `PROMISE_MAX`                 twice the longest election timeout
a snapshot's size        `SIZE_MAX`                    the whole state is in memory
nodes that are expected  `MEMBERS_MAX`                 no cluster has more members
=======================  ============================  =============================================================

A number without a bound is only sent back (the round of a pre-vote, the number of a read), or looked up among the
messages that this node has sent, and not found. A liar whose numbers could be meant is not found out here: Raft
trusts its members.
"""

from collections.abc import Callable
from typing import Any, Final

from trioraft.consensus.state import Role, State
from trioraft.messages import (
    MEMBERS_MAX,
    AppendEntriesRequest,
    AppendEntriesResponse,
    FormationRequest,
    FormationView,
    InstallSnapshotRequest,
    InstallSnapshotResponse,
    NodeId,
    PreVoteRequest,
    Seconds,
    Term,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)

TERM_STEP: Final = 2**20
INDEX_MAX: Final = 2**48 - 1
SEQUENCE_MAX: Final = 2**48
CLAIM_MAX: Final = 4 * 3600.0
PROMISE_MAX: Final = 2 * 3600.0
SIZE_MAX: Final = 2**40
_CHECKSUM_MAX: Final = 2**32 - 1


def _index(first: int, second: int = 0) -> str:
    return f"log index {max(first, second)}" if first > INDEX_MAX or second > INDEX_MAX else ""


def _work(seconds: Seconds) -> str:
    return f"leader work that may run for {seconds:.0f} s" if seconds > CLAIM_MAX else ""


def _sequence(number: int) -> str:
    return f"sequence {number}" if number > SEQUENCE_MAX else ""


def _append_entries(m: AppendEntriesRequest) -> str:
    return (
        _work(m.work)
        or _sequence(m.sequence)
        or _index(m.prev_log_index, m.commit_index)
        or _terms_of_entries(m.term, m.prev_log_term, [entry.term for entry in m.entries] if m.entries else [])
    )


def _terms_of_entries(term: Term, previous: Term, terms: list[Term]) -> str:
    """Describe what is wrong with the terms of entries, which never fall, and end with the leader's term at most."""
    last = terms[-1] if terms else previous
    if terms and (terms[0] != last or terms.count(last) < len(terms)) and terms != sorted(terms):
        return "entries whose terms fall"
    if previous > last:
        return f"an entry of term {last} after one of term {previous}"
    return f"an entry of term {last} in term {term}" if last > term else ""


def _append_entries_answer(m: AppendEntriesResponse) -> str:
    if m.promise > PROMISE_MAX:
        return f"a promise for {m.promise:.0f} s"
    if m.hint_term > m.term:
        return f"an entry of term {m.hint_term} in term {m.term}"
    return _sequence(m.sequence) or _index(m.matched, m.hint_index)


def _part(m: InstallSnapshotRequest) -> str:
    if m.index_term > m.term:
        return f"a snapshot of term {m.index_term} in term {m.term}"
    if m.size > SIZE_MAX:
        return f"a snapshot of {m.size} bytes"
    if m.offset + len(m.data) > m.size:
        return f"bytes up to {m.offset + len(m.data)} of a snapshot of {m.size}"
    return f"checksum {m.checksum}" if m.checksum > _CHECKSUM_MAX else _index(m.index)


def _part_answer(m: InstallSnapshotResponse) -> str:
    return f"{m.offset} bytes of a snapshot" if m.offset > SIZE_MAX else _index(m.index)


def _log_end(m: PreVoteRequest | VoteRequest) -> str:
    if m.last_log_term >= m.term:
        return f"an entry of term {m.last_log_term} before an election in term {m.term}"
    return _index(m.last_log_index)


def _vote(m: VoteResponse) -> str:
    return _work(m.work) or (f"leader work of term {m.work_term} in term {m.term}" if m.work_term > m.term else "")


def _offer(m: TimeoutNow) -> str:
    return _work(m.work)


def _view(m: FormationView) -> str:
    return f"{m.expect} expected nodes" if m.expect > MEMBERS_MAX else ""


def _formation(m: FormationRequest) -> str:
    return "" if list(m.members) == sorted(set(m.members)) else "members that are not in ascending order"


_OF_LEADERS: Final = (AppendEntriesRequest, InstallSnapshotRequest)
_BY_KIND: Final[dict[type, Callable[[Any], str]]] = {
    AppendEntriesRequest: _append_entries,
    AppendEntriesResponse: _append_entries_answer,
    InstallSnapshotRequest: _part,
    InstallSnapshotResponse: _part_answer,
    PreVoteRequest: _log_end,
    VoteRequest: _log_end,
    VoteResponse: _vote,
    TimeoutNow: _offer,
    FormationView: _view,
    FormationRequest: _formation,
}


def why_not_meant(message: object) -> str:
    """Describe a number in a message that no member can mean, whatever the receiver knows.

    Parameters
    ----------
    message : ConsensusMessage
        The message.

    Returns
    -------
    str
        The number, in words; empty when there is none.
    """
    check = _BY_KIND.get(type(message))
    return check(message) if check is not None else ""


def why_not_meant_here(s: State, sender: NodeId, message: object) -> str:
    """Describe what in a message is impossible by what this member knows, whatever the sender does.

    A term has one leader (section 5.2). In one term a leader's log never gets shorter (5.3), so no follower has more.

    Parameters
    ----------
    s : State
        The member's state.
    sender : int
        The sender of the message.
    message : ConsensusMessage
        The message.

    Returns
    -------
    str
        What is impossible, in words; empty when nothing is.
    """
    if isinstance(message, _OF_LEADERS):
        if message.term == s.term and s.role is Role.FOLLOWER and s.leader not in {0, sender}:
            return f"a second leader in term {s.term}"
    elif isinstance(message, AppendEntriesResponse):
        end = s.log.last_index
        if message.matched > end and message.term == s.term and s.role is Role.LEADER:
            return f"log index {message.matched}, and the log ends with {end}"
    return ""


def is_far(s: State, term: Term) -> bool:
    """Check whether a term is too far above this member's own to be adopted from one message.

    Parameters
    ----------
    s : State
        The member's state.
    term : int
        The term.

    Returns
    -------
    bool
        Whether it is.
    """
    return term > s.term + TERM_STEP
