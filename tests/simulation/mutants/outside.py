"""Seeded bugs in what the simulator does not run: the disk and the datagrams."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final

from tests.simulation.mutants.mutant import Mutant, Patch
from trioraft.address import Address
from trioraft.datagrams import handshake, replay, sender, sessions
from trioraft.storage import database, records, snapshots


def _nothing(*_: object, **__: object) -> None:
    pass


def _always(*_: object) -> bool:
    return True


def _no_sum(*_: object) -> int:
    return 0


def _sync_never() -> list[Patch]:
    original = database.SqliteDisk._prepare

    def prepare(self: database.SqliteDisk, *arguments: Any) -> None:
        original(self, *arguments)
        self._db.execute("PRAGMA synchronous = OFF")

    return [(database.SqliteDisk, "_prepare", prepare)]


def _hard_state_after_entries() -> list[Patch]:
    """Write the hard state in a transaction of its own, after that of the entries."""
    original = database.SqliteDisk._put

    def put(self: database.SqliteDisk, write: Any, body: bytes) -> None:
        original(self, write, self._body)
        self._db.execute("COMMIT")
        self._db.execute("BEGIN IMMEDIATE")
        row = (body, records.seal_hard(self.node_id, body)[2])
        self._db.execute("UPDATE hard_state SET body = ?, checksum = ?", row)

    return [(database.SqliteDisk, "_put", put), (database.SqliteDisk, "_appends_at_once", lambda self, write: False)]


def _window_from_the_beginning() -> list[Patch]:
    def window(_floor: int) -> replay.ReplayWindow:
        return replay.ReplayWindow(0)

    return [(handshake, "ReplayWindow", window)]


def _believe_any_address() -> list[Patch]:
    def is_confirmed_at(self: sessions.Session, address: Address, _now: float) -> bool:
        self.paths.setdefault(address, next(iter(self.paths.values())))
        return True

    return [(sessions.Session, "is_confirmed_at", is_confirmed_at)]


def _patch(target: object, attribute: str, replacement: object) -> Callable[[], list[Patch]]:
    return lambda: [(target, attribute, replacement)]


OUTSIDE: Final = (
    Mutant(
        "skip the checksums of the log",
        "disk: damage is noticed",
        "damaged disk",
        _patch(records, "_checksum", _no_sum),
    ),
    Mutant(
        "skip the checksum of the hard state",
        "disk: damage is noticed",
        "damaged disk",
        _patch(records, "_hard_checksum", _no_sum),
    ),
    Mutant(
        "skip the checksum of a snapshot",
        "disk: damage is noticed",
        "damaged disk",
        _patch(snapshots, "_verify", _nothing),
    ),
    Mutant(
        "answer before the disk has synced", "Raft, figure 2: persist before responding", "power cut", _sync_never
    ),
    Mutant(
        "write the hard state after the entries",
        "disk: all of a write or nothing",
        "power cut",
        _hard_state_after_entries,
    ),
    Mutant(
        "name a snapshot before it is synced",
        "Raft 7: a snapshot is durable before it counts",
        "power cut",
        _patch(snapshots, "os", SimpleNamespace(fsync=_nothing)),
    ),
    Mutant(
        "drop the replay window",
        "datagrams: a repeated one counts once",
        "replays",
        _patch(replay.ReplayWindow, "accept", _always),
    ),
    Mutant(
        "begin a session's window at its first datagram",
        "datagrams: what was said before a session does not count in it",
        "replays",
        _window_from_the_beginning,
    ),
    Mutant(
        "listen to whoever repeats what a member said",
        "datagrams: an address is confirmed before it is believed",
        "replays",
        _believe_any_address,
    ),
    Mutant(
        "answer strangers with more than they said",
        "datagrams: no amplification",
        "strangers",
        _patch(sender.Sender, "is_confirmed", _always),
    ),
)
