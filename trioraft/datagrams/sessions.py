"""Sessions with other processes, and the choice of the process that speaks for a node id."""

import copy
import enum
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from trioraft.address import Address
from trioraft.clock import LONG_AGO
from trioraft.datagrams.replay import ReplayWindow
from trioraft.datagrams.sealing import Domain, DomainKey
from trioraft.messages import Instant, NodeId, OptionalId, OptionalNodeId
from trioraft.versions import SPOKEN, Versions

if TYPE_CHECKING:
    from trioraft.datagrams.primitives import ChaCha20Poly1305

CONFIRMATION_SECONDS: Final = 60.0
# Another address of a peer becomes its usual one only when the usual one has been silent for this long.
SILENCE_SECONDS: Final = 1.0
# A node that is sent messages all the time and answers nothing for this long is greeted: it may know this process at
# an earlier address only.
UNANSWERED_SECONDS: Final = 1.0
# A peer that has not shown yet that it has our X25519 value is greeted this often, together with messages to it.
PROOF_SECONDS: Final = 0.1
# The most sessions in each domain, and how many of them a host keeps whatever others do. Many clients may stand
# behind one host that translates addresses.
SESSIONS_MAX: Final = 1024
HOST_MAX: Final = 64
PATHS_MAX: Final = 8


@dataclass(slots=True, eq=False)
class Peer:
    """A process that has proved to be at an address. It changes as more is heard of it, and may be kept.

    Attributes
    ----------
    node_id : int
        Its node id; 0 for a client or monitor.
    process : bytes
        The random id of its process.
    domain : Domain
        The domain of the session.
    service, name : str
        Its service and its name, by its last ``Hello``.
    address : Address
        The address at which it is reached.
    cluster_id : int
        The cluster id in its last message; 0 for none.
    confirmed_at : float
        The time at which `address` was last confirmed.
    heard_at : float
        The time at which it last sent a message or confirmed its address.
    versions : Versions
        The versions of the protocol that it speaks, by its last ``Hello``.
    """

    node_id: OptionalNodeId
    process: bytes
    domain: Domain
    service: str
    name: str
    address: Address
    cluster_id: OptionalId
    confirmed_at: Instant
    heard_at: Instant
    versions: Versions = SPOKEN
    session: "Session | None" = field(default=None, repr=False)

    def is_confirmed(self, now: Instant) -> bool:
        """Check whether its address was confirmed lately.

        Parameters
        ----------
        now : float
            The time, in seconds.

        Returns
        -------
        bool
            Whether that was within the last 60 s.
        """
        return now - self.confirmed_at <= CONFIRMATION_SECONDS

    @property
    def is_sealed(self) -> bool:
        """Whether what it sends is sealed, and so comes from a holder of a key."""
        return self.session is not None and self.session.key is not None

    @property
    def addresses(self) -> tuple[Address, ...]:
        """All addresses at which it was ever confirmed, up to 8; the oldest first."""
        return tuple(self.session.paths) if self.session else (self.address,)


class Standing(enum.Enum):
    """Whether the process of a session speaks for its node id.

    ``CURRENT``: it does. ``SUPERSEDED``: another process has taken its place. ``REFUSED``: an earlier process with
    its node id is alive. ``WAITING``: it is at an address where nobody looks for a node, and the process that spoke
    for its node id before may still be alive. ``FORGOTTEN``: the session is in no table any more.
    """

    CURRENT = enum.auto()
    SUPERSEDED = enum.auto()
    REFUSED = enum.auto()
    WAITING = enum.auto()
    FORGOTTEN = enum.auto()


@dataclass(slots=True)
class Path:
    """One address of a peer.

    Attributes
    ----------
    confirmed_at : float
        The time at which it was last confirmed.
    token_there : bytes
        The token that the peer expects in unsealed datagrams.
    token_here : bytes
        The token that this process expects in the peer's.
    """

    confirmed_at: Instant
    token_there: bytes = b""
    token_here: bytes = b""


