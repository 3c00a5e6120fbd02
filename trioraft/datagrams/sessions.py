"""Whom this process has sessions with, and which of several processes holds a node id."""

import copy
import enum
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from trioraft.address import Address
from trioraft.clock import LONG_AGO
from trioraft.datagrams.replay import ReplayWindow
from trioraft.datagrams.sealing import Domain, DomainKey
from trioraft.versions import SPOKEN, Versions

CONFIRMATION_SECONDS: Final = 60.0
# An address that a peer was heard from takes over only when its usual one has been silent for so long.
SILENCE_SECONDS: Final = 1.0
# A node that does not answer for so long what is sent to it all the time is greeted: our address may be another now.
UNANSWERED_SECONDS: Final = 1.0
# Who has not shown that it knows our X25519 value is greeted so often while we have something to say.
PROOF_SECONDS: Final = 0.1
# In each domain. A host keeps so many at least, whatever others do; more may be behind one that translates addresses.
SESSIONS_MAX: Final = 1024
HOST_MAX: Final = 64
PATHS_MAX: Final = 8


@dataclass(slots=True, eq=False)
class Peer:
    """Somebody who has proved to be at an address. It changes as more is heard; keep it for as long as you like.

    Attributes
    ----------
    node_id : int
        Its node id, 0 for a client or monitor.
    process : bytes
        The random id of its process.
    domain : Domain
        What the session is for.
    service, name : str
        What its last ``Hello`` said.
    address : Address
        Where it is reached.
    cluster_id : int
        The cluster id in its last message, 0 for none.
    confirmed_at : float
        When `address` was last confirmed, in seconds.
    heard_at : float
        When it last sent a message or confirmed its address, in seconds.
    versions : Versions
        Which versions of the protocol its last ``Hello`` said that it speaks.
    """

    node_id: int
    process: bytes
    domain: Domain
    service: str
    name: str
    address: Address
    cluster_id: int
    confirmed_at: float
    heard_at: float
    versions: Versions = SPOKEN
    session: "Session | None" = field(default=None, repr=False)

    def is_confirmed(self, now: float) -> bool:
        """Tell whether its address was confirmed lately.

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
        """Whether what it sends is sealed, and so comes from somebody who has a key."""
        return self.session is not None and self.session.key is not None

    @property
    def addresses(self) -> tuple[Address, ...]:
        """All addresses at which it was ever confirmed, up to 8; the oldest first."""
        return tuple(self.session.paths) if self.session else (self.address,)


class Standing(enum.Enum):
    """What a session is good for.

    ``CURRENT`` it speaks for its node id; ``SUPERSEDED`` another process has taken its place; ``REFUSED`` an
    earlier process with its node id is alive; ``WAITING`` it is where nobody looks for a node, and whoever spoke for
    its node id before may still be alive; ``FORGOTTEN`` it is in no table any more.
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
        When it was last confirmed, in seconds.
    token_there : bytes
        The token that the peer wants to see in unsealed datagrams.
    token_here : bytes
        The token that we gave it.
    """

    confirmed_at: float
    token_there: bytes = b""
    token_here: bytes = b""


class Way(NamedTuple):
    """What was agreed by one X25519 value of each side.

    Attributes
    ----------
    cipher : ChaCha20Poly1305
        What seals for the other side.
    start : bytes
        The beginning of every datagram to it.
    channel : bytes
        The channel under which what it seals is looked up.
    """

    cipher: ChaCha20Poly1305
    start: bytes
    channel: bytes


@dataclass(slots=True, eq=False)
class Session:
    """What is known of, and shared with, one process in one domain.

    Attributes
    ----------
    peer : Peer
        Its public part.
    window : ReplayWindow
        The counters seen from it.
    greetings : ReplayWindow or None
        The counters of each ``Hello`` that came, as its own, from where it is not confirmed.
    key : DomainKey or None
        What we seal under, None in an unsealed session.
    cipher : ChaCha20Poly1305 or None
        What seals for it.
    start : bytes
        The beginning of every datagram to it.
    paths : dict
        Its addresses; the one confirmed last is last.
    standing : Standing
        What it is good for.
    probe : bytes
        The challenge that would prove that this process is alive although another took its place.
    asked_at : float
        When it was last sent a challenge outside a handshake of ours, in seconds.
    rival_since : float
        When it was asked, because of somebody elsewhere who says to be it, whether it is still there.
    answers_rivals : bool
        Whether it has ever answered that.
    channels : list of bytes
        Under which channels its datagrams are looked up.
    ours : bytes
        The X25519 value of this process under which we seal; empty where there is none.
    theirs : tuple of bytes
        The X25519 values that it has shown, the newest last, at most 2; empty where it shows none.
    ways : dict
        What was agreed, by the fingerprint of the domain key, our value, and its value.
    shown_at, former_until : int, float
        The counter of the ``Hello`` that has shown its newest value, and until when the one before is good.
    is_proven : bool
        Whether it has shown that it knows our value.
    proof_wanted_at : float
        When it was greeted because it had not shown that.
    host : str
        From where it was confirmed last.
    sent_at, unanswered_since : float
        When the last message was sent that nothing was heard after, and the first of those without a pause.
    """

    peer: Peer
    window: ReplayWindow
    key: DomainKey | None
    cipher: ChaCha20Poly1305 | None
    start: bytes = b""
    greetings: ReplayWindow | None = None
    paths: dict[Address, Path] = field(default_factory=dict)
    standing: Standing = Standing.CURRENT
    probe: bytes = b""
    asked_at: float = LONG_AGO
    rival_since: float = LONG_AGO
    answers_rivals: bool = False
    channels: list[bytes] = field(default_factory=list)
    sent_at: float = LONG_AGO
    unanswered_since: float = LONG_AGO
    ours: bytes = b""
    theirs: tuple[bytes, ...] = ()
    ways: dict[tuple[bytes, bytes, bytes], Way] = field(default_factory=dict)
    shown_at: int = 0
    former_until: float = LONG_AGO
    is_proven: bool = False
    proof_wanted_at: float = LONG_AGO
    host: str = ""
    envelope: bytes = b""
    envelope_cluster: int = -1

    def is_confirmed_at(self, address: Address, now: float) -> bool:
        """Tell whether the process has proved within the last 60 s to be at an address."""
        path = self.paths.get(address)
        return path is not None and now - path.confirmed_at <= CONFIRMATION_SECONDS

    def is_greeting_new(self, address: Address, counter: int, now: float) -> bool:
        """Tell whether a sealed ``Hello`` that confirms nothing is to be answered.

        Whoever repeats one from elsewhere is not answered; the peer itself is, where it is confirmed. A copy from
        elsewhere that is faster than the original has a window of its own, and so does not stop the original.
        """
        if self.is_confirmed_at(address, now):
            self.window.accept(counter)
            return True
        if self.greetings is None:
            self.greetings = ReplayWindow(0)
        return self.window.is_new(counter) and self.greetings.accept(counter)

    def answers_probe(self, echo: bytes, address: Address) -> bool:
        """Tell whether an echo is that of the last probe."""
        return self.probe != b"" and echo == self.probe and address == self.peer.address

    def gives_way(self, now: float) -> bool:
        """Note that somebody elsewhere says to be this one; tell whether this one was silent when it was asked."""
        if self.peer.heard_at >= self.rival_since:
            self.answers_rivals = self.rival_since > LONG_AGO
            self.rival_since = now
        return now - self.rival_since > SILENCE_SECONDS

    def confirm_path(self, address: Address, path: Path, *, moves: bool) -> None:
        """Note that the process is at an address; reach it there from now on, if it `moves`."""
        self.paths.pop(address, None)
        self.paths[address] = path
        if len(self.paths) > PATHS_MAX:
            del self.paths[next(other for other in self.paths if other not in {address, self.peer.address})]
        self.sent_at = LONG_AGO
        if moves:
            self.peer.heard_at = path.confirmed_at
            self._move(address)

    def heard_from(self, address: Address, now: float) -> None:
        """Note a message from a confirmed address; reach the peer there when its usual one has gone silent."""
        if address != self.peer.address and now - self.peer.heard_at > SILENCE_SECONDS:
            self._move(address)
        if address == self.peer.address:
            self.peer.heard_at = now
        self.sent_at = LONG_AGO

    def needs_greeting(self, now: float) -> bool:
        """Note that a message is sent; tell whether the peer, which answers nothing, is to be greeted with it."""
        if now - self.sent_at > UNANSWERED_SECONDS:
            self.unanswered_since = now
        self.sent_at = now
        if now - self.unanswered_since < UNANSWERED_SECONDS:
            return False
        self.unanswered_since = now
        return True

    def needs_proof(self, now: float) -> bool:
        """Tell whether the peer may not know our value, so that nothing opens that is sent to it."""
        if self.is_proven or not self.theirs or now - self.proof_wanted_at < PROOF_SECONDS:
            return False
        self.proof_wanted_at = now
        return True

    def _move(self, address: Address) -> None:
        self.peer.address = address
        self.peer.confirmed_at = self.paths[address].confirmed_at


class Outcome(enum.Enum):
    """What the confirmation of a process means: it speaks for its node id, is to be probed, or is a second one."""

    CONFIRMED = enum.auto()
    UNPROVEN = enum.auto()
    DUPLICATE = enum.auto()


class _Table:
    """The sessions of one domain, the one confirmed last at the end; the same by the address of the other host."""

    def __init__(self) -> None:
        self.sessions: OrderedDict[bytes, Session] = OrderedDict()
        self._by_host: dict[str, OrderedDict[bytes, Session]] = {}

    def keep(self, session: Session) -> None:
        """Put a session at the end."""
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

    def first_to_go(self, members: frozenset[int]) -> Session | None:
        """Choose which one has to go when there are too many: never that of a member.

        It is the oldest one from the host that has most, if that has more than each may have.
        """
        crowd = max(self._by_host.values(), key=len)
        tables = [crowd, self.sessions] if len(crowd) > HOST_MAX else [self.sessions]
        for table in tables:
            for session in table.values():
                if session.standing is not Standing.CURRENT or session.peer.node_id not in members:
                    return session
        return None


class Registry:
    """All sessions, bounded in each domain by itself: the ones confirmed last are kept.

    Attributes
    ----------
    members : frozenset of int
        Nodes whose sessions nobody else's take the place of.
    forgotten : list of Session
        Sessions that were dropped.
    """

    def __init__(self) -> None:
        self._tables: tuple[_Table, ...] = tuple(_Table() for _ in Domain)
        self._holders: tuple[dict[int, Session], ...] = tuple({} for _ in Domain)
        self.members: frozenset[int] = frozenset()
        self.forgotten: list[Session] = []

    def find(self, domain: Domain, process: bytes) -> Session | None:
        """Find the session with a process."""
        return self._tables[domain].sessions.get(process)

    def holder(self, node_id: int, domain: Domain) -> Session | None:
        """Give the session that speaks for a node id."""
        return self._holders[domain].get(node_id)

    def all(self) -> Iterator[Session]:
        """Give every session."""
        for table in self._tables:
            yield from table.sessions.values()

    def waiting(self, node_id: int, domain: Domain) -> list[Session]:
        """Give the sessions that wait to speak for a node id."""
        mine = (node_id, Standing.WAITING)
        return [s for s in self._tables[domain].sessions.values() if (s.peer.node_id, s.standing) == mine]

    def current(self) -> Iterator[Session]:
        """Give every session that speaks for a node, and those of the clients."""
        for holders in self._holders:
            yield from holders.values()
        for session in self.all():
            if not session.peer.node_id:
                yield session

    def remember(self, session: Session) -> None:
        """Keep a session that was just confirmed, and forget another one where there are too many."""
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

    def settle(self, session: Session, *, is_new: bool, is_alive: bool, now: float) -> tuple[Outcome, Session]:
        """Decide who speaks for a node id, now that one of its processes was confirmed.

        A process that is seen for the first time takes the place of the one before, which is right after a
        restart. The one before gets it back when it answers a challenge made after that: then both live, and the
        later one is refused until the earlier one has been silent for 60 s.

        Parameters
        ----------
        session : Session
            The confirmed one; not of a client.
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
    """Copy what is known of a peer now."""
    return copy.copy(peer)
