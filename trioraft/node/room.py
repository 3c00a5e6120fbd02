"""The room for requests under way at a node: how many there are, and may be, of a client, an address, and in all.

Requests that wait for long must not take the room of those that do not, and neither may take the room of keep-alives:
a client with too many watches can still put, and keeps its locks. So there are three kinds of room. Many clients may
be behind one address, when a proxy or a translation of addresses gives it to all of them. So one address may take
half of the room; the other half is for all others.
"""

import enum
from typing import Final

from trioraft.messages import Ask, Command, KeepSession
from trioraft.tally import Asker, Limit, Tally

OF_ONE_CLIENT_MAX: Final = 2048
# The part of all room that clients at one address may have.
SITE_SHARE: Final = 2


class Kind(enum.Enum):
    """A kind of room, and how many requests it has room for at one node.

    Attributes
    ----------
    label : str
        The name of the requests, in the plural.
    most : int
        The most that may be under way in all.
    """

    KEEP_ALIVE = "keep-alives and questions about leases", 10_000
    WAIT = "watches", 10_000
    OTHER = "commands and queries", 20_000

    def __init__(self, label: str, most: int) -> None:
        self.label = label
        self.most = most

    @classmethod
    def of(cls, command: Command) -> "Kind":
        """Return the kind of room that a request takes.

        Parameters
        ----------
        command : Command
            The command of the request.

        Returns
        -------
        Kind
            The kind.
        """
        match command:
            case KeepSession() | Ask(leader=True):  # the program on the leader answers these at once
                return cls.KEEP_ALIVE
            case Ask():
                return cls.WAIT
        return cls.OTHER


class Room:
    """Counts the requests under way."""

    def __init__(self) -> None:
        self._tallies = {kind: Tally() for kind in Kind}

    def enter(self, who: Asker, kind: Kind) -> None:
        """Count a request that begins.

        Parameters
        ----------
        who : Asker
            The client.
        kind : Kind
            The kind of room that it takes.
        """
        self._tallies[kind].add(who)

    def leave(self, who: Asker, kind: Kind) -> None:
        """Stop counting a request that was under way.

        Parameters
        ----------
        who : Asker
            The client, as it was when the request began.
        kind : Kind
            The kind of room that it took.
        """
        self._tallies[kind].remove(who)

    def why_none(self, who: Asker, kind: Kind) -> Limit:
        """Find the limit for which there is no room for a request that was counted.

        Parameters
        ----------
        who : Asker
            The client.
        kind : Kind
            The kind of room that it takes.

        Returns
        -------
        Limit
            The limit that is passed, or :data:`~trioraft.tally.NO_LIMIT`.
        """
        tally = self._tallies[kind]
        what = f"{kind.label} under way at this node"
        limit = tally.why_none(who, what, OF_ONE_CLIENT_MAX, kind.most // SITE_SHARE)
        if not limit.text and tally.total > kind.most:
            text = f"this node has {kind.most} {kind.label} under way, the most that it serves; try again"
            return Limit(text, is_own=False)
        return limit
