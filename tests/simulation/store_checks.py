"""What must hold of the key-value store: what clients see is linearizable, watches miss nothing, leases hold."""

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec.structs import replace

from tests.linearizability import KeyValueModel, Operation, Verdict, check
from tests.linearizability.models import KeyValueInput, KeyValueOutput
from tests.simulation.trace import name
from trioraft.kv.commands import Event, Range
from trioraft.kv.questions import WatchAnswer, WatchEvents
from trioraft.kv.quota import LEASE_BYTES, item_bytes
from trioraft.kv.results import RangeResult
from trioraft.kv.store import Change

if TYPE_CHECKING:
    from tests.simulation.checks import Checks
    from tests.simulation.host import Process
    from tests.simulation.store import StoreMachine

# The tags of commands that are never the same twice, because of their values: Put and Txn.
_UNIQUE: Final = (1, 4)
# How long, and how large, the search for an order of the operations on one key may be. The time is far more than it
# takes, so that the outcome does not depend on the machine.
_SECONDS: Final = 120.0
_PLACES: Final = 50_000


class Place(NamedTuple):
    """The place of a command that was applied: its entry, and its number among those that the entry had applied."""

    log_index: int
    number: int


class StoreChecks:
    """All that ever happened to the store, and what its clients were told."""

    def __init__(self, checks: "Checks") -> None:
        self.checks = checks
        self.fail = checks.fail
        self.count: Counter[str] = checks.world.count
        self.events: dict[int, tuple[Event, ...]] = {}  # revision: what happened
        self.newest = 1  # revision
        self.newest_place = Place(0, 0)  # the newest command that was applied anywhere
        self.held_until: dict[int, float] = {}  # lease: until when its holder believes in it, in true time
        self.ended_at: dict[int, float] = {}  # lease: when it ended
        self.history: list[Operation[KeyValueInput, KeyValueOutput]] = []

    def applied(self, process: "Process", at: Place, command: bytes, result: bytes, change: Change | None) -> None:
        """Note what a command has done, where it is applied first; that the others do the same shows elsewhere."""
        if command[1] in _UNIQUE:
            self.checks.log.carried_out(at.log_index, command, result)
        if at <= self.newest_place:
            return
        self.newest_place = at
        if change is None:
            return
        if change.events:
            if change.revision != self.newest + 1:
                self.fail(f"revision {change.revision} comes after revision {self.newest}")
            self.newest = change.revision
            self.events[change.revision] = change.events
        for lease in change.ended:
            self.count["leases ended"] += 1
            now = self.checks.world.loop.now
            self.ended_at[lease] = now
            self._check_held(lease, f"ends on {name(process.host.node)}")

    def sized(self, machine: "StoreMachine", before: int) -> None:
        """Check after a command that a store knows how large it is, and has not grown beyond its quota."""
        store, quota = machine.service.store, machine.quota
        found = store.query(Range(b"\0", b"\0"))
        assert isinstance(found, RangeResult)
        size = LEASE_BYTES * len(store.leases()) + sum(map(item_bytes, found.kvs))
        where = name(machine.process.host.node)
        if store.size != size:
            self.fail(f"the store on {where} counts {store.size} bytes for its quota, and has {size}")
        if quota and size > max(before, quota + quota // 16):
            self.fail(f"the store on {where} grows from {before} bytes to {size}, beyond its quota of {quota}")

    # --- leases ---------------------------------------------------------------------------------------------

    def holds(self, lease: int, until: float) -> None:
        """Note until when a holder believes in its lease."""
        self.held_until[lease] = max(until, self.held_until.get(lease, 0.0))
        if lease in self.ended_at:
            self._check_held(lease, "has ended")

    def _check_held(self, lease: int, what: str) -> None:
        left = self.held_until.get(lease, 0.0) - self.checks.world.loop.now
        if left > 0 and self.checks.trusts_clocks:
            self.fail(f"lease {lease:x} {what}, and its holder may believe in it for another {left:.6f} s")

    # --- watches --------------------------------------------------------------------------------------------

    def watched(self, asked: WatchEvents, answer: WatchAnswer) -> None:
        """Check that a watch was told every event, once, in order."""
        expected = []
        for revision in range(asked.revision, answer.revision + 1):
            if revision > self.newest:
                self.fail(f"a watch was told of revision {revision}, and {self.newest} is the newest")
            expected += self._halves(asked, revision)
        if answer.given:
            expected += self._halves(asked, answer.revision + 1)[: answer.given]
            self.count["revisions divided for a watch"] += 1
        given = [half for event in answer.events for half in _divided(event)]
        if asked.given % 2:
            del given[:1]
        if answer.given % 2:
            del given[-1:]
        if given != expected[asked.given :] or (answer.events and not given):
            self.fail(
                f"a watch of {asked.key!r} from revision {asked.revision} was told {given} up to revision "
                f"{answer.revision}, and this has happened: {expected[asked.given :]}"
            )
        self.count["watch events"] += len(answer.events)

    def _halves(self, asked: WatchEvents, revision: int) -> list[Event]:
        """Give what a watch is shown of a revision: each event without what was before, and again with that."""
        events = [event for event in self.events[revision] if _matches(asked, event)]
        if not asked.prev_kv:
            events = [Event(event.kind, event.kv) for event in events]
        return [half for event in events for half in _divided(event)]

    # --- linearizability ------------------------------------------------------------------------------------

    def conclude(self) -> None:
        """Check the whole history of the clients."""
        result = check(KeyValueModel(), self.history, time_limit=_SECONDS, places=_PLACES)
        self.count["operations in histories"] += len(self.history)
        if result.verdict is Verdict.VIOLATED:
            self.fail(f"the history of the clients is not linearizable:\n{result}")
        if result.verdict is Verdict.UNDECIDED:
            self.count["histories undecided"] += 1
        elif self.history:
            self.count["histories linearizable"] += 1


def _divided(event: Event) -> tuple[Event, Event]:
    return Event(event.kind, event.kv), Event(event.kind, replace(event.kv, value=b""), event.prev_kv)


def _matches(asked: WatchEvents, event: Event) -> bool:
    key = event.kv.key
    return asked.key <= key < asked.range_end if asked.range_end else key == asked.key