class Agreement(NamedTuple):
    """What two processes have agreed by.

    Attributes
    ----------
    fingerprint : bytes
        The fingerprint of the domain key.
    ours, theirs : bytes
        The X25519 values of this process and of the other one.
    """

    fingerprint: bytes
    ours: bytes
    theirs: bytes


class Way(NamedTuple):
    """What two processes have agreed on.

    Attributes
    ----------
    cipher : ChaCha20Poly1305
        The cipher that seals for the other process.
    start : bytes
        The beginning of every datagram to it.
    channel : bytes
        The channel by which the key to its datagrams is found.
    """

    cipher: "ChaCha20Poly1305"
    start: bytes
    channel: bytes


@dataclass(slots=True, eq=False)
class Session:
    """What is known of one other process, and shared with it, in one domain.

    Attributes
    ----------
    peer : Peer
        The part of it that users see.
    window : ReplayWindow
        The counters of its datagrams that were received.
    greetings : ReplayWindow or None
        The counters of each ``Hello`` that came in its name from an address where it is not confirmed.
    key : DomainKey or None
        The domain key that this process seals under; None in an unsealed session.
    cipher : ChaCha20Poly1305 or None
        The cipher that seals for it.
    start : bytes
        The beginning of every datagram to it.
    paths : dict
        Its addresses; the one confirmed last is last.
    standing : Standing
        Whether it speaks for its node id.
    probe : bytes
        The challenge whose echo proves that this process is alive although another one took its place.
    asked_at : float
        The time at which it was last sent a challenge outside a handshake that this process began.
    rival_since : float
        The time at which it was asked whether it is still there, because of a process elsewhere that claims to be it.
    answers_rivals : bool
        Whether it has ever answered that question.
    channels : list of bytes
        The channels by which the keys to its datagrams are found.
    ours : bytes
        The X25519 value of this process that it seals under; empty where there is none.
    theirs : tuple of bytes
        The X25519 values that the other process has shown, the newest last, at most 2; empty where it shows none.
    ways : dict
        The keys that were agreed on, by what they were agreed by.
    shown_at : int
        The counter of the ``Hello`` that has shown the newest of `theirs`.
    former_until : float
        The time until which the value before that is good.
    is_proven : bool
        Whether it has shown that it has `ours`.
    proof_wanted_at : float
        The time at which it was last greeted because it had not shown that.
    host : str
        The host at which it was confirmed last.
    sent_at, unanswered_since : float
        The time of the last message to it that was followed by nothing from it, and of the first one of those that
        were sent without a pause.
    """

    peer: Peer
    window: ReplayWindow
    key: DomainKey | None
    cipher: "ChaCha20Poly1305 | None"
    start: bytes = b""
    greetings: ReplayWindow | None = None
    paths: dict[Address, Path] = field(default_factory=dict)
    standing: Standing = Standing.CURRENT
    probe: bytes = b""
    asked_at: Instant = LONG_AGO
    rival_since: Instant = LONG_AGO
    answers_rivals: bool = False
    channels: list[bytes] = field(default_factory=list)
    sent_at: Instant = LONG_AGO
    unanswered_since: Instant = LONG_AGO
    ours: bytes = b""
    theirs: tuple[bytes, ...] = ()
    ways: dict[Agreement, Way] = field(default_factory=dict)
    shown_at: int = 0
    former_until: Instant = LONG_AGO
    is_proven: bool = False
    proof_wanted_at: Instant = LONG_AGO
    host: str = ""
    envelope: bytes = b""
    envelope_cluster: int = -1

    def is_confirmed_at(self, address: Address, now: Instant) -> bool:
        """Check whether the process has proved within the last 60 s to be at an address."""
        path = self.paths.get(address)
        return path is not None and now - path.confirmed_at <= CONFIRMATION_SECONDS

    def is_greeting_new(self, address: Address, counter: int, now: Instant) -> bool:
        """Note a sealed ``Hello`` that confirms nothing, and check whether it is to be answered.

        The peer itself is answered where it is confirmed; a process that repeats its ``Hello`` from elsewhere is not.
        A copy from elsewhere that is faster than the original counts in a window of its own, and so does not stop the
        original.
        """
        if self.is_confirmed_at(address, now):
            self.window.accept(counter)
            return True
        if self.greetings is None:
            self.greetings = ReplayWindow(0)
        return self.window.is_new(counter) and self.greetings.accept(counter)

    def answers_probe(self, echo: bytes, address: Address) -> bool:
        """Check whether an echo is that of the last probe."""
        return self.probe != b"" and echo == self.probe and address == self.peer.address

    def gives_way(self, now: Instant) -> bool:
        """Note a process elsewhere that claims to be this one, and check whether this one was silent when asked."""
        if self.peer.heard_at >= self.rival_since:
            self.answers_rivals = self.rival_since > LONG_AGO
            self.rival_since = now
        return now - self.rival_since > SILENCE_SECONDS

    def confirm_path(self, address: Address, path: Path, *, moves: bool) -> None:
        """Note that the process is at an address, and reach it there from now on if it `moves`."""
        self.paths.pop(address, None)
        self.paths[address] = path
        if len(self.paths) > PATHS_MAX:
            del self.paths[next(other for other in self.paths if other not in {address, self.peer.address})]
        self.sent_at = LONG_AGO
        if moves:
            self.peer.heard_at = path.confirmed_at
            self._move(address)

    def heard_from(self, address: Address, now: Instant) -> None:
        """Note a message from a confirmed address, and reach the peer there when its usual one has gone silent."""
        if address != self.peer.address and now - self.peer.heard_at > SILENCE_SECONDS:
            self._move(address)
        if address == self.peer.address:
            self.peer.heard_at = now
        self.sent_at = LONG_AGO

    def needs_greeting(self, now: Instant) -> bool:
        """Note that a message is sent, and check whether the peer answers nothing and is to be greeted too."""
        if now - self.sent_at > UNANSWERED_SECONDS:
            self.unanswered_since = now
        self.sent_at = now
        if now - self.unanswered_since < UNANSWERED_SECONDS:
            return False
        self.unanswered_since = now
        return True

    def needs_proof(self, now: Instant) -> bool:
        """Check whether the peer may lack our value, without which it can open nothing that is sent to it."""
        if self.is_proven or not self.theirs or now - self.proof_wanted_at < PROOF_SECONDS:
            return False
        self.proof_wanted_at = now
        return True

    def _move(self, address: Address) -> None:
        self.peer.address = address
        self.peer.confirmed_at = self.paths[address].confirmed_at


