"""What the least costs that a commit can do: one datagram to each of two processes, and the first answer.

    python -m tests.benchmarks.floor

There is no Raft in it, and the datagrams are a hundred bytes that nobody reads. The same is done in three ways: with
plain sockets and ``epoll``, with trio's low level (a task that waits until a socket is readable, as trioraft does),
and with that and a second task that waits for the commit, as the caller of `Node.propose` does. So it says how much
of a latency is the kernel's, how much is trio's, and how much is left for what a Raft is.
"""

import argparse
import multiprocessing
import select
import socket
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from statistics import median
from typing import Final

import trio

from tests.benchmarks.workers.lines import percentile

_DATA: Final = bytes(100)
_LOOPBACK: Final = ("127.0.0.1", 0)


def _socket() -> socket.socket:
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.setblocking(False)
    udp.bind(_LOOPBACK)
    return udp


def _receive(udp: socket.socket) -> tuple[bytes, tuple[str, int]] | None:
    try:
        return udp.recvfrom(2048)
    except BlockingIOError:
        return None


def _echo_plainly(told: Connection) -> None:
    udp, poll = _socket(), select.epoll()
    poll.register(udp, select.EPOLLIN)
    told.send(udp.getsockname())
    while True:
        poll.poll()
        while (found := _receive(udp)) is not None:
            udp.sendto(*found)


def _echo_on_trio(told: Connection) -> None:
    async def echo() -> None:
        udp = _socket()
        told.send(udp.getsockname())
        while True:
            await trio.lowlevel.wait_readable(udp)
            while (found := _receive(udp)) is not None:
                udp.sendto(*found)

    trio.run(echo)


class _Rounds:
    """Rounds of one datagram to each, and the time until the first answer to each round."""

    def __init__(self, others: list[tuple[str, int]], seconds: float) -> None:
        self.udp = _socket()
        self.took: list[int] = []
        self._others = others
        self._until = time.monotonic() + seconds
        self._began = self._missing = 0

    def begin(self) -> bool:
        """Begin a round, unless the time is over."""
        if time.monotonic() >= self._until:
            return False
        self._began, self._missing = time.perf_counter_ns(), len(self._others)
        for other in self._others:
            self.udp.sendto(_DATA, other)
        return True

    def is_over(self) -> bool:
        """Take in what has come; tell whether that is all of this round."""
        while _receive(self.udp) is not None:
            if self._missing == len(self._others):
                self.took.append(time.perf_counter_ns() - self._began)
            self._missing -= 1
        return not self._missing


def _ask_plainly(others: list[tuple[str, int]], seconds: float) -> list[int]:
    rounds, poll = _Rounds(others, seconds), select.epoll()
    poll.register(rounds.udp, select.EPOLLIN)
    while rounds.begin():
        while not rounds.is_over():
            poll.poll()
    return rounds.took


async def _ask_in_one_task(others: list[tuple[str, int]], seconds: float) -> list[int]:
    rounds = _Rounds(others, seconds)
    while rounds.begin():
        while not rounds.is_over():
            await trio.lowlevel.wait_readable(rounds.udp)
    return rounds.took


async def _ask_and_wait(others: list[tuple[str, int]], seconds: float) -> list[int]:
    """Have one task receive, and another one send and wait until it is told."""
    udp = _socket()
    waiting: list[trio.lowlevel.Task] = []
    answers = 0

    async def receive() -> None:
        nonlocal answers
        while True:
            await trio.lowlevel.wait_readable(udp)
            while _receive(udp) is not None:
                answers += 1
                if answers % len(others) == 1:
                    trio.lowlevel.reschedule(waiting.pop())

    took, until = [], time.monotonic() + seconds
    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        while time.monotonic() < until:
            began = time.perf_counter_ns()
            for other in others:
                udp.sendto(_DATA, other)
            waiting.append(trio.lowlevel.current_task())
            await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
            took.append(time.perf_counter_ns() - began)
            while answers % len(others):
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    return took


_Ask = Callable[[list[tuple[str, int]], float], Awaitable[list[int]]]


def _on_trio(ask: _Ask) -> Callable[[list[tuple[str, int]], float], list[int]]:
    return lambda others, seconds: trio.run(ask, others, seconds)


_WAYS: Final = {
    "plain sockets and epoll": (_echo_plainly, _ask_plainly),
    "trio, one task": (_echo_on_trio, _on_trio(_ask_in_one_task)),
    "trio, one task receives and another waits": (_echo_on_trio, _on_trio(_ask_and_wait)),
}


def _measure(way: str, seconds: float) -> float:
    """Return the median, in milliseconds."""
    echo, ask = _WAYS[way]
    context = multiprocessing.get_context("spawn")
    processes, others = [], []
    for _ in range(2):
        told, tells = context.Pipe()
        process = context.Process(target=echo, args=(tells,), daemon=True)
        process.start()
        processes.append(process)
        others.append(told.recv())
    took = ask(others, seconds)
    for process in processes:
        process.kill()
        process.join()
    return percentile(took, 50) / 1e6


def main() -> None:
    """Measure all in turns, and print the medians."""
    parser = argparse.ArgumentParser("python -m tests.benchmarks.floor", description=str(__doc__).partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    asked = parser.parse_args()
    found: dict[str, list[float]] = {way: [] for way in _WAYS}
    for _ in range(asked.rounds):
        for way, values in found.items():
            values.append(_measure(way, asked.seconds))
    print("| the way | p50, ms (of rounds) |\n|---|---|")
    for way, values in found.items():
        print(f"| {way} | {median(values):.3f} ({min(values):.3f}–{max(values):.3f}) |")


if __name__ == "__main__":
    main()
