"""The choice of keys: which one opens a sealed datagram, and which one seals for a session.

Two processes that have each shown an X25519 value agree on keys for every pair of those values. A process seals under
the newest value that the other one has shown, and under the newest of its own that the other one is known to have. So
both change to new values without losing what is on its way, even when a ``Hello`` is lost.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from trioraft.clock import LONG_AGO
from trioraft.datagrams import headers
from trioraft.datagrams.ephemerals import KEPT_SECONDS, Ephemerals
from trioraft.datagrams.headers import MalformedError, Sealed
from trioraft.datagrams.keys import KeyRing
from trioraft.datagrams.sealing import EPHEMERAL_BYTES, DomainKey, Side
from trioraft.datagrams.sessions import Agreement, Registry, Session, Way
from trioraft.messages import Instant

if TYPE_CHECKING:
    from trioraft.datagrams.primitives import ChaCha20Poly1305

# Of this many processes whose sessions were dropped the keys are kept, so that what they send still opens and they
# can be asked to shake hands again.
FORMER_MAX: Final = 1024


class Opener(NamedTuple):
    """The key to the datagrams of one channel.

    Attributes
    ----------
    session : Session or None
        The session that they belong to; None where there is none, or none any more.
    cipher : ChaCha20Poly1305
        The cipher that opens them.
    key : DomainKey
        The domain key that the cipher is derived from.
    ours : bytes
        The value of this process that the cipher is derived from too; empty where there is none.
    """

    session: Session | None
    cipher: "ChaCha20Poly1305"
    key: DomainKey
    ours: bytes = b""


class Channels:
    """The ciphers of all sessions of one process.

    Parameters
    ----------
    keys : KeyRing
        The keys of this process.
    process : bytes
        The random id of this process.
    ephemerals : Ephemerals
        Its X25519 values.
    registry : Registry
        Its sessions.
    """

    def __init__(self, keys: KeyRing, process: bytes, ephemerals: Ephemerals, registry: Registry) -> None:
        self._keys = keys
        self._process = process
        self._ephemerals = ephemerals
        self._registry = registry
        self._openers: dict[bytes, Opener] = {}
        self._former: OrderedDict[tuple[int, bytes], dict[bytes, Opener]] = OrderedDict()
        self._look_at = LONG_AGO

    # --- opening --------------------------------------------------------------------------------------------

    def find(self, parsed: Sealed) -> Opener | None:
        """Find the key to a datagram.

        Parameters
        ----------
        parsed : Sealed
            The datagram, which is no ``Hello``.

        Returns
        -------
        Opener or None
            The key that may open it; None when no key that is known can.
        """
        opener = self._openers.get(parsed.channel)
        if opener is not None:
            return opener
        key = self._keys.find(parsed.fingerprint)
        if key is None:
            return None
        session = self._registry.find(key.domain, parsed.process)
        if parsed.is_named:
            if session is None:
                return self._former.get((int(key.domain), parsed.process), {}).get(parsed.channel)
            self._agree_on_all(session, key)
            return self._openers.get(parsed.channel)
        if session is None:
            return Opener(None, key.session_cipher(parsed.process, self._process), key)
        if session.theirs:  # it has agreed on a better key
            return None
        session.channels.append(parsed.channel)
        opener = self._openers[parsed.channel] = Opener(
            session, key.session_cipher(parsed.process, self._process), key
        )
        return opener

    def used(self, session: Session, ours: bytes) -> None:
        """Note that a peer has used a value of this process, and so has it.

        Parameters
        ----------
        session : Session
            The peer's session.
        ours : bytes
            The value.
        """
        if ours == session.ours:
            session.is_proven = True
        elif ours == self._ephemerals.public:
            session.ours, session.is_proven = ours, True
            self._seal(session)

    # --- what is shown in a Hello ---------------------------------------------------------------------------

    def check_untrusted(self, session: Session | None, value: bytes) -> None:
        """Check that an X25519 value can be agreed with.

        Parameters
        ----------
        session : Session or None
            The session of the process that shows it; None where there is none yet.
        value : bytes
            The value; empty where none is shown.

        Raises
        ------
        MalformedError
            If it has another size, or is a point of low order, with which everybody would know the shared secret.
        """
        if not value or (session is not None and value in session.theirs):
            return
        if len(value) != EPHEMERAL_BYTES:
            raise MalformedError("an ephemeral value has another size")
        try:
            self._ephemerals.agree(self._ephemerals.public, value)
        except ValueError as error:
            raise MalformedError("an ephemeral value is of low order") from error

    def shown(self, session: Session, value: bytes, counter: int, now: Instant) -> None:
        """Change to the value that a peer has shown in a ``Hello`` with a fresh echo.

        Parameters
        ----------
        session : Session
            The peer's session.
        value : bytes
            The value, which was checked; nothing changes where it is empty.
        counter : int
            The number of the datagram; a value in an earlier datagram that comes late does not count.
        now : float
            The time in seconds.
        """
        if not value or (session.theirs and value == session.theirs[-1]) or counter < session.shown_at:
            return
        if session.theirs:
            self._look_at = min(self._look_at, now + KEPT_SECONDS)
        else:
            self._drop(session, list(session.channels))
            self._former.pop((int(session.peer.domain), session.peer.process), None)
            session.ours, session.proof_wanted_at = self._ephemerals.public, now
        session.theirs = (*(earlier for earlier in session.theirs[-1:]), value)
        session.shown_at, session.former_until = counter, now + KEPT_SECONDS
        self._seal(session)

    def _seal(self, session: Session) -> None:
        """Make a session seal under the newest values."""
        key = session.key
        if key is None:
            return
        ours, theirs = session.ours, session.theirs[-1]
        way = session.ways.get(Agreement(key.fingerprint, ours, theirs)) or self._agree(session, key, ours, theirs)
        session.cipher, session.start = way.cipher, way.start

    def _agree_on_all(self, session: Session, key: DomainKey) -> None:
        for ours in self._ephemerals.all:
            for theirs in session.theirs:
                if Agreement(key.fingerprint, ours, theirs) not in session.ways:
                    self._agree(session, key, ours, theirs)

    def _agree(self, session: Session, key: DomainKey, ours: bytes, theirs: bytes) -> Way:
        shared = self._ephemerals.agree(ours, theirs)
        process = session.peer.process
        here, there = Side(self._process, ours), Side(process, theirs)
        seals = key.agreed_cipher(shared, here, there)
        opens = key.agreed_cipher(shared, there, here)
        channel = headers.named_channel(key.fingerprint, process, opens.name)
        start = headers.named_start(key.fingerprint, self._process, seals.name)
        way = session.ways[Agreement(key.fingerprint, ours, theirs)] = Way(seals.cipher, start, channel)
        session.channels.append(channel)
        self._openers[channel] = Opener(session, opens.cipher, key, ours)
        return way

    # --- forgetting -----------------------------------------------------------------------------------------

    def look(self, now: Instant) -> None:
        """Make a new value when it is due, and forget all keys derived from values that have expired.

        Parameters
        ----------
        now : float
            The time in seconds.
        """
        if now < self._look_at:
            return
        self._look_at = self._ephemerals.look(now)
        known = self._ephemerals.all
        if len(known) == 1:
            self._former.clear()
        for session in self._registry.all():
            if not session.theirs:
                continue
            if session.ours not in known:
                session.ours, session.is_proven = self._ephemerals.public, False
                self._seal(session)
            if len(session.theirs) > 1 and now >= session.former_until:
                session.theirs = session.theirs[-1:]
            elif len(session.theirs) > 1:
                self._look_at = min(self._look_at, session.former_until)
            self._drop(session, list(_outdated(session, known)))

    def forget(self, session: Session) -> None:
        """Drop the keys of a session, which stay known as those of a former one.

        Parameters
        ----------
        session : Session
            The session.
        """
        openers = {channel: self._openers[channel] for channel in session.channels if channel in self._openers}
        former = {channel: opener._replace(session=None) for channel, opener in openers.items() if opener.ours}
        self._drop(session, list(openers))
        if former:
            self._former[int(session.peer.domain), session.peer.process] = former
            if len(self._former) > FORMER_MAX:
                self._former.popitem(last=False)

    def _drop(self, session: Session, channels: list[bytes]) -> None:
        for channel in channels:
            session.channels.remove(channel)
            self._openers.pop(channel, None)


def _outdated(session: Session, known: tuple[bytes, ...]) -> Iterator[bytes]:
    """Drop the keys agreed by values that have expired, and return their channels."""
    for agreement in [*session.ways]:
        if agreement.ours not in known or agreement.theirs not in session.theirs:
            yield session.ways.pop(agreement).channel
