"""Which key opens a sealed datagram, and which one seals for a session.

Two processes of which each has shown an X25519 value agree on keys for every pair of those values. A process seals
under the newest value that it was shown, and under its own newest one of which it has seen that the other knows it:
so both go on to new values without losing anything that is on its way, or when a ``Hello`` is lost.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from trioraft.clock import LONG_AGO
from trioraft.datagrams import headers
from trioraft.datagrams.ephemerals import KEPT_SECONDS, Ephemerals
from trioraft.datagrams.headers import MalformedError, Sealed
from trioraft.datagrams.keys import KeyRing
from trioraft.datagrams.sealing import EPHEMERAL_BYTES, DomainKey
from trioraft.datagrams.sessions import Registry, Session, Way

# Of so many processes whose sessions were dropped it is still known how to open what they say, so that they can be
# asked to shake hands again.
FORMER_MAX: Final = 1024


class Opener(NamedTuple):
    """What opens the datagrams of one channel.

    Attributes
    ----------
    session : Session or None
        Whose they are; None where there is no session (any more).
    cipher : ChaCha20Poly1305
        Opens them.
    key : DomainKey
        What the cipher is derived from.
    ours : bytes
        The value of this process that it is derived from, too; empty where there is none.
    """

    session: Session | None
    cipher: ChaCha20Poly1305
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
        """Find what opens a datagram.

        Parameters
        ----------
        parsed : Sealed
            Any but a ``Hello``.

        Returns
        -------
        Opener or None
            What may open it, None when nothing that is known does.
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
        if session.theirs:  # it has agreed on something better
            return None
        session.channels.append(parsed.channel)
        opener = self._openers[parsed.channel] = Opener(
            session, key.session_cipher(parsed.process, self._process), key
        )
        return opener

    def used(self, session: Session, ours: bytes) -> None:
        """Note that a peer has used a value of this process, and so knows it.

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
        """See that a value can be agreed with.

        Parameters
        ----------
        session : Session or None
            The session of whoever shows it.
        value : bytes
            The value, or nothing.

        Raises
        ------
        MalformedError
            If it has another size, or is a point of low order: then everybody would know the shared secret.
        """
        if not value or (session is not None and value in session.theirs):
            return
        if len(value) != EPHEMERAL_BYTES:
            raise MalformedError("an ephemeral value has another size")
        try:
            self._ephemerals.agree(self._ephemerals.public, value)
        except ValueError as error:
            raise MalformedError("an ephemeral value is of low order") from error

    def shown(self, session: Session, value: bytes, counter: int, now: float) -> None:
        """Seal under a value from now on that a peer has shown in a ``Hello`` with a fresh echo.

        Parameters
        ----------
        session : Session
            The peer's session.
        value : bytes
            The value, which was checked; nothing changes nothing.
        counter : int
            The number of the datagram: an earlier one that comes late does not count.
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
        """Seal for a session under the newest values."""
        key = session.key
        if key is None:
            return
        pair = key.fingerprint, session.ours, session.theirs[-1]
        way = session.ways.get(pair) or self._agree(session, key, *pair[1:])
        session.cipher, session.start = way.cipher, way.start

    def _agree_on_all(self, session: Session, key: DomainKey) -> None:
        for ours in self._ephemerals.all:
            for theirs in session.theirs:
                if (key.fingerprint, ours, theirs) not in session.ways:
                    self._agree(session, key, ours, theirs)

    def _agree(self, session: Session, key: DomainKey, ours: bytes, theirs: bytes) -> Way:
        shared = self._ephemerals.agree(ours, theirs)
        process = session.peer.process
        seals, name = key.agreed_cipher(shared, (self._process, ours), (process, theirs))
        opens, channel_name = key.agreed_cipher(shared, (process, theirs), (self._process, ours))
        channel = headers.named_channel(key.fingerprint, process, channel_name)
        way = Way(seals, headers.named_start(key.fingerprint, self._process, name), channel)
        session.ways[key.fingerprint, ours, theirs] = way
        session.channels.append(channel)
        self._openers[channel] = Opener(session, opens, key, ours)
        return way

    # --- forgetting -----------------------------------------------------------------------------------------

    def look(self, now: float) -> None:
        """Make a new value when it is time, and forget all that was derived from values whose time is up.

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
        """Note that a session is no more.

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
    """Forget the keys that were agreed by values which are no more, and give their channels."""
    for pair in [*session.ways]:
        if pair[1] not in known or pair[2] not in session.theirs:
            yield session.ways.pop(pair).channel
