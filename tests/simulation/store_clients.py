"""Clients of the key-value store: reads, writes, compare-and-swap, leases that are kept alive, and watches."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.linearizability import Cas, CasRevision, Delete, Deleted, Found, Get, Operation, Put, Swapped, Written
from tests.linearizability.models import KeyValueInput, KeyValueOutput
from tests.simulation.checks import ViolationError
from tests.simulation.session_clients import Then
from tests.simulation.store import StoreMachine
from trioraft.kv import commands, results
from trioraft.kv.codec import decode_result, encode_command, pack, unpack
from trioraft.kv.lock import held_until
from trioraft.kv.questions import AnyAnswer, LeaseKeepAlive, LeaseKeepAliveAnswer, Refused, WatchAnswer, WatchEvents

if TYPE_CHECKING:
    from tests.simulation.host import Host
    from tests.simulation.simulation import Simulation
    from tests.simulation.workload import Workload

_KEYS: Final = ("k0", "k1", "k2")
# So many watches, and at most so many leases at a time.
_WATCHES: Final = 2
_LEASES: Final = 3
# How often a keep-alive comes when the end of its lease is just proposed.
_TOO_LATE: Final = 0.5


@dataclass(slots=True)
class Watcher:
    """Somebody who watches some keys."""

    key: bytes
    range_end: bytes
    prev_kv: bool
    next: int = 2
    given: int = 0  # halves of the events of that revision
    asked: int = 0  # counts the questions: only the newest is waited for


@dataclass(slots=True)
class Holder:
    """Somebody who holds a lease."""

    lease: int
    ttl: int
    renewals: int
    pause: float  # seconds between them


class StoreClients:
    """All that is asked of the store."""

    def __init__(self, world: "Simulation", workload: "Workload") -> None:
        self.world = world
        self.workload = workload
        self.random = world.random
        self.unit = world.profile.unit
        self.values = 0
        self.seen: dict[str, tuple[str | None, int]] = {}  # key: what somebody has seen last, and its revision
        self.leases = 0
        start, end = commands.prefix_range(b"k")
        places = [(start, end, True), (b"k1", b"", False), (b"l", b"m", False)]
        self.watchers = [Watcher(*self.random.choice(places)) for _ in range(_WATCHES)]

    def begin(self) -> None:
        """Begin to watch."""
        for watcher in self.watchers:
            self._watch(watcher)

    def trouble(self, machine: StoreMachine) -> str:
        """Tell what is not as it must be once all has been well for long."""
        store = machine.service.store
        if store.leases():
            return f"nobody keeps {[f'{lease.id:x}' for lease in store.leases()]} alive, and they have not ended"
        bound = [kv.key for kv in _all_keys(machine).kvs if kv.lease]
        if bound:
            return f"{bound} are attached to leases that have ended"
        late = [watcher for watcher in self.watchers if watcher.next <= store.revision]
        return f"{late} have not been told of revision {store.revision}" if late else ""

    # --- commands -------------------------------------------------------------------------------------------

    def session_command(self, client: int) -> tuple[bytes, Then]:
        """Draw what a client with a session asks."""
        if self.leases < _LEASES and self.random.random() < 0.1:
            return self._grant()
        asked = self._draw()
        called = self._now()

        def then(result: bytes | None) -> None:
            told = None if result is None else decode_result(result)
            if isinstance(told, results.Error) and told.code is results.ErrorCode.TOO_LARGE:
                self.world.count["commands refused by the quota"] += 1
                return
            output = None if told is None else self._output(asked, told)
            returned = None if result is None else max(self._now(), called)
            self._note(client, asked, output, called, returned)

        return encode_command(_command(asked)), then

    def command(self) -> bytes:
        """Draw what a client without a session asks; nobody remembers what it was told."""
        dice = self.random.random()
        newest = self.world.checks.store.newest
        if dice < 0.02:
            return encode_command(commands.Compact(max(0, newest - self.random.randrange(20))))
        key = b"m%d" % self.random.randrange(5)
        if dice < 0.2:
            return encode_command(commands.DeleteRange(key, b"m%d" % self.random.randrange(6)))
        value = self._new_value().encode() + b"." * self.random.choice((0, 0, 20, 500))
        return encode_command(commands.Put(key, value))

    def _now(self) -> int:
        return round(self.world.loop.now * 1e9)

    def _new_value(self) -> str:
        self.values += 1
        return str(self.values)

    def _draw(self) -> KeyValueInput:
        key = self.random.choice(_KEYS)
        value, revision = self.seen.get(key, (None, 0))
        dice = self.random.random()
        if dice < 0.4:
            return Put(key, self._new_value())
        if dice < 0.65:
            return Cas(key, value, self._new_value())
        return CasRevision(key, revision, self._new_value()) if dice < 0.85 else Delete(key)

    def _output(self, asked: KeyValueInput, result: results.Result) -> KeyValueOutput:
        """Say what a result means to the checker; a revision only where the operation has changed something."""
        match asked, result:
            case Put(key, value), results.PutResult(revision):
                self.seen[key] = value, revision
                return Written(revision)
            case Delete(), results.DeleteRangeResult(revision, deleted):
                return Deleted(bool(deleted), revision if deleted else None)
            case Cas(key, _, value) | CasRevision(key, _, value), results.TxnResult(revision, succeeded):
                if succeeded:
                    self.seen[key] = value, revision
                return Swapped(succeeded, revision if succeeded else None)
            case _:
                raise ViolationError(f"{asked} is answered with {result}")

    # --- reads ----------------------------------------------------------------------------------------------

    def read(self, host: "Host") -> None:
        """Read a key on a node; a read that is not answered does not matter."""
        key = self.random.choice(_KEYS)
        called = self._now()
        question = encode_command(commands.Range.of(key))

        def ready(done: bool) -> None:
            if done and host.process is process:
                result = decode_result(_machine(host).query(question))
                self.workload.send(host, self._read, key, called, result)

        process = host.process
        assert process is not None
        process.keeper.read(ready)

    def _read(self, host: "Host", key: str, called: int, result: results.Result) -> None:
        assert isinstance(result, results.RangeResult)
        found = result.kvs[0] if result.kvs else None
        value, revision = (found.value.decode(), found.mod_revision) if found else (None, None)
        self.seen[key] = value, revision or 0
        self._note(f"reader on {host.node}", Get(key), Found(value, revision), called, self._now())

    def _note(
        self,
        process: str | int,
        asked: KeyValueInput,
        output: KeyValueOutput | None,
        called: int,
        returned: int | None,
    ) -> None:
        self.world.checks.store.history.append(Operation(process, asked, output, called, returned))

    # --- leases ---------------------------------------------------------------------------------------------

    def _grant(self) -> tuple[bytes, Then]:
        self.leases += 1
        sent = self.world.loop.now
        ttl = max(1, round(self.unit * self.random.choice((1, 2, 4))))

        def then(result: bytes | None) -> None:
            granted = None if result is None else decode_result(result)
            if not isinstance(granted, results.LeaseGrantResult):
                self.leases -= 1  # if it was granted all the same, nobody knows of it
                return
            pause = ttl * self.random.choice((0.3, 0.3, 0.97))  # some are nearly too late each time
            holder = Holder(granted.id, ttl, self.random.choice((0, 2, 5, 20)), pause)
            self.world.checks.store.holds(granted.id, held_until(sent, ttl))
            self.world.count["leases granted"] += 1
            self._attach(holder)
            self._keep_alive(holder)

        return encode_command(commands.LeaseGrant(ttl)), then

    def _attach(self, holder: Holder) -> None:
        put = encode_command(
            commands.Put(b"l%d" % self.random.randrange(4), self._new_value().encode(), holder.lease)
        )
        self.workload.send(self.workload.some_host(), self.workload.submit, put)

    def _keep_alive(self, holder: Holder) -> None:
        """Ask for another time to live, as often as it was drawn."""
        if holder.renewals == 0 or self.workload.over:
            self.leases -= 1
            return
        holder.renewals -= 1
        question = pack(LeaseKeepAlive(holder.lease))
        self.workload.send(
            self.workload.some_host(), self._ask_leader, question, self._kept_alive, self.world.loop.now
        )
        self.world.loop.at(self.world.loop.now + holder.pause, self._keep_alive, holder)

    def end_is_proposed(self, host: "Host", lease: int) -> None:
        """Have a keep-alive come at the worst moment, now and then: when the end of its lease is just proposed."""
        if self.random.random() < _TOO_LATE:
            self._ask_leader(host, pack(LeaseKeepAlive(lease)), self._kept_alive, self.world.loop.now)

    def _ask_leader(self, host: "Host", question: bytes, then: Callable[..., None], sent: float) -> None:
        """Let a leader answer, when it has made sure that it leads, and has applied everything."""
        process = host.process
        assert process is not None
        if not _machine(host).leads_in:
            return

        def ready(done: bool) -> None:
            if done and host.process is process:
                _machine(host).ask(question, lambda answer: self.workload.send(host, then, answer, sent))

        process.keeper.read(ready)

    def _kept_alive(self, _host: "Host", answer: bytes, sent: float) -> None:
        told = unpack(answer, AnyAnswer)
        if isinstance(told, LeaseKeepAliveAnswer):
            self.world.count["leases kept alive"] += 1
            self.world.checks.store.holds(told.id, held_until(sent, told.ttl))

    # --- watches --------------------------------------------------------------------------------------------

    def _watch(self, watcher: Watcher) -> None:
        """Ask some node for the next events, again if nothing comes."""
        watcher.asked += 1
        asked = WatchEvents(watcher.key, watcher.range_end, watcher.next, watcher.prev_kv, watcher.given)
        self.workload.send(self.random.choice(self._hosts_for(watcher)), self._ask_watch, watcher, asked)
        again = self.world.loop.now + self.unit * self.random.uniform(1, 3)
        self.world.loop.at(again, self._watch_again, watcher, watcher.asked)

    def _hosts_for(self, watcher: Watcher) -> "list[Host]":
        """List who may be asked: in the end those who have something to tell, since others may never be members."""
        able = [h for h in self.world.hosts if h.process and _machine(h).service.store.revision >= watcher.next]
        return (self.workload.over and able) or self.world.hosts

    def _watch_again(self, watcher: Watcher, number: int) -> None:
        if watcher.asked == number:
            self._watch(watcher)
        else:
            self.world.loop.events -= 1

    def _ask_watch(self, host: "Host", watcher: Watcher, asked: WatchEvents) -> None:
        def answered(answer: bytes) -> None:
            self.workload.send(host, self._watched, watcher, asked, answer)

        _machine(host).ask(pack(asked), answered)

    def _watched(self, _host: "Host", watcher: Watcher, asked: WatchEvents, answer: bytes) -> None:
        told = unpack(answer, AnyAnswer)
        if isinstance(told, WatchAnswer):
            self.world.checks.store.watched(asked, told)
            following = told.revision + 1, told.given
        elif isinstance(told, Refused) and told.error.oldest_revision > asked.revision:
            self.world.count["watches that were too late"] += 1
            following = told.error.oldest_revision, 0
        else:
            self.world.checks.fail(f"{asked} is answered with {told}")
        if (asked.revision, asked.given) == (watcher.next, watcher.given):  # also where it is asked again already
            watcher.next, watcher.given = following
            self._watch(watcher)


def _machine(host: "Host") -> StoreMachine:
    assert host.process is not None
    machine = host.process.keeper.machine
    assert isinstance(machine, StoreMachine)
    return machine


def _all_keys(machine: StoreMachine) -> results.RangeResult:
    found = machine.service.store.query(commands.Range(b"\0", b"\0"))
    assert isinstance(found, results.RangeResult)
    return found


def _command(asked: KeyValueInput) -> commands.Command:
    """Put what the checker knows into the store's words."""
    compare = commands.Compare
    match asked:
        case Put(key, value):
            return commands.Put.of(key, value)
        case Delete(key):
            return commands.DeleteRange.of(key)
        case Cas(key, expected, value):
            condition = compare.missing(key) if expected is None else compare.value(key, "=", expected)
            return commands.Txn((condition,), (commands.Put.of(key, value),))
        case CasRevision(key, revision, value):
            return commands.Txn((compare.mod_revision(key, "=", revision),), (commands.Put.of(key, value),))
        case Get(key):
            return commands.Range.of(key)
