"""A turn: what a core wants done, in its order; the only way out of it."""

from collections.abc import Iterable

from msgspec import Struct

from trioraft.consensus.events import Event
from trioraft.consensus.ledger import Write
from trioraft.messages import Entry, Message


class Turn(Struct):
    """What is to be done after a step, in this order.

    Attributes
    ----------
    events : list of Event
        1. Act on these: roles, leader work, members, parts of snapshots, reads.
    send : list of tuple of tuple of int and Message
        2. Send these, each to all its receivers. What depends on the disk is held back until that has answered.
    write : Write or None
        3. Write this, and call :meth:`Core.persisted` with its number when it is on disk. Until then no turn has
        another one.
    apply : list of tuple of int and Entry
        4. Apply these committed entries to the state machine, in order, each after its index; then answer whoever
        waits for them.
    wake_at : float
        5. Call :meth:`Core.handle_timer` at this time, in seconds, unless something comes in before; infinity when
        there is nothing to wait for.
    """

    events: list[Event]
    send: list[tuple[tuple[int, ...], Message]]
    write: Write | None
    apply: list[tuple[int, Entry]]
    wake_at: float


def together(messages: Iterable[tuple[int, Message]]) -> list[tuple[tuple[int, ...], Message]]:
    """Put the receivers of one message together, where they follow each other.

    Parameters
    ----------
    messages : iterable of tuple of int and Message
        Receiver and message, in the order they were sent.

    Returns
    -------
    list of tuple of tuple of int and Message
        All receivers of a message, and the message; in the same order.
    """
    grouped: list[tuple[tuple[int, ...], Message]] = []
    for to, message in messages:
        if grouped and grouped[-1][1] is message:
            grouped[-1] = ((*grouped[-1][0], to), message)
        else:
            grouped.append(((to,), message))
    return grouped
