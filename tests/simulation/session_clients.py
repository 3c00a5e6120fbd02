"""Programs that ask: the real sessions and requests of clients, on the simulated network.

What a client is told decides whether somebody believes that a command was carried out, so it is looked at from both
ends: a result is the one that the command had first, a session loses and doubles nothing, and what was "not
proposed" never happens.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.simulation.trace import name
from trioraft.address import Address
from trioraft.asking.calls import Calls
from trioraft.asking.session import Proposal, Session
from trioraft.clock import NEVER
from trioraft.datagrams.sealing import Domain
from trioraft.datagrams.sessions import Peer
from trioraft.errors import LimitError, ProposalError, SessionEndedError
from trioraft.messages import ClientRequest, ClientResponse

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

# Told the result of a command; None when nobody knows whether it was carried out.
Then = Callable[[bytes | None], None]

# The requests of each client are numbered in a range of its own, so that a trace shows whose they are.
_NUMBERS: Final = 10**6


class UnderWay(NamedTuple):
    """A command that a client waits for."""

    command: bytes
    then: Then
    proposal: Proposal


class SessionClient:
    """A client with a session, and what it waits for; a machine on the network.

    Parameters
    ----------
    world : Simulation
        Where it lives.
    index : int
        Its place among all machines.
    number : int
        Its place among the clients.
    at_once : int
        How many commands it has under way at most.
    """

    def __init__(self, world: "Simulation", index: int, number: int, at_once: int) -> None:
        self.world = world
        self.index = index
        self.number = number
        self.at_once = at_once
        self.node = -1 - number  # nodes are numbered upwards
        self.peer = Peer(
            node_id=0,
            process=b"client %d" % number,
            domain=Domain.ADMIN,
            service="",
            name=name(self.node),
            address=Address(f"10.0.1.{number + 1}", 7300),
            cluster_id=0,
            confirmed_at=0.0,
            heard_at=0.0,
        )
        self._calls = Calls(self, self._clock, self._soon, first=_NUMBERS * (number + 1))
        self._session = Session(self._calls, self._clock)
        self._wakes_at = NEVER
        self._asked = 0
        self._under_way: dict[int, UnderWay] = {}
        self._has_key = world.random.random() < 0.5
        self._came: set[tuple[int, int, float]] = set()  # datagrams: node, request (below 0 an answer), when sent

    def _clock(self) -> float:
        return self.world.loop.now

    # --- what it wants --------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """How many commands are under way."""
        return len(self._under_way)

    @property
    def session(self) -> int:
        """The number of its session; 0 while none is open."""
        return self._session.number

    def propose(self, command: bytes, then: Then, *, changes_settings: bool = False) -> None:
        """Have a command carried out once, or a change of the settings."""
        self._asked += 1
        asked = self._asked

        def done(outcome: bytes | ProposalError) -> None:
            del self._under_way[asked]
            if isinstance(outcome, ProposalError):
                self._failed(command, outcome)
                then(None)
            else:
                self.world.count["session commands answered"] += 1
                then(outcome)

        proposal = self._session.propose(command, done, changes_settings=changes_settings)
        self._under_way[asked] = UnderWay(command, then, proposal)

    def _failed(self, command: bytes, error: ProposalError) -> None:
        if isinstance(error, SessionEndedError):
            self.world.count["session commands that nobody knows of"] += 1
        elif isinstance(error, LimitError):  # the ends of earlier sessions were lost on their way
            self.world.count["session commands refused by a limit"] += 1
        else:
            self.world.checks.fail(f"{command[:20]!r} of {name(self.node)} has no result: {error}")

    def give_up(self) -> bytes | None:
        """Wait no longer for the oldest command; return it if it is certain that it never will be carried out."""
        command, then, proposal = self._under_way.pop(next(iter(self._under_way)))
        known = self._session.give_up(proposal)
        self.world.turn(f"{name(self.node)} gives up {command[:20]!r}: {known}")
        self.world.count[f"session commands given up, {known.partition(':')[0]}"] += 1
        then(None)
        # Without a key, no datagram is known again: one that comes twice may be refused and carried out.
        return command if known.startswith("not proposed: ") and self._has_key else None

    def close(self) -> None:
        """End the session; what is under way in it fails, and what comes then is in another one."""
        self._session.close()

    # --- how it asks ----------------------------------------------------------------------------------------

    def send_request(self, node: int, request: ClientRequest) -> bool:
        """Send a request to a node."""
        host = self.world.host_of(node)
        if host is not None:
            self.world.network.send(self, host, node, 0, request)
        return host is not None

    def reachable_nodes(self) -> list[int]:
        """List all nodes."""
        return [host.node for host in self.world.hosts]

    def highest_version(self, node: int) -> int:
        """Return the highest version that a node speaks, or will when it is started again."""
        host = self.world.host_of(node)
        return host.versions.highest if host is not None else 0

    def meet(self, node: int, address: str) -> None:
        """Do nothing: it can reach all nodes."""

    def is_new(self, node: int, request: ClientRequest, sent: float) -> bool:
        """Check whether a node takes a datagram that arrives; one that is sealed is taken once."""
        return self._takes((node, request.request, sent))

    def _takes(self, datagram: tuple[int, int, float]) -> bool:
        if self._has_key and datagram in self._came:
            return False
        self._came.add(datagram)
        return True

    def arrive(self, receiver: int, sender: int, cluster: int, message: object, sent: float) -> None:
        """Take an answer."""
        assert isinstance(message, ClientResponse)
        self.world.trace.message(self.world.loop.now, sent, sender, receiver, message, "")
        if not self._takes((sender, -message.request, sent)):
            return
        self._calls.receive(sender, message)
        if not message.done:
            self.world.workload.refused(self)

    # --- time -----------------------------------------------------------------------------------------------

    def _soon(self) -> None:
        self._wake_at(self._clock())

    def _wake_at(self, when: float) -> None:
        if when < self._wakes_at:
            self._wakes_at = when
            self.world.loop.at(when, self._turn, when)

    def _turn(self, when: float) -> None:
        """Send what is due; that is not counted as an event."""
        self.world.loop.events -= 1
        if when != self._wakes_at:
            return
        self._wakes_at = NEVER
        now = self._clock()
        self._session.handle_timer(now)
        self._calls.handle_timer(now)
        self._wake_at(max(now, min(self._session.next_deadline(), self._calls.next_deadline())))
