"""The best that this machine can do: a datagram there and back between two processes on trio, and a synced write.

``python -m trioraft.benchmark.baseline`` is the other process: it prints its port and sends back each datagram.
"""

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from trioraft.launching import LOOPBACK, until_stdin_closes

_ROUND_TRIPS: Final = 1000
_SYNCS: Final = 100
_PAGE: Final = 4096
_DATAGRAM_MAX: Final = 65535
# The size of a datagram with one small command.
_DATAGRAM: Final = bytes(200)


@dataclass(frozen=True, slots=True)
class Baseline:
    """The medians of the times that the machine needs by itself, in seconds.

    Attributes
    ----------
    udp_round_trip : float
        The time of a datagram from one process to another and back, with trio's sockets.
    disk_sync : float
        The time of ``fdatasync`` after a page was written behind the end of a file.
    """

    udp_round_trip: float
    disk_sync: float


async def measure_baseline(directory: Path, environment: Mapping[str, str]) -> Baseline:
    """Measure both; it takes about a second.

    Parameters
    ----------
    directory : Path
        A directory on the disk.
    environment : mapping
        The environment of the other process.

    Returns
    -------
    Baseline
        The medians.
    """
    return Baseline(await _udp_round_trip(environment), await trio.to_thread.run_sync(_disk_sync, directory))


async def _udp_round_trip(environment: Mapping[str, str]) -> float:
    process = await trio.lowlevel.open_process(
        [sys.executable, "-P", "-m", "trioraft.benchmark.baseline"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )
    assert process.stdout is not None  # noqa: S101 - it was asked for
    try:
        port = int(await process.stdout.receive_some())
        with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
            await own.bind((LOOPBACK, 0))
            took = []
            for _ in range(_ROUND_TRIPS):
                started = time.perf_counter()
                await own.sendto(_DATAGRAM, (LOOPBACK, port))
                await own.recvfrom(_DATAGRAM_MAX)
                took.append(time.perf_counter() - started)
            return statistics.median(took)
    finally:
        with trio.CancelScope(shield=True):
            process.kill()
            await process.wait()


def _disk_sync(directory: Path) -> float:
    took = []
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        for _ in range(_SYNCS):
            file.write(os.urandom(_PAGE))
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - started)
    return statistics.median(took)


async def _send_back() -> None:
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        await own.bind((LOOPBACK, 0))
        print(own.getsockname()[1], flush=True)  # noqa: T201 - the parent process reads it
        while True:
            data, source = await own.recvfrom(_DATAGRAM_MAX)
            await own.sendto(data, source)


if __name__ == "__main__":
    trio.run(until_stdin_closes, _send_back)
