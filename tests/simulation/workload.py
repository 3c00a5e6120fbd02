"""What clients ask: commands, some of them in sessions and again and again, reads, and changes of the settings."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import cbor2

from tests.simulation.late_reader import LateReader
from tests.simulation.store_clients import StoreClients
from trioraft.consensus import Role
from trioraft.messages import EntryKind, Refusal
from trioraft.replica.sessions import Result
from trioraft.replica.settings import ReadMode, encode_change
from trioraft.versions import added_in

if TYPE_CHECKING:
    from tests.simulation.host import Host
    from tests.simulation.simulation import Simulation

# Of a store, which takes a small part of them: so little that few keys have room, and so much that all have.
_QUOTAS: Final = tuple(mebibytes * 2**20 for mebibytes in (4, 12, 20, 64))


@dataclass(slots=True)
class Call:
    """One command of a session client, sent again until it is answered; number 0 opens the session."""

    client: "Client"
    number: int
    command: bytes = b""
    kind: EntryKind = EntryKind.SESSION_COMMAND
    then: Callable[[Result | None], None] = lambda _: None
    done: bool = False

    def end(self, result: Result | None) -> None:
        """Be answered, or never any more."""
        if not self.done:
            self.done = True
            self.then(result)


@dataclass(slots=True)
class Client:
    """A client with a session, and what it waits for."""

    id: int
    at_once: int
    session: int = 0
    last: int = 0
    waiting: dict[int, Call] = field(default_factory=dict)

    @property
    def answered_below(self) -> int:
        """No command before this one is waited for."""
        return min(self.waiting, default=self.last + 1)


class Workload:
    """All clients."""

    def __init__(self, world: "Simulation") -> None:
        self.world = world
        self.random = world.random
        self.unit = world.profile.unit
        self.over = False
        self.commands = 0
        self.leader: Host | None = None
        self.clients = [Client(number, self.random.choice((1, 1, 4))) for number in range(world.profile.clients)]
        self.operator = Client(-1, 1)
        self.store = StoreClients(world, self) if world.profile.store else None

    def begin(self) -> None:
        """Begin to ask."""
        if self.world.profile.commands:
            self._arrange()
            if self.store is not None:
                self.store.begin()
            if self._has_settings:
                self._change_settings()
            if self.world.profile.lease_reads:
                LateReader(self.world).look()

    def end(self) -> None:
        """Ask for one more command of each client, and wait for all answers."""
        self.over = True
        for client in self.clients:
            self._session_command(client, at_once=client.at_once + 1)

    @property
    def _has_settings(self) -> bool:
        return self.world.profile.lease_reads or self.store is not None

    @property
    def trouble(self) -> str:
        """Whose command has not been carried out."""
        waiting = [client.id for client in self.clients if client.waiting]
        if self.operator.waiting and not self._waits_for_the_lost():
            waiting.append(self.operator.id)
        return f"the clients {waiting} wait for their commands" if waiting else ""

    def _waits_for_the_lost(self) -> bool:
        """Tell whether settings cannot be changed: only members that are there can show that they are new enough."""
        leading = [h.process.core for h in self.world.hosts if h.process and h.process.core.role is Role.LEADER]
        return any(
            core.version < added_in(EntryKind.SETTINGS) and any(map(self.world.is_lost, core.configuration.members))
            for core in leading
        )

    def _arrange(self) -> None:
        pause = self.random.expovariate(self.world.profile.commands / self.unit)
        self.world.loop.at(self.world.loop.now + pause, self._act)

    def _act(self) -> None:
        if self.over:
            return
        dice = self.random.random()
        if dice < 0.35 and self.clients:
            client = self.random.choice(self.clients)
            self._session_command(client, at_once=client.at_once)
        elif dice < 0.36 and self.clients:
            self._expire(self.random.choice(self.clients))
        elif dice < 0.365 and self._has_settings:
            self._change_settings()
        elif dice < 0.36 + self.world.profile.reads:
            self.send(self.some_host(), self._read)
        else:
            self.send(self.some_host(), self._burst, self.random.choice((1, 1, 2, 5, 30)))
        self._arrange()

    # --- the way there and back -----------------------------------------------------------------------------

    def some_host(self) -> "Host":
        """Draw whom to ask: most often one that takes itself for the leader."""
        leading = [h for h in self.world.hosts if h.process is not None and h.process.core.role is Role.LEADER]
        return self.random.choice(leading if leading and self.random.random() < 0.9 else self.world.hosts)

    def send(self, host: "Host", what: Callable[..., None], *arguments: object) -> None:
        """Carry a request to a node, or its answer back; or not."""
        weather = self.world.network.weather
        if self.random.random() >= weather.loss:
            delay = weather.delay * (0.5 + self.random.random())
            self.world.loop.at(self.world.loop.now + delay, self._arrive, host, what, arguments)

    def _arrive(self, host: "Host", what: Callable[..., None], arguments: tuple[object, ...]) -> None:
        process = host.process
        if process is None:
            return
        if process.paused:
            process.inbox.append((self._arrive, (host, what, arguments)))
        else:
            what(host, *arguments)

    # --- without a session: once, or not at all -------------------------------------------------------------

    def _read(self, host: "Host") -> None:
        assert host.process is not None
        if self.store is not None:
            self.store.read(host)
        else:
            host.process.keeper.read(lambda _: None)

    def _burst(self, host: "Host", number: int) -> None:
        for _ in range(number):
            self.submit(host, self._new_command() if self.store is None else self.store.command())

    def submit(self, host: "Host", command: bytes) -> None:
        """Propose a command, if there is still somebody who would."""
        if host.process is not None:
            host.process.keeper.submit(EntryKind.COMMAND, command, lambda _: None)

    def _new_command(self) -> bytes:
        self.commands += 1
        return b"%d" % self.commands + b"." * self.random.choice((0, 0, 0, 20, 200, 2000))

    # --- within a session: until it is answered, and once ---------------------------------------------------

    def _session_command(self, client: Client, *, at_once: int) -> None:
        if not client.session:
            if 0 not in client.waiting:
                self._begin_call(Call(client, 0))
        elif len(client.waiting) < at_once:
            client.last += 1
            if self.store is None:
                self._begin_call(Call(client, client.last, self._new_command()))
            else:
                command, then = self.store.session_command(client.id)
                self._begin_call(Call(client, client.last, command, then=then))

    def _change_settings(self) -> None:
        """Let reads go by the lease, most often, or ask a quorum again; and give a store another quota."""
        operator = self.operator
        if not operator.session:
            if 0 not in operator.waiting:
                self._begin_call(Call(operator, 0))
        elif not operator.waiting:
            operator.last += 1
            change: dict[str, str | int] = {}
            if self.world.profile.lease_reads:
                asks = operator.last > 1 and self.random.random() < 0.3
                change["reads"] = ReadMode.QUORUM if asks else ReadMode.LEASE
            if self.store is not None:
                change["quota"] = self.random.choice(_QUOTAS)
            self._begin_call(Call(operator, operator.last, encode_change(**change), EntryKind.SETTINGS))

    def _begin_call(self, call: Call) -> None:
        call.client.waiting[call.number] = call
        self._try(call)

    def _try(self, call: Call) -> None:
        if call.done:
            self.world.loop.events -= 1
            return
        host = self.leader if self.leader is not None and self.random.random() < 0.8 else self.some_host()
        self.send(host, self._propose, call)
        self.world.loop.at(self.world.loop.now + self.unit * self.random.uniform(0.2, 1.0), self._try, call)

    def _propose(self, host: "Host", call: Call) -> None:
        assert host.process is not None
        core = host.process.core
        if core.role is not Role.LEADER:
            self.leader = self.world.host_of(core.leader) if core.leader else None
            return
        client = call.client
        kind, data = EntryKind.OPEN_SESSION, b""
        if call.number:
            command = [client.session, call.number, client.answered_below, call.command]
            kind, data = call.kind, cbor2.dumps(command)
        host.process.keeper.submit(kind, data, lambda result: self.send(host, self._answered, call, result))

    def _answered(self, _host: "Host", call: Call, result: Result | None) -> None:
        if call.done or result is None:
            return
        client = call.client
        if not call.number:
            client.session = result.session
            client.last = 0
        elif result.code == Refusal.SESSION_ENDED:
            client.session = 0
        elif result.refused:
            self.world.checks.fail(f"command {call.number} of session {client.session} is refused: {result.refused}")
        elif result.data != self._expected(call, result.data):
            self.world.checks.fail(
                f"command {call.number} of session {client.session} has another result than before"
            )
        else:
            self.world.count["session commands answered"] += 1
        call.end(None if result.refused else result)
        client.waiting.pop(call.number, None)
        if client is self.operator and not call.number:
            self._change_settings()
        if not client.session:
            waiting = list(client.waiting.values())
            client.waiting.clear()
            for other in waiting:
                other.end(None)

    def _expected(self, call: Call, data: bytes) -> bytes:
        """Give the result that a command must have: what it had first, or the settings after it."""
        if call.kind is EntryKind.SETTINGS:
            return call.command
        if self.store is not None and call.command not in self.world.checks.log.carried:
            return data  # not every command of the store is the only one of its kind
        return self.world.checks.log.carried[call.command][1]

    def _expire(self, client: Client) -> None:
        """Let the leader find that a session has been silent for too long."""
        if client.session:
            self.send(self.some_host(), self._end_session, client.session)

    def _end_session(self, host: "Host", session: int) -> None:
        assert host.process is not None
        host.process.keeper.submit(EntryKind.END_SESSION, session.to_bytes(8, "big"), lambda _: None)
