"""A turn: what a core wants done, in the order in which it must be done. Nothing else leaves a core."""

from collections.abc import Iterable
from typing import NamedTuple

from msgspec import Struct

from trioraft.consensus.events import Event
from trioraft.consensus.ledger import Outgoing, Write
from trioraft.consensus.log import IndexedEntry
from trioraft.messages import Instant, Message, NodeId


class Dispatch(NamedTuple):
    """One message, which is encoded once, and all nodes that it goes to."""

    receivers: tuple[NodeId, ...]
    message: Message


class Turn(Struct):
    """The duties of whoever drives a core, to be done in this order.

    Attributes
    ----------
    events : list of Event
        1. Act on these: roles, leader work, members, parts of snapshots, reads.
    send : list of Dispatch
        2. Send these, each to all its receivers. A message that depends on the disk is held back until it is there.
    write : Write or None
        3. Write this, and call :meth:`Core.persisted` with its number when it is on disk. No turn has another write
        before that.
    apply : list of tuple of int and Entry
        4. Apply these committed entries, each with its index, to the state machine, in order; then answer the
        clients that wait for them.
    wake_at : float
        5. Call :meth:`Core.handle_timer` at this time, in seconds, unless something comes in before; infinity when
        nothing is due.
    """

    events: list[Event]
    send: list[Dispatch]
    write: Write | None
    apply: list[IndexedEntry]
    wake_at: Instant


def together(messages: Iterable[Outgoing]) -> list[Dispatch]:
    """Group messages: the same message to several nodes in a row becomes one, with all its receivers.

    Parameters
    ----------
    messages : iterable of Outgoing
        In the order they were sent.

    Returns
    -------
    list of Dispatch
        In the same order.
    """
    grouped: list[Dispatch] = []
    receivers: list[NodeId] = []
    latest: Message | None = None
    for to, message in messages:
        if message is not latest:
            if latest is not None:
                grouped.append(Dispatch(tuple(receivers), latest))
            receivers, latest = [], message
        receivers.append(to)
    if latest is not None:
        grouped.append(Dispatch(tuple(receivers), latest))
    return grouped
