"""What handshakes, messages and hostile datagrams cost, in this tree and in another one, in turns.

    git worktree add /tmp/before 9332d7f
    python -m tests.benchmarks.datagrams /tmp/before --rounds 15

Two processes, one of each tree, measure the same in turns, on endpoints in memory: no socket, no system call but for
random bytes. Prints a table of µs: the smallest that was found, so that others at work on the machine count little,
and this tree as a multiple of the other one. A handshake and a message count for both sides, the others for the side
that drops the datagram, its answer included where there is one.

Rogue numbers are sealed by a member: the endpoint takes them in, and the core drops them (in the other tree they
were believed), which is not counted here.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
COUNT: Final = 200
SLICE: Final = 10  # a row of so many is short enough that some rows are not interrupted
KEY: Final = "4b" * 32


# --- what is measured: this part runs in either tree ------------------------------------------------------------


def measure() -> dict[str, float]:
    """Measure everything once, in µs."""
    for _ in range(2):
        found = {}
        for name, keys in (("unsealed", None), ("sealed", KEY)):
            found[f"handshake, {name}"] = _handshake(keys)
            found[f"message, {name}"] = _message(keys)
        found |= _drops()
    return found


def _pair(keys: str | None) -> tuple[list[Any], tuple[Any, Any]]:
    from trioraft.address import Address  # noqa: PLC0415 - of the tree that is measured
    from trioraft.datagrams.endpoint import Endpoint, Identity  # noqa: PLC0415 - of the tree that is measured
    from trioraft.datagrams.keys import KeyRing  # noqa: PLC0415 - of the tree that is measured

    addresses = Address("192.0.2.1", 7300), Address("192.0.2.2", 7300)
    ends = [
        Endpoint(Identity(number, "web", f"node-{number}"), KeyRing.parse(keys) if keys else None, cluster_id=3)
        for number in (1, 2)
    ]
    return ends, addresses


def _carry(ends: list[Any], addresses: tuple[Any, Any], now: float) -> list[list[bytes]]:
    """Deliver everything until nothing flies any more; return what each has sent."""
    flown: list[list[bytes]] = [[], []]
    while any(flights := [end.datagrams_to_send() for end in ends]):
        for number, each in enumerate(flights):
            for data, _ in each:
                flown[number].append(data)
                ends[1 - number].receive_datagram_untrusted(data, addresses[number], now)
    return flown


def _shake_hands(ends: list[Any], addresses: tuple[Any, Any], now: float) -> list[list[bytes]]:
    from trioraft.datagrams.sealing import Domain  # noqa: PLC0415 - of the tree that is measured

    ends[0].greet(addresses[1], Domain.CONSENSUS, now)
    return _carry(ends, addresses, now)


def _handshake(keys: str | None) -> float:
    best = float("inf")
    for ends, addresses in [_pair(keys) for _ in range(COUNT)]:
        began = time.perf_counter()
        _shake_hands(ends, addresses, 1000.0)
        best = min(best, time.perf_counter() - began)
    return best * 1e6


def _heartbeat(sequence: int = 42) -> Any:
    from trioraft.messages import AppendEntriesRequest  # noqa: PLC0415 - of the tree that is measured

    return AppendEntriesRequest(7, sequence, 3.25, 12, 6, 12)


def _message(keys: str | None) -> float:
    ends, addresses = _pair(keys)
    _shake_hands(ends, addresses, 1000.0)
    peer = ends[0].peer(2)
    message, best = _heartbeat(), float("inf")
    for _ in range(COUNT):
        began = time.perf_counter()
        for _ in range(SLICE):
            ends[0].send(peer, message, 1000.0)
            for data, _to in ends[0].datagrams_to_send():
                assert ends[1].receive_datagram_untrusted(data, addresses[0], 1000.0) is not None
        best = min(best, time.perf_counter() - began)
    return best / SLICE * 1e6


def _drops() -> dict[str, float]:
    """Make datagrams of every kind, and let a node drop them."""
    from trioraft.address import Address  # noqa: PLC0415 - of the tree that is measured
    from trioraft.datagrams import headers, wire  # noqa: PLC0415 - of the tree that is measured
    from trioraft.datagrams.keys import KeyRing, derive_key  # noqa: PLC0415 - of the tree that is measured
    from trioraft.datagrams.sealing import Domain  # noqa: PLC0415 - of the tree that is measured

    chance = random.Random(1)
    stranger = Address("198.51.100.1", 4000)
    big = b"\x84\x03\x01\x02" + b"\x82\x0a" + b"\x99\x40\x00" + b"\x82\x01\x02" * 16_384
    small = wire.envelope_start(3, 1, 2) + wire.encode_message(_heartbeat())
    drops: dict[str, float] = {}

    ends, addresses = _pair(None)
    _shake_hands(ends, addresses, 1000.0)
    start = headers.plain_message_start(Domain.CONSENSUS, ends[0].process, b"x" * 8)
    for name, data, source in (
        ("a wrong token", start + small, addresses[0]),
        ("a wrong token, 50 kB of CBOR", start + big, addresses[0]),
        ("an unsealed Hello, 50 kB of CBOR", headers.plain_hello_start(Domain.CONSENSUS, b"p" * 16) + big, stranger),
    ):
        drops[name] = _drop(ends[1], [data], source)

    ends, addresses = _pair(KEY)
    _shake_hands(ends, addresses, 1000.0)
    peer = ends[0].peer(2)
    greetings, copies = [], []
    for _ in range(COUNT):
        copies += _sent(ends[0], lambda: ends[0].send(peer, _heartbeat(), 1000.0))
    for number in range(20):
        ends[0].greet(addresses[1], Domain.CONSENSUS, 1000.0 + number / 100)
        greetings += [data for data in _carry(ends, addresses, 1000.0 + number / 100)[0] if len(data) > 400]
    own, other = (KeyRing.parse(key).first(Domain.CONSENSUS) for key in (KEY, "5c" * 32))
    thief = KeyRing.parse(derive_key(KEY, "status")).first(Domain.STATUS)
    kinds = {
        "a copy from elsewhere, before the original": copies,
        "an old greeting from elsewhere": greetings,
        "sealed under an unknown key": [_sealed(headers, other, chance, small) for _ in range(COUNT)],
        "not opened": [_sealed(headers, own, chance, small)[:-1] + b"x" for _ in range(COUNT)],
        "malformed": [chance.randbytes(100) for _ in range(COUNT)],
        "a sealed Hello, 50 kB of CBOR, by a monitor": [_sealed(headers, thief, chance, big, is_hello=True)],
    }
    for name, datagrams in kinds.items():
        drops[name] = _drop(ends[1], datagrams, stranger)
    rogue = []
    for _ in range(COUNT):
        rogue += _sent(ends[0], lambda: ends[0].send(peer, _heartbeat(2**62), 1001.0))
    drops["a rogue number, sealed by a member"] = _drop(ends[1], rogue, addresses[0], repeats=1)
    return drops


def _sent(end: Any, say: Callable[[], None]) -> list[bytes]:
    say()
    return [data for data, _ in end.datagrams_to_send()]


def _sealed(headers: Any, key: Any, chance: random.Random, envelope: bytes, *, is_hello: bool = False) -> bytes:
    process, counter = chance.randbytes(16), chance.randbytes(8)
    cipher = key.hello_cipher(process) if is_hello else key.session_cipher(process, b"r" * 16)
    header = headers.sealed_header(
        headers.sealed_start(key.fingerprint, process, is_hello=is_hello), counter, len(envelope)
    )
    return bytes(header + cipher.encrypt(bytes(4) + counter, envelope, header))


def _drop(end: Any, datagrams: list[bytes], source: object, repeats: int = 0) -> float:
    repeats, best = repeats or max(1, COUNT // len(datagrams)), float("inf")
    for _ in range(repeats):
        for first in range(0, len(datagrams), SLICE):
            some = datagrams[first : first + SLICE]
            began = time.perf_counter()
            for data in some:
                end.receive_datagram_untrusted(data, source, 1002.0)
            end.datagrams_to_send()
            best = min(best, (time.perf_counter() - began) / len(some))
    return best * 1e6


# --- comparing --------------------------------------------------------------------------------------------------


def _worker(tree: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, __file__, "--worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree), "PYTHONSAFEPATH": "1"},
    )


def _ask(worker: "subprocess.Popen[str]") -> dict[str, float]:
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write("\n")
    worker.stdin.flush()
    found: dict[str, float] = json.loads(worker.stdout.readline())
    return found


def compare(other: Path, rounds: int) -> None:
    """Measure in both trees in turns, and print a table."""
    workers = {"this": _worker(ROOT), "other": _worker(other)}
    try:
        rows: dict[str, list[dict[str, float]]] = {name: [] for name in workers}
        for _ in range(rounds):
            for name, worker in workers.items():
                rows[name].append(_ask(worker))
    finally:
        for worker in workers.values():
            worker.communicate()  # its input ends
    print(f"{'µs':48}{'other':>10}{'this':>10}{'ratio':>8}")
    for what in rows["this"][0]:
        this, before = (min(row[what] for row in rows[name]) for name in ("this", "other"))
        print(f"{what:48}{before:10.1f}{this:10.1f}{this / before:8.2f}")


def main() -> None:
    """Read the arguments, and compare; or measure as often as a line comes in."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", nargs="?", type=Path, help="another tree")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        for _ in sys.stdin:
            print(json.dumps(measure()), flush=True)
    elif options.other is None:
        parser.error("name another tree")
    else:
        compare(options.other.resolve(), options.rounds)


if __name__ == "__main__":
    main()
