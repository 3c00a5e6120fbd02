"""Messages that are larger than a datagram: which go in fragments, in parts of which size, and what comes of them.

The format is told in :mod:`trioraft.datagrams.wire`, the sending side in :mod:`trioraft.datagrams.retransmission`,
the receiving side in :mod:`trioraft.datagrams.reassembly`.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from trioraft.address import Address
from trioraft.datagrams import headers, wire
from trioraft.datagrams.reassembly import Reassembly
from trioraft.datagrams.retransmission import Sender
from trioraft.datagrams.sender import Outbox
from trioraft.datagrams.sessions import Session, Standing
from trioraft.datagrams.wire import EncodedMessage, encode_message
from trioraft.messages import FRAGMENTED_MAX, Fragment, FragmentsReceived, Message

# A datagram that goes through everywhere where nothing is known of the path (RFC 9000, section 14).
DATAGRAM_BYTES: Final = 1200
# Larger ones fill a receive buffer in a handful, and the loss of one costs more.
FRAGMENT_DATAGRAM_MAX: Final = 16 * 1024
# What a fragment has beside its part: array, tag, six numbers below 2**32, the head of a byte string.
_FRAGMENT_OVERHEAD: Final = 3 + 6 * 5 + 3

# The receiver tells what it has at least once in so many fragments: acknowledgements are lost too.
_ACKNOWLEDGE_AFTER: Final = 8

SESSION_BYTES_MAX: Final = 4 * 1024 * 1024
# What waits to be sent, and what is incomplete: to and from nodes, and to and from clients, so that clients cannot
# take what nodes need.
NODES_BYTES_MAX: Final = 64 * 1024 * 1024
CLIENTS_BYTES_MAX: Final = 16 * 1024 * 1024
NODES_HELD_MAX: Final = 32 * 1024 * 1024
CLIENTS_HELD_MAX: Final = 16 * 1024 * 1024


class Fragments:
    """The large messages of one endpoint, both ways.

    Parameters
    ----------
    outbox : Outbox
        Puts fragments into datagrams.
    counters : Counter
        Counts ``dropped_oversized``, ``dropped_busy`` (too much is under way already), ``dropped_undelivered``
        and ``dropped_incomplete`` messages, and ``fragmented`` ones.
    datagram_bytes : int
        The size of datagrams where the path's is not known.

    Attributes
    ----------
    path_bytes : callable
        Gives the size of the datagrams that a path takes, as far as the system knows it, else None.
    """

    def __init__(self, outbox: Outbox, counters: Counter[str], datagram_bytes: int) -> None:
        self.path_bytes: Callable[[Address], int | None] = _unknown
        self._outbox = outbox
        self._counters = counters
        self._datagram_bytes = datagram_bytes
        self._senders: dict[Session, Sender] = {}
        self._sending: dict[Session, Sender] = {}  # those with something under way
        self._queued: dict[bool, int] = {False: 0, True: 0}  # by whether it goes to a node
        self._unacknowledged = 0  # fragments
        self._from_nodes = Reassembly(counters, NODES_HELD_MAX)
        self._from_clients = Reassembly(counters, CLIENTS_HELD_MAX)
        # An encoded message of so many bytes fits into a datagram of any path.
        self.fits_bytes = min(datagram_bytes, DATAGRAM_BYTES) - headers.MESSAGE_OVERHEAD

    def send(self, session: Session, encoded: EncodedMessage, now: float) -> None:
        """Send a message, in fragments if one datagram does not hold it.

        Parameters
        ----------
        session : Session
            The receiver's.
        encoded : EncodedMessage
            The message.
        now : float
            The time, in seconds.
        """
        if len(encoded) + headers.MESSAGE_OVERHEAD <= self._datagram(session, now):
            self._outbox.send(session, encoded)
            return
        if len(encoded) > FRAGMENTED_MAX:
            self._counters["dropped_oversized"] += 1
            return
        sender = self._senders.get(session)
        if sender is None:
            sender = self._senders[session] = Sender(session, self._outbox.send)
        if sender.is_sending(encoded):
            return  # whoever repeats a request need not know how long it takes to get there
        is_node = session.peer.node_id != 0
        total_max = NODES_BYTES_MAX if is_node else CLIENTS_BYTES_MAX
        if sender.queued_bytes + len(encoded) > SESSION_BYTES_MAX or self._queued[is_node] + len(encoded) > total_max:
            self._counters["dropped_busy"] += 1
            return
        self._counters["fragmented"] += 1
        self._queued[is_node] += len(encoded)
        self._sending[session] = sender
        sender.add(encoded, self._room(session, now), now)

    def _settle(self, sender: Sender, queued_before: int) -> None:
        """Keep count after a sender has done something."""
        self._queued[sender.session.peer.node_id != 0] += sender.queued_bytes - queued_before
        if not sender.messages:
            self._sending.pop(sender.session, None)

    def _datagram(self, session: Session, now: float) -> int:
        known = self.path_bytes(session.peer.address) or self._datagram_bytes
        sender = self._senders.get(session)
        return min(known, DATAGRAM_BYTES) if sender is not None and now < sender.small_until else known

    def message_bytes(self, session: Session, now: float) -> int:
        """Tell how large a message may be that goes in one datagram; see :meth:`Endpoint.message_bytes`."""
        return min(self._datagram(session, now), FRAGMENT_DATAGRAM_MAX) - headers.MESSAGE_OVERHEAD

    def _room(self, session: Session, now: float) -> int:
        datagram = min(self._datagram(session, now), FRAGMENT_DATAGRAM_MAX)
        return datagram - headers.MESSAGE_OVERHEAD - _FRAGMENT_OVERHEAD

    # --- what comes in --------------------------------------------------------------------------------------

    def receive_untrusted(self, session: Session, message: Fragment | FragmentsReceived, now: float) -> list[Message]:
        """Take in a fragment, or an acknowledgement.

        Parameters
        ----------
        session : Session
            The confirmed session in which it came.
        message : Fragment or FragmentsReceived
            What came.
        now : float
            The time, in seconds.

        Returns
        -------
        list of Message
            The messages that are whole now, in the order in which they were sent.

        Raises
        ------
        MalformedError
            If it is wrong.
        """
        if isinstance(message, Fragment):
            reassembly = self._from_nodes if session.peer.node_id else self._from_clients
            whole = reassembly.add_untrusted(session, message, now)
            self._unacknowledged += 1
            if self._unacknowledged >= _ACKNOWLEDGE_AFTER:
                self.acknowledge()
            return list(self._decode_untrusted(whole))
        sender = self._sending.get(session)
        if sender is not None:
            queued = sender.queued_bytes
            sender.acknowledged(message, now)
            self._settle(sender, queued)
        return []

    def _decode_untrusted(self, whole: list[bytes]) -> Iterator[Message]:
        for data in whole:
            try:
                yield wire.decode_message_untrusted(data)
            except headers.MalformedError:
                self._counters["dropped_malformed"] += 1

    def acknowledge(self) -> None:
        """Tell the senders what has arrived since the last call."""
        if not self._unacknowledged:
            return
        self._unacknowledged = 0
        for reassembly in (self._from_nodes, self._from_clients):
            for session, acknowledgement in reassembly.acknowledgements():
                if session.standing is Standing.CURRENT:
                    self._outbox.send(session, encode_message(acknowledgement))

    # --- time -----------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """Tell when :meth:`handle_timer` wants to be called; infinity when nothing is under way."""
        deadline = min(self._from_nodes.next_deadline(), self._from_clients.next_deadline())
        for sender in self._sending.values():
            deadline = min(deadline, sender.next_deadline())
        return deadline

    def handle_timer(self, now: float) -> None:
        """Send again what is due, and give up what is in vain.

        Parameters
        ----------
        now : float
            The time, in seconds.
        """
        self._from_nodes.handle_timer(now)
        self._from_clients.handle_timer(now)
        for session, sender in list(self._sending.items()):
            if sender.next_deadline() > now:
                continue
            queued = sender.queued_bytes
            is_client_gone = not session.peer.node_id and not session.peer.is_confirmed(now)
            if session.standing is not Standing.CURRENT or is_client_gone or sender.has_waited(now):
                self._counters["dropped_undelivered"] += sender.clear()
            else:
                sender.handle_timeout(now)
                sender.resume(self._room(session, now), now)
            self._settle(sender, queued)

    def forget(self, session: Session) -> None:
        """Drop everything of a session.

        Parameters
        ----------
        session : Session
            A session that is no more.
        """
        sender = self._senders.pop(session, None)
        if sender is not None:
            queued = sender.queued_bytes
            self._counters["dropped_undelivered"] += sender.clear()
            self._settle(sender, queued)
        self._from_nodes.forget(session)
        self._from_clients.forget(session)


def _unknown(address: Address) -> None:
    """Know of no path how large its datagrams are."""