class Outcome(enum.Enum):
    """What a confirmation means: the process speaks for its node id, is to be probed, or is a second one."""

    CONFIRMED = enum.auto()
    UNPROVEN = enum.auto()
    DUPLICATE = enum.auto()


class _Table:
    """The sessions of one domain, all of them and by host, each in the order of their last confirmation."""

    def __init__(self) -> None:
        self.sessions: OrderedDict[bytes, Session] = OrderedDict()
        self._by_host: dict[str, OrderedDict[bytes, Session]] = {}

    def keep(self, session: Session) -> None:
        """Put a session at the end of its order."""
        process = session.peer.process
        self.drop(session)
        session.host = session.peer.address.host
        self.sessions[process] = session
        self._by_host.setdefault(session.host, OrderedDict())[process] = session

    def drop(self, session: Session) -> None:
        """Take a session out."""
        process = session.peer.process
        if self.sessions.pop(process, None) is not None:
            neighbours = self._by_host[session.host]
            del neighbours[process]
            if not neighbours:
                del self._by_host[session.host]

    def first_to_go(self, members: frozenset[NodeId]) -> Session | None:
        """Choose the session that has to go when there are too many; never that of a member.

        It is the oldest one of the host with the most sessions, if that host has more than each may keep, else the
        oldest of all.
        """
        crowd = max(self._by_host.values(), key=len)
        tables = [crowd, self.sessions] if len(crowd) > HOST_MAX else [self.sessions]
        for table in tables:
            for session in table.values():
                if session.standing is not Standing.CURRENT or session.peer.node_id not in members:
                    return session
        return None


