"""How long the key-value store keeps an event loop from its work: single commands, and snapshots of a large state.

    python -m tests.benchmarks.kv_store --megabytes 100 --value-bytes 1000

While the snapshot is read, commands are applied between any two chunks, as a node does. The longest single step is
what an event loop would have had to wait, garbage collection included. Times are of the processor, so that others
at work on the machine do not count. Prints one JSON document.
"""

import argparse
import gc
import json
import resource
import time
from collections.abc import Callable
from functools import partial
from random import Random
from typing import TypeVar

from trioraft.kv import DeleteRange, KeyValueStore, Put, Range, RangeResult, encode_command, prefix_range
from trioraft.kv.commands import DELETED_MAX

T = TypeVar("T")


class Timer:
    """Keeps the longest, and the sum, of what it has timed."""

    def __init__(self) -> None:
        self.steps = 0
        self.longest = 0.0
        self.total = 0.0

    def __call__(self, step: Callable[[], T]) -> T:
        start = time.thread_time()
        result = step()
        seconds = time.thread_time() - start
        self.steps += 1
        self.total += seconds
        self.longest = max(self.longest, seconds)
        return result

    def report(self) -> dict[str, float]:
        return {
            "steps": self.steps,
            "cpu_seconds": round(self.total, 3),
            "mean_microseconds": round(self.total / self.steps * 1e6, 1),
            "longest_milliseconds": round(self.longest * 1e3, 2),
        }


def fill(store: KeyValueStore, keys: int, value_bytes: int, random: Random) -> Timer:
    timer = Timer()
    order = list(range(keys))
    random.shuffle(order)
    for number in order:
        command = encode_command(Put(_key(number), random.randbytes(value_bytes)))
        timer(partial(store.apply, command))
    return timer


def snapshot(store: KeyValueStore, keys: int, random: Random) -> tuple[list[bytes], dict[str, Timer]]:
    timers = {"take": Timer(), "chunk": Timer(), "apply_meanwhile": Timer()}
    chunks: list[bytes] = []
    iterator = timers["take"](store.snapshot)
    while (chunk := timers["chunk"](lambda: next(iterator, None))) is not None:
        chunks.append(chunk)
        for key in (_key(random.randrange(keys)), random.randbytes(12)):
            command = encode_command(Put(key, b"meanwhile"))
            timers["apply_meanwhile"](partial(store.apply, command))
    return chunks, timers


def restore(chunks: list[bytes]) -> tuple[KeyValueStore, dict[str, Timer]]:
    timers = {"feed": Timer(), "finish": Timer()}
    store = KeyValueStore()
    reader = store.begin_restore()
    for chunk in chunks:
        timers["feed"](partial(reader.feed, chunk))
    timers["finish"](lambda: store.finish_restore(reader))
    return store, timers


def read(store: KeyValueStore, keys: int, random: Random) -> dict[str, Timer]:
    timers = {"get": Timer(), "range_as_large_as_it_gets": Timer(), "range_at_oldest_revision": Timer()}
    everything = prefix_range(b"")
    for _ in range(10_000):
        request = Range(_key(random.randrange(keys)))
        timers["get"](partial(store.query, request))
    for _ in range(20):
        timers["range_as_large_as_it_gets"](lambda: store.query(Range(*everything)))
        oldest = Range(*everything, revision=store.oldest_revision)
        timers["range_at_oldest_revision"](partial(store.query, oldest))
    return timers


def delete_all(store: KeyValueStore) -> Timer:
    timer = Timer()
    some = Range(*prefix_range(b""), limit=DELETED_MAX, keys_only=True)
    while isinstance(part := store.query(some), RangeResult) and part.kvs:
        deletion = DeleteRange(part.kvs[0].key, part.kvs[-1].key + b"\0")
        timer(partial(store.execute, deletion))
    return timer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=100, help="size of all values")
    parser.add_argument("--value-bytes", type=int, default=1000)
    parser.add_argument(
        "--gc-freeze", action="store_true", help="spare the filled store from garbage collection, with gc.freeze()"
    )
    options = parser.parse_args()
    random = Random(1)
    keys = max(1, options.megabytes * 10**6 // options.value_bytes)
    store = KeyValueStore()
    timers = {"apply": fill(store, keys, options.value_bytes, random)}
    if options.gc_freeze:
        gc.freeze()
    digest = store.digest()
    chunks, of_snapshot = snapshot(store, keys, random)
    timers |= {f"snapshot_{name}": timer for name, timer in of_snapshot.items()}
    restored, of_restore = restore(chunks)
    timers |= {f"restore_{name}": timer for name, timer in of_restore.items()}
    assert restored.digest() == digest, "the snapshot is not what the store was when it was taken"
    timers |= read(store, keys, random)
    replaced, timers["free_replaced_state"] = [restored], Timer()
    del restored
    timers["free_replaced_state"](replaced.clear)
    timers["delete_most_at_once"] = delete_all(store)
    report = {
        "keys": keys,
        "value_bytes": options.value_bytes,
        "snapshot_bytes": sum(map(len, chunks)),
        "largest_chunk": max(map(len, chunks)),
        "peak_memory_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "revision": store.revision,
        "steps": {name: timer.report() for name, timer in timers.items()},
    }
    print(json.dumps(report, indent=2))


def _key(number: int) -> bytes:
    return b"key-%09d" % number


if __name__ == "__main__":
    main()
