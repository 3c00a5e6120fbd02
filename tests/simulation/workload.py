"""What clients ask: commands, some of them in sessions and again and again, reads, and changes of the settings."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from tests.simulation.late_reader import LateReader
from tests.simulation.session_clients import SessionClient
from tests.simulation.store_clients import StoreClients
from tests.simulation.trace import name
from trioraft.consensus import Role
from trioraft.datagrams.sessions import Peer
from trioraft.messages import EntryKind
from trioraft.replica.settings import ReadMode, encode_change
from trioraft.versions import added_in

if TYPE_CHECKING:
    from tests.simulation.host import Host
    from tests.simulation.simulation import Simulation

# How likely a client gives up when it is refused something, although it might ask again.
_GIVES_UP: Final = 0.2
# Of a store, which takes a small part of them: so little that few keys have room, and so much that all have.
_QUOTAS: Final = tuple(mebibytes * 2**20 for mebibytes in (4, 12, 20, 64))


class Workload:
    """All clients."""

    def __init__(self, world: "Simulation", machines: int) -> None:
        self.world = world
        self.random = world.random
        self.unit = world.profile.unit
        self.over = False
        self.commands = 0
        self.changes = 0
        self.clients = [
            SessionClient(world, machines + number, number, self.random.choice((1, 1, 4, 12)))
            for number in range(world.profile.clients)
        ]
        self.operator = SessionClient(world, machines + len(self.clients), len(self.clients), 1)
        self._by_node = {client.node: client for client in (*self.clients, self.operator)}
        self._by_process = {client.peer.process: client for client in self._by_node.values()}
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
        if self.store is not None and not self.world.profile.commands:
            self.store.begin()  # from here on there are commands
        for client in self.clients:
            self._session_command(client, at_once=client.at_once + 1)

    @property
    def _has_settings(self) -> bool:
        return self.world.profile.lease_reads or self.store is not None

    @property
    def trouble(self) -> str:
        """Whose command has not been carried out."""
        waiting = [name(client.node) for client in self.clients if client.waiting]
        if self.operator.waiting and not self._waits_for_the_lost():
            waiting.append(name(self.operator.node))
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
            for _ in range(self.random.choice((1, client.at_once))):  # what is asked at once goes in one batch
                self._session_command(client, at_once=client.at_once)
        elif dice < 0.36 and self.clients:
            self._expire(self.random.choice(self.clients))
        elif dice < 0.39 and self.clients:
            self._give_up(self.random.choice(self.clients))
        elif dice < 0.395 and self._has_settings:
            self._change_settings()
        elif dice < 0.39 + self.world.profile.reads:
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
        commands = [self._new_command() if self.store is None else self.store.command() for _ in range(number)]
        if host.process is not None:
            host.process.keeper.submit_together(commands)

    def submit(self, host: "Host", command: bytes) -> None:
        """Propose a command, if there is still somebody who would."""
        if host.process is not None:
            host.process.keeper.submit_together([command])

    def _new_command(self) -> bytes:
        self.commands += 1
        return b"%d" % self.commands + b"." * self.random.choice((0, 0, 0, 20, 200, 2000))

    # --- within a session: once, until it is answered or given up -------------------------------------------

    def client(self, node: int) -> SessionClient:
        """Return the client that is at an address."""
        return self._by_node[node]

    def client_at(self, peer: Peer) -> SessionClient:
        """Return the client that is a peer."""
        return self._by_process[peer.process]

    def _session_command(self, client: SessionClient, *, at_once: int) -> None:
        if client.waiting >= at_once:
            return
        if self.store is None:
            command = self._new_command()
            client.propose(command, lambda result: self._has_result(command, result))
        else:
            command, then = self.store.session_command(client.number)

            def note(result: bytes | None) -> None:
                if command in self.world.checks.log.carried:  # not every one of the store is the only one of its kind
                    self._has_result(command, result)
                then(result)

            client.propose(command, note)

    def _has_result(self, command: bytes, result: bytes | None) -> None:
        """Check that a command has the result that it had first."""
        if result is not None and result != self.world.checks.log.carried[command][1]:
            self.world.checks.fail(f"{command[:20]!r} has another result than before")

    def refused(self, client: SessionClient) -> None:
        """Let a client give up, now and then, when it was refused something: what it is told then is worth most."""
        if client is not self.operator and self.random.random() < _GIVES_UP:
            self._give_up(client)

    def _give_up(self, client: SessionClient) -> None:
        if client.waiting and not self.over:
            command = client.give_up()
            if command is not None and self.store is None:
                self.world.checks.log.never(command)

    def _change_settings(self) -> None:
        """Let reads go by the lease, most often, or ask a quorum again; and give a store another quota."""
        if self.operator.waiting:
            return
        change: dict[str, str | int] = {}
        if self.world.profile.lease_reads:
            asks = self.changes > 0 and self.random.random() < 0.3
            change["reads"] = ReadMode.QUORUM if asks else ReadMode.LEASE
        if self.store is not None:
            change["quota"] = self.random.choice(_QUOTAS)
        self.changes += 1
        wanted = encode_change(**change)

        def note(settings: bytes | None) -> None:
            if settings not in {wanted, None}:
                self.world.checks.fail(f"the settings are {settings!r} after they were changed to {wanted!r}")

        self.operator.propose(wanted, note, changes_settings=True)

    def _expire(self, client: SessionClient) -> None:
        """End a session: its client does so, or the leader finds that it has been silent for too long."""
        if client.session and self.random.random() < 0.5:
            self.send(self.some_host(), self._end_session, client.session)
        elif client.session:
            client.close()

    def _end_session(self, host: "Host", session: int) -> None:
        assert host.process is not None
        host.process.keeper.submit(EntryKind.END_SESSION, session.to_bytes(8, "big"), lambda _: None)