class Registry:
    """All sessions; each domain has a bound of its own and keeps those that were confirmed last.

    Attributes
    ----------
    members : frozenset of int
        The nodes whose sessions are kept, however many others there are.
    forgotten : list of Session
        The sessions that were dropped.
    """

    def __init__(self) -> None:
        self._tables: tuple[_Table, ...] = tuple(_Table() for _ in Domain)
        self._holders: tuple[dict[NodeId, Session], ...] = tuple({} for _ in Domain)
        self.members: frozenset[NodeId] = frozenset()
        self.forgotten: list[Session] = []

    def find(self, domain: Domain, process: bytes) -> Session | None:
        """Find the session with a process."""
        return self._tables[domain].sessions.get(process)

    def holder(self, node_id: OptionalNodeId, domain: Domain) -> Session | None:
        """Find the session that speaks for a node id."""
        return self._holders[domain].get(node_id)

    def all(self) -> Iterator[Session]:
        """List all sessions."""
        for table in self._tables:
            yield from table.sessions.values()

    def waiting(self, node_id: OptionalNodeId, domain: Domain) -> list[Session]:
        """List the sessions that wait to speak for a node id."""
        mine = (node_id, Standing.WAITING)
        return [s for s in self._tables[domain].sessions.values() if (s.peer.node_id, s.standing) == mine]

    def current(self) -> Iterator[Session]:
        """List the sessions that speak for a node, and those of the clients."""
        for holders in self._holders:
            yield from holders.values()
        for session in self.all():
            if not session.peer.node_id:
                yield session

    def remember(self, session: Session) -> None:
        """Keep a session that was just confirmed, and drop another one where there are too many."""
        table = self._tables[session.peer.domain]
        table.keep(session)
        if len(table.sessions) > SESSIONS_MAX and (surplus := table.first_to_go(self.members)) is not None:
            self.forget(surplus)

    def forget(self, session: Session) -> None:
        """Drop a session."""
        peer = session.peer
        self._tables[peer.domain].drop(session)
        if self._holders[peer.domain].get(peer.node_id) is session:
            del self._holders[peer.domain][peer.node_id]
        session.standing = Standing.FORGOTTEN
        self.forgotten.append(session)

    def settle(self, session: Session, *, is_new: bool, is_alive: bool, now: Instant) -> tuple[Outcome, Session]:
        """Decide which process speaks for a node id, now that one of its processes was confirmed.

        A process that is seen for the first time takes the place of the one before, which is right after a restart.
        The one before gets its place back when it answers a challenge made after that: then both are alive, and the
        later one is refused until the earlier one has been silent for 60 s.

        Parameters
        ----------
        session : Session
            The session of the confirmed process, which is that of a node.
        is_new : bool
            Whether it is seen for the first time.
        is_alive : bool
            Whether it answered its own probe.
        now : float
            The time, in seconds.

        Returns
        -------
        Outcome
            What follows.
        Session
            The other session: the earlier holder with ``CONFIRMED``, the other live process with ``DUPLICATE``;
            `session` itself where there is no other.
        """
        peer = session.peer
        holders = self._holders[peer.domain]
        holder = holders.get(peer.node_id, session)
        if holder is not session and not is_new:
            lapsed = not holder.peer.is_confirmed(now)
            if session.standing is Standing.SUPERSEDED and not is_alive:
                return Outcome.UNPROVEN, holder
            if session.standing is Standing.REFUSED and not lapsed:
                return Outcome.DUPLICATE, holder
            if session.standing is Standing.SUPERSEDED and not lapsed:
                self._take_place(session, holder, Standing.REFUSED)
                return Outcome.DUPLICATE, holder
        self._take_place(session, holder, Standing.SUPERSEDED)
        return Outcome.CONFIRMED, holder

    def _take_place(self, session: Session, holder: Session, standing: Standing) -> None:
        holder.standing = standing
        session.standing = Standing.CURRENT
        session.probe = b""
        self._holders[session.peer.domain][session.peer.node_id] = session


def snapshot(peer: Peer) -> Peer:
    """Copy what is known of a peer at this moment."""
    return copy.copy(peer)
