"""``python -m tests.cluster.counting node``: a node of a program that counts, as the example of README.md does.

With ``OLDER_RELEASE`` in its environment it speaks version 2 of the protocol, and names no kind of state.
"""

import os
from collections.abc import Iterable, Iterator

import trio

from tests.cluster.older import forget
from trioraft import NodeSettings, open_node


class Counter:
    """Counts, and tells everything that it was ever given."""

    def __init__(self) -> None:
        self.applied: list[bytes] = []

    def apply(self, command: bytes) -> bytes:
        """Count."""
        self.applied.append(command)
        return b"%d" % len(self.applied)

    def query(self, question: bytes) -> bytes:
        """Return all commands."""
        return b" ".join(self.applied)

    def snapshot(self) -> Iterator[bytes]:
        """Return the state."""
        yield b" ".join(self.applied)

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Take over a state."""
        self.applied = b"".join(chunks).split()


async def main() -> None:
    """Run the node."""
    async with open_node(NodeSettings.from_environ(), Counter()):
        await trio.sleep_forever()


if __name__ == "__main__":
    if os.environ.get("OLDER_RELEASE"):
        forget(2)
    trio.run(main)
