"""The notes of all autopilots, because a leader reports only the last notes of its own."""

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
# A node in the text of an autopilot: its name with its id in brackets, or the id alone where the name was unknown.
_NAMED: Final = re.compile(r"\S+ \(([0-9a-f]{16})\)|\b([0-9a-f]{16})\b")
_NEAR: Final = 1.0  # seconds; two reports of one change differ by their delay


class SeenNote(Struct, frozen=True):
    """A note of an autopilot.

    Attributes
    ----------
    kind : str
        ``changed`` or ``declined``.
    text : str
        The change, the node and the reason.
    leader : str
        The id of the node of the autopilot.
    at : float
        When the change was made, or since when it is declined, in seconds since 1970 on the monitor's clock.
    """

    kind: str
    text: str
    leader: str
    at: float


class Story:
    """The notes of the autopilots, from the reports of all leaders.

    Attributes
    ----------
    names : dict of str to str
        The names of the nodes by their ids, including nodes that are gone.
    """

    def __init__(self) -> None:
        self._done: list[SeenNote] = []
        self._declined: dict[str, tuple[SeenNote, ...]] = {}
        self.names: dict[str, str] = {}

    def record(self, status: NodeStatus, heard: float) -> None:
        """Record the notes in a node's status.

        Parameters
        ----------
        status : NodeStatus
            The status of the node.
        heard : float
            When the status came, in seconds since 1970 on the monitor's clock.
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
        """Return the known note of a change that is still declined, so that its time does not tremble."""
        return next((old for old in self._declined.get(seen.leader, ()) if _is_same(old, seen)), seen)

    def _note(self, seen: SeenNote) -> None:
        if not any(_is_same(known, seen) for known in self._done):
            self._done = sorted([*self._done, seen], key=lambda note: note.at, reverse=True)[:_KEPT]

    def told(self, leaders: Collection[str]) -> tuple[SeenNote, ...]:
        """List the notes.

        Parameters
        ----------
        leaders : collection of str
            The ids of the leaders, each of its own cluster.

        Returns
        -------
        tuple of SeenNote
            The changes that the leaders decline now, then those that were made, newest first; with the present names
            of the nodes.
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
