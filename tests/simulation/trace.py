"""What happened in a life, one line for each message and each turn."""

from collections import deque
from collections.abc import Iterator
from typing import Any

import msgspec

from trioraft.messages import format_id

# A turn is (time, text); a message is (time, sent at, sender, receiver, message, why it was dropped or "").
_Entry = tuple[Any, ...]


class Trace:
    """The newest entries, or all of them."""

    def __init__(self, limit: int | None) -> None:
        self.entries: deque[_Entry] = deque(maxlen=limit)

    def message(self, now: float, sent: float, sender: int, receiver: int, message: object, dropped: str) -> None:
        """Note that a message arrived, or why it did not."""
        self.entries.append((now, sent, sender, receiver, message, dropped))

    def turn(self, now: float, text: str) -> None:
        """Note anything else."""
        self.entries.append((now, text))

    def lines(self, messages: int | None = None) -> Iterator[str]:
        """Write the entries; with a number, those from that many messages before the end."""
        entries = list(self.entries)
        if messages is not None:
            marks = [place for place, entry in enumerate(entries) if len(entry) > 2]
            entries = entries[marks[-messages] :] if len(marks) > messages else entries
        for entry in entries:
            if len(entry) == 2:
                yield f"{entry[0]:12.6f}  {entry[1]}"
            else:
                now, sent, sender, receiver, message, dropped = entry
                fate = f"dropped: {dropped}" if dropped else f"sent at {sent:.6f}"
                yield f"{now:12.6f}  {name(sender)} → {name(receiver)}  {describe(message)}  ({fate})"


def name(node: int) -> str:
    """Write a node's id; those of the simulator are small."""
    return f"n{node}"


def describe(message: object) -> str:
    """Write a message, or whatever has fields, short."""
    if not isinstance(message, msgspec.Struct):
        return str(message)
    fields = (f"{field}={_short(field, getattr(message, field))}" for field in message.__struct_fields__)
    return f"{type(message).__name__}({', '.join(fields)})"


def _short(field: str, value: object) -> str:
    if field in {"formation", "cluster", "promised"} and isinstance(value, int) and not isinstance(value, bool):
        return format_id(value)[:6] if value else "0"
    if isinstance(value, bytes):
        return f"{value[:24]!r}" if len(value) <= 24 else f"{value[:24]!r}…{len(value)} bytes"
    if isinstance(value, tuple):
        return f"({', '.join(_short('', one) for one in value)})"
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, msgspec.Struct):
        return describe(value)
    return str(value)
