"""Admission of messages: none that nobody can mean, none of a term that is too far, none too new for this member."""

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
_UNKNOWN: Final = EntryKind.UNKNOWN  # each look into an enum costs something, and there are many entries


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
    """Check whether every number of a message is one that its sender can mean; else it is dropped, with an event.

    Parameters
    ----------
    s : State or None
        The state of a member of the sender's cluster; None for a node that is none.
    sender : int
        The node it comes from.
    message : ConsensusMessage
        The message.
    peers : collection of int
        The nodes that can be reached, who are asked about a term that is far.
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
    """Check whether a message's term is too far above this node's own to be taken over; look who else knows it."""
    if isinstance(message, _WITHOUT_TERM):
        return False
    term = message.term - 1 if type(message) is PreVoteRequest else message.term
    if not numbers.is_far(s, term):
        if type(message) is PreVoteResponse:
            far_terms.hear_term(s, sender, term, now)
        return False
    before = s.term
    far_terms.hear_far_term(s, sender, term, peers, now)
    if s.term == before and not far_terms.is_usual(s, now):
        what = f"term {term}, and this node knows term {s.term}"
        s.events.append(NotMeant(sender, type(message).__name__, what))
    return True


def understands(
    s: State, sender: NodeId, message: AppendEntriesRequest | InstallSnapshotRequest, versions: Versions
) -> bool:
    """Check whether a message has nothing in it that is malformed, or too new for this node.

    An event says so when that is the word of the leader that this node follows: members have been asked whether they
    speak the version, so this node has been put back to older software meanwhile, and must stop. The word of others
    is dropped, lest one message stop every node; a leader's heartbeats have nothing in them that can be too new.
    """
    needs = _needs(message)
    if needs is None:
        return False
    too_old = needs.unknown or needs.version > versions.highest
    if too_old and message.term == s.term and sender == s.leader:
        s.events.append(TooOld(needs.version if needs.version > versions.highest else 0))
    return not too_old


def _needs(message: AppendEntriesRequest | InstallSnapshotRequest) -> _Needs | None:
    """Return which version a node must speak to take over a message, and whether an entry in it is unknown here.

    None for a message with a configuration that is malformed.
    """
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
        return None if configuration is None else _Needs(configuration.version)
    return _Needs(version, unknown)
