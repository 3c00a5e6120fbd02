"""A node of trioraft with a replicated dictionary, and load inside its process.

`INTERFACES` has what users can propose with, each one small function that keeps so many commands outstanding. The
best that the measured build has is taken where none is named.
"""

import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, Final

import cbor2
import trio

from tests.benchmarks.workers.lines import VALUE, WARM_UP, Answer, keys, latencies, rate, serve_on_trio, shares, tell
from tests.benchmarks.workers.turns import Turns
from trioraft import Node, NodeSettings, ProposalError, open_node

_CHUNK: Final = 65_536
_BATCHES: Final = 4  # under way at a time: one is applied while others are on their way
_SLICE: Final = 100  # submitted in one turn of trio's loop, as a program does that has other work
_PAUSE: Final = 0.001  # seconds, after a command that was not carried out


class Dictionary:
    """The state machine."""

    def __init__(self) -> None:
        self.applied = 0
        self._content: dict[str, str] = {}

    def apply(self, command: bytes) -> bytes:
        """Set the value of a key."""
        key, value = cbor2.loads(command)
        self._content[key] = value
        self.applied += 1
        return b""

    def snapshot(self) -> Iterator[bytes]:
        """Return the state."""
        data = cbor2.dumps((self.applied, self._content))
        return (data[start : start + _CHUNK] for start in range(0, len(data), _CHUNK))

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Take over a state."""
        self.applied, self._content = cbor2.loads(b"".join(chunks))


class ClosedLoop:
    """What an interface is to propose, and what has become of it."""

    def __init__(self) -> None:
        self.done = self.errors = 0
        self._keys = keys()

    def next(self) -> bytes:
        """Return the next command."""
        return cbor2.dumps((next(self._keys), VALUE))


async def by_propose(node: Node, loop: ClosedLoop, outstanding: int) -> None:
    """Await `Node.propose` in a task for each command that is outstanding."""

    async def work() -> None:
        while True:
            try:
                await node.propose(loop.next())
                loop.done += 1
            except ProposalError:
                loop.errors += 1
                await trio.sleep(_PAUSE)

    async with trio.open_nursery() as nursery:
        for _ in range(outstanding):
            nursery.start_soon(work)


async def by_propose_many(node: Node, loop: ClosedLoop, outstanding: int) -> None:
    """Await `Node.propose_many` in a few tasks, each with its part of the commands that are outstanding."""

    async def work(number: int) -> None:
        while True:
            try:
                loop.done += len(await node.propose_many([loop.next() for _ in range(number)]))
            except ProposalError:
                loop.errors += number
                await trio.sleep(_PAUSE)

    async with trio.open_nursery() as nursery:
        for number in shares(outstanding, _BATCHES):
            nursery.start_soon(work, number)


async def by_submit(node: Node, loop: ClosedLoop, outstanding: int) -> None:
    """Call `Node.submit`, and submit the next command when one has its result: without tasks."""

    def done(outcome: bytes | ProposalError) -> None:
        if isinstance(outcome, bytes):
            loop.done += 1
        else:
            loop.errors += 1
        if going_on:
            node.submit(loop.next(), done)

    going_on = True
    try:
        for number in range(outstanding):
            node.submit(loop.next(), done)
            if number % _SLICE == _SLICE - 1:
                await trio.lowlevel.checkpoint()
        await trio.sleep_forever()
    finally:
        going_on = False


Interface = Callable[[Node, ClosedLoop, int], Awaitable[None]]
# By the method of Node that it uses, the best last.
INTERFACES: Final[dict[str, Interface]] = {
    "propose": by_propose,
    "propose_many": by_propose_many,
    "submit": by_submit,
}


def _best() -> str:
    return [name for name in INTERFACES if hasattr(Node, name)][-1]


async def _latency(node: Node, seconds: float) -> Answer:
    took: list[int] = []
    loop = ClosedLoop()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        command = loop.next()
        began = time.perf_counter_ns()
        try:
            await node.propose(command)
            took.append(time.perf_counter_ns() - began)
        except ProposalError:
            loop.errors += 1
    return latencies(took, loop.errors)


async def _load(node: Node, outstanding: int, seconds: float, interface: str = "") -> Answer:
    loop, name = ClosedLoop(), interface or _best()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(INTERFACES[name], node, loop, outstanding)
        await trio.sleep(WARM_UP)
        began, before = time.monotonic(), loop.done
        await trio.sleep(seconds)
        ended, after = time.monotonic(), loop.done
        nursery.cancel_scope.cancel()
    return {**rate(loop.done, after - before, ended - began, loop.errors), "interface": name}


async def _status(node: Node, machine: Dictionary) -> Answer:
    told = node.status()
    return {
        "leads": bool(node.leads_in),
        "term": told.term,
        "applied": machine.applied,
        "known": sum(member.kind == "voter" for member in told.members),
    }


async def main(configuration: dict[str, Any]) -> None:
    """Run a node."""
    machine = Dictionary()
    turns = Turns()
    async with open_node(NodeSettings.of(**configuration["settings"]), machine) as node:
        tell({"started": True})

        async def latency(seconds: float) -> Answer:
            return await _latency(node, seconds)

        async def load(*, measure_turns: bool = False, **asked: Any) -> Answer:
            if not measure_turns:
                return await _load(node, **asked)
            turns.forget()
            trio.lowlevel.add_instrument(turns)
            told = await _load(node, **asked)
            trio.lowlevel.remove_instrument(turns)
            return {**told, **turns.tell()}

        async def status() -> Answer:
            return await _status(node, machine)

        await serve_on_trio({"latency": latency, "load": load, "status": status})


if __name__ == "__main__":
    trio.run(main, json.loads(sys.argv[1]))
