"""Admission of messages: which of them a member takes in.

A member drops a message with a number that no sender can mean, a message of a term that is far above its own, and a
message with content that is too new for its software.
"""

from collections.abc import Collection
from typing import Final, NamedTuple

from trioraft.consensus import far_terms, numbers
from trioraft.consensus.configuration import decode_configuration
from trioraft.consensus.events import Event, NotMeant, TooOld
from trioraft.consensus.state import State
from trioraft.messages import (
    AppendEntriesRequest,
    ConsensusMessage,
    EntryKind,
    FormationRequest,
    FormationResponse,
    FormationView,
    InstallSnapshotRequest,
    Instant,
    NodeId,
    PreVoteRequest,
    PreVoteResponse,
)
from trioraft.versions import Versions

_WITHOUT_TERM: Final = (FormationView, FormationRequest, FormationResponse)
_CONFIGURATION: Final = EntryKind.CONFIGURATION
_UNKNOWN: Final = EntryKind.UNKNOWN  # a look-up in an enum costs time, and there are many entries


class _Needs(NamedTuple):
    """What a node must know to take over a message.

    Attributes
    ----------
    version : int
        The version of the protocol that it must speak; 0 where the message says nothing of that.
    unknown : bool
        Whether an entry in the message is of a kind that this node does not know.
    """

    version: int
    unknown: bool = False


def can_be_meant(
    s: State | None,
    sender: NodeId,
    message: ConsensusMessage,
    peers: Collection[NodeId],
    events: list[Event],
    now: Instant,
) -> bool:
    """Check whether the sender can mean every number of a message; report a message that must be dropped.

    Parameters
    ----------
    s : State or None
        The state, where this node is a member of the sender's cluster; None where it is not.
    sender : int
        The node that sent it.
    message : ConsensusMessage
        The message.
    peers : collection of int
        The nodes that can be reached; they are asked for their terms when a far term is heard of.
    events : list of Event
        Takes :class:`NotMeant`.
    now : float
        The time in seconds.

    Returns
    -------
    bool
        Whether the message may be taken in.
    """
    what = numbers.why_not_meant(message)
    if not what and s is not None:
        what = numbers.why_not_meant_here(s, sender, message)
    if what:
        events.append(NotMeant(sender, type(message).__name__, what))
        return False
    return s is None or not _is_of_far_term(s, sender, message, peers, now)


def _is_of_far_term(
    s: State, sender: NodeId, message: ConsensusMessage, peers: Collection[NodeId], now: Instant
) -> bool:
    """Check whether a message's term is too far above this node's own; if it is, ask other nodes for theirs."""
    if isinstance(message, _WITHOUT_TERM):
        return False
    term = message.term - 1 if type(message) is PreVoteRequest else message.term
    if not numbers.is_far(s, term):
        if type(message) is PreVoteResponse:
            far_terms.hear_term(s, sender, term, now)
        return False
    before = s.term
    answers = type(message) is PreVoteResponse and far_terms.answers_search(s, message)
    far_terms.hear_far_term(s, sender, term, peers, now, answers=answers)
    if s.term == before and not far_terms.is_usual(s, now):
        what = f"term {term}, and this node knows term {s.term}"
        s.events.append(NotMeant(sender, type(message).__name__, what))
    return True


def understands(
    s: State, sender: NodeId, message: AppendEntriesRequest | InstallSnapshotRequest, versions: Versions
) -> bool:
    """Check whether this node understands all of a message: nothing in it is malformed or too new.

    If the leader that this node follows sent something too new, an event reports it. The leader raised the version
    only after every member had shown to speak it; so this node has gone back to older software since, and must stop.
    A message that is too new and comes from any other node is only dropped, lest one message stop every node. A
    heartbeat has no entries, so nothing in it can be too new.
    """
    needs = _needs(s, message)
    if needs is None:
        return False
    too_old = needs.unknown or needs.version > versions.highest
    if too_old and message.term == s.term and sender == s.leader:
        s.events.append(TooOld(needs.version if needs.version > versions.highest else 0))
    return not too_old


def _needs(s: State, message: AppendEntriesRequest | InstallSnapshotRequest) -> _Needs | None:
    """Return what a node must know to take over a message; None if a configuration in it is malformed."""
    version, unknown = 0, False
    if isinstance(message, AppendEntriesRequest):
        for entry in message.entries:
            if entry.kind is _CONFIGURATION:
                configuration = decode_configuration(entry.data)
                if configuration is None:
                    return None
                version = max(version, configuration.version)
            elif entry.kind is _UNKNOWN:
                unknown = True
    elif message.configuration:
        configuration = decode_configuration(message.configuration)
        if configuration is None:
            return None
        # A node that was removed needs to learn no more than that.
        version = 0 if s.id in configuration.departed else configuration.version
    return _Needs(version, unknown)
