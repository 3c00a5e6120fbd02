"""What a put costs the key-value store of one node, as what is kept beside it grows.

    python -m tests.benchmarks.kv_puts
    python -m tests.benchmarks.kv_puts --cases keys watches --sizes 1 10000

Each case is a store with so many keys, so many watches of other prefixes, or so many leases with other keys. Times
are of the processor, the best of some rounds, so that others at work on the machine count little. Prints one JSON
document: microseconds for each put, by case and size.
"""

import argparse
import gc
import json
import time
from collections.abc import Callable
from random import Random
from typing import Final

from trioraft.kv import KeyValueStore, LeaseGrant, Put, encode_command, prefix_range
from trioraft.kv.codec import pack
from trioraft.kv.questions import WatchEvents
from trioraft.kv.service import KeyValueService
from trioraft.messages import Instant, Term
from trioraft.versions import SPOKEN

_PUTS: Final = 20_000
_ROUNDS: Final = 5
_VALUE: Final = bytes(64)
_KEYS: Final = 1000
_QUOTA: Final = 2**36


class Leader:
    """A node that leads, at a time that stands still."""

    leads_in: Term = 1

    def now(self) -> Instant:
        return 1.0

    def propose_in_term(self, term: Term, command: bytes) -> None:
        raise AssertionError(f"nothing is due, but {command!r} is proposed in term {term}")


def made(keys: int) -> KeyValueService:
    service = KeyValueService(KeyValueStore())
    service.attach(Leader())
    service.follow_version(SPOKEN.highest)
    service.follow_quota(_QUOTA)
    for number in range(keys):
        service.apply(encode_command(Put(_key(number), _VALUE)))
    return service


def with_keys(size: int) -> KeyValueService:
    return made(size)


def with_watches(size: int) -> KeyValueService:
    service = made(_KEYS)
    for number in range(size):
        question = WatchEvents(*prefix_range(b"other/%d/" % number), 0)
        assert service.answer(pack(question), lambda answer: None) is not None, "the watch is refused"
    return service


def with_leases(size: int) -> KeyValueService:
    service = made(_KEYS)
    for lease in range(1, size + 1):
        service.apply(encode_command(LeaseGrant(100, lease)))
        service.apply(encode_command(Put(b"leased/%d" % lease, b"", lease)))
    service.end_due_leases(Leader())
    return service


CASES: Final[dict[str, Callable[[int], KeyValueService]]] = {
    "keys": with_keys,
    "watches": with_watches,
    "leases": with_leases,
}


def cost(service: KeyValueService, keys: int) -> float:
    """Put keys that are there, in no order, and return the microseconds for each."""
    random = Random(1)
    commands = [encode_command(Put(_key(random.randrange(keys)), _VALUE)) for _ in range(_PUTS)]
    apply = service.apply
    rounds: list[float] = []
    gc.collect()
    for _ in range(_ROUNDS):
        start = time.process_time()
        for command in commands:
            apply(command)
        rounds.append(time.process_time() - start)
    return round(min(rounds) / _PUTS * 1e6, 2)


def _key(number: int) -> bytes:
    return b"key/%07d" % number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--sizes", nargs="+", type=int, default=[10, 1000, 10_000])
    options = parser.parse_args()
    report = {
        case: {size: cost(CASES[case](size), size if case == "keys" else _KEYS) for size in options.sizes}
        for case in options.cases
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
