"""What autopilots did, also those whose node leads no more: a leader tells only its own last deeds."""

import math
import re
from collections.abc import Collection
from itertools import chain
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from trioraft.messages import NodeStatus

_KEPT: Final = 50
_NAMES_KEPT: Final = 500
# What an autopilot calls a node: by its name and, in brackets, its id; or by that alone where it knew no name.
_NAMED: Final = re.compile(r"\S+ \(([0-9a-f]{16})\)|\b([0-9a-f]{16})\b")
_NEAR: Final = 1.0  # seconds; two accounts of one deed differ by their delay


class SeenNote(Struct, frozen=True):
    """A note of an autopilot.

    Attributes
    ----------
    kind : str
        ``changed`` or ``declined``.
    text : str
        What, whom and why.
    leader : str
        The id of the node whose autopilot it was.
    at : float
        When it was done, or since when it is declined, in seconds since 1970 on the monitor's clock.
    """

    kind: str
    text: str
    leader: str
    at: float


class Story:
    """Puts together what leaders tell of their autopilots.

    Attributes
    ----------
    names : dict of str to str
        What the nodes are called, also those that are gone, by their ids.
    """

    def __init__(self) -> None:
        self._done: list[SeenNote] = []
        self._declined: dict[str, tuple[SeenNote, ...]] = {}
        self.names: dict[str, str] = {}

    def record(self, status: NodeStatus, heard: float) -> None:
        """Take in a node's account.

        Parameters
        ----------
        status : NodeStatus
            What the node said.
        heard : float
            When it said so, in seconds since 1970 on the monitor's clock.
        """
        if status.name:
            self.names.pop(status.id, None)
            self.names[status.id] = status.name
            if len(self.names) > _NAMES_KEPT:
                del self.names[next(iter(self.names))]
        declined = []
        for note in status.autopilot:
            ago = note.seconds_ago
            if not (math.isfinite(ago) and 0 <= ago <= heard):
                continue
            seen = SeenNote(note.kind, note.text, status.id, heard - ago)
            if note.kind == "changed":
                self._note(seen)
            else:
                declined.append(self._steady(seen))
        self._declined[status.id] = tuple(declined)

    def _steady(self, seen: SeenNote) -> SeenNote:
        """Give what is known already of a thing that is still declined: its time must not tremble."""
        return next((old for old in self._declined.get(seen.leader, ()) if _is_same(old, seen)), seen)

    def _note(self, seen: SeenNote) -> None:
        if not any(_is_same(known, seen) for known in self._done):
            self._done = sorted([*self._done, seen], key=lambda note: note.at, reverse=True)[:_KEPT]

    def told(self, leaders: Collection[str]) -> tuple[SeenNote, ...]:
        """List the notes.

        Parameters
        ----------
        leaders : collection of str
            The ids of the nodes that lead, each its own cluster.

        Returns
        -------
        tuple of SeenNote
            What the leaders decline now, then what was done, newest first; nodes by the names that they have now.
        """
        self._declined = {node: notes for node, notes in self._declined.items() if node in leaders}
        notes = (*chain.from_iterable(self._declined.values()), *self._done)
        return tuple(replace(note, text=_NAMED.sub(self._name_anew, note.text)) for note in notes)

    def _name_anew(self, named: re.Match[str]) -> str:
        node = named[1] or named[2]
        name = self.names.get(node)
        return f"{name} ({node})" if name else named[0]


def _is_same(known: SeenNote, seen: SeenNote) -> bool:
    return (known.leader, known.text) == (seen.leader, seen.text) and abs(known.at - seen.at) < _NEAR
