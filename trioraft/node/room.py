"""How many requests are under way at a node, of each client, each address and in all, and how many may be.

What waits for long must not take the room of what does not, and none of it that of keep-alives: a client with too
many watches can still put, and keeps its locks. So there are three kinds of room. Many clients may be behind one
address, which a proxy or a translation of addresses gives all of them, so an address may have half of the room; the
other half is for the others.
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
        What the requests are called.
    most : int
        How many may be under way in all.
    """

    KEEP_ALIVE = "keep-alives and questions about leases", 10_000
    WAIT = "watches", 10_000
    OTHER = "commands and queries", 20_000

    def __init__(self, label: str, most: int) -> None:
        self.label = label
        self.most = most

    @classmethod
    def of(cls, command: Command) -> "Kind":
        """Tell which kind of room a request takes.

        Parameters
        ----------
        command : Command
            What it asks for.

        Returns
        -------
        Kind
            The kind.
        """
        match command:
            case KeepSession() | Ask(leader=True):  # the program answers these at once, with what a leader knows
                return cls.KEEP_ALIVE
            case Ask():
                return cls.WAIT
        return cls.OTHER


class Room:
    """Counts what is under way."""

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
        """Count no more a request that was under way.

        Parameters
        ----------
        who : Asker
            The client, as it was when the request began.
        kind : Kind
            The kind of room that it took.
        """
        self._tallies[kind].remove(who)

    def why_none(self, who: Asker, kind: Kind) -> Limit:
        """Tell why there is no room for a request that was counted.

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
