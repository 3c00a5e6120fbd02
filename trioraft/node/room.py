"""How many requests are under way at a node, of each client and in all, and how many may be.

What waits for long must not take the room of what does not, and none of it that of keep-alives: a client with too
many watches can still put, and keeps its locks. So there are three kinds of room.
"""

import enum
from collections import Counter
from typing import Final

from trioraft.messages import Ask, Command, KeepSession

OF_ONE_CLIENT_MAX: Final = 2048


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
        self._of_client: Counter[tuple[bytes, Kind]] = Counter()
        self._of_all: Counter[Kind] = Counter()

    def enter(self, process: bytes, kind: Kind) -> None:
        """Count a request that begins.

        Parameters
        ----------
        process : bytes
            The client.
        kind : Kind
            The kind of room that it takes.
        """
        self._of_client[process, kind] += 1
        self._of_all[kind] += 1

    def leave(self, process: bytes, kind: Kind) -> None:
        """Count no more a request that was under way.

        Parameters
        ----------
        process : bytes
            The client.
        kind : Kind
            The kind of room that it took.
        """
        self._of_all[kind] -= 1
        self._of_client[process, kind] -= 1
        if not self._of_client[process, kind]:
            del self._of_client[process, kind]

    def why_none(self, process: bytes, kind: Kind) -> tuple[str, bool]:
        """Tell why there is no room for a request that was counted.

        Parameters
        ----------
        process : bytes
            The client.
        kind : Kind
            The kind of room that it takes.

        Returns
        -------
        tuple of str and bool
            Which limit is passed, empty where none is; and whether it is that of the client.
        """
        if self._of_client[process, kind] > OF_ONE_CLIENT_MAX:
            limit = f"this client has {OF_ONE_CLIENT_MAX} {kind.label} under way at this node"
            return f"{limit}, the most that one client may have: end some, or use more clients", True
        if self._of_all[kind] > kind.most:
            return f"this node has {kind.most} {kind.label} under way, the most that it serves; try again", False
        return "", False
