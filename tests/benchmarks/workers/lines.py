"""What all workers have in common: their conversation with the benchmark, the commands they send, and percentiles."""

import json
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from itertools import count
from typing import Any, Final

VALUE: Final = "v" * 64
# Keys are used one after the other, so that the state stays as small as a load begins with.
KEYS: Final = [f"key{number:04}" for number in range(1000)]
WARM_UP: Final = 0.5  # seconds

# Answers have the pipe to themselves: what a node writes to its standard output, as its log, goes where errors go.
_ANSWERS: Final = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)

Answer = dict[str, Any]


def keys() -> Iterator[str]:
    """Yield a key for each command, for ever."""
    for number in count():
        yield KEYS[number % len(KEYS)]


def tell(answer: Answer) -> None:
    """Tell the benchmark something."""
    _ANSWERS.write(json.dumps(answer) + "\n")
    _ANSWERS.flush()


def serve(commands: Mapping[str, Callable[..., Answer]]) -> None:
    """Answer the benchmark's commands until it closes the pipe."""
    for line in sys.stdin:
        asked = json.loads(line)
        tell(commands[asked.pop("command")](**asked))


async def serve_on_trio(commands: Mapping[str, Callable[..., Awaitable[Answer]]]) -> None:
    """Answer them in a task of trio, beside other tasks that go on while a command is awaited."""
    import trio  # noqa: PLC0415 - the environment of a peer does not have it

    send, receive = trio.open_memory_channel[str](1)
    token = trio.lowlevel.current_trio_token()

    def read() -> None:
        for line in sys.stdin:
            trio.from_thread.run(send.send, line, trio_token=token)
        trio.from_thread.run_sync(send.close, trio_token=token)

    threading.Thread(target=read, daemon=True).start()
    async for line in receive:
        asked = json.loads(line)
        tell(await commands[asked.pop("command")](**asked))


def shares(number: int, most: int) -> list[int]:
    """Share out so many commands among at most so many, each with one at least."""
    parts = min(number, most)
    return [number // parts + (each < number % parts) for each in range(parts)]


def percentile(values: list[int], percent: float) -> float:
    """Interpolate a percentile of values that need not be sorted."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def latencies(nanoseconds: list[int], errors: int = 0) -> Answer:
    """Summarise latencies in milliseconds."""
    return {
        "p50": percentile(nanoseconds, 50) / 1e6,
        "p99": percentile(nanoseconds, 99) / 1e6,
        "acknowledged": len(nanoseconds),
        "errors": errors,
    }


def rate(acknowledged: int, counted: int, seconds: float, errors: int) -> Answer:
    """Summarise a closed loop: all that was acknowledged, and what of it within the measured time."""
    return {"rate": counted / seconds, "acknowledged": acknowledged, "errors": errors}
