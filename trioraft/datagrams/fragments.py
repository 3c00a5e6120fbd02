"""Messages that are larger than a datagram: which of them go in fragments, and how large their parts are.

:mod:`trioraft.datagrams.wire` specifies the format; :mod:`trioraft.datagrams.retransmission` is the sending side and
:mod:`trioraft.datagrams.reassembly` the receiving side.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from trioraft.address import Address
from trioraft.datagrams import headers, wire
from trioraft.datagrams.reassembly import Reassembly
from trioraft.datagrams.retransmission import Retransmitter
from trioraft.datagrams.sender import Sender
from trioraft.datagrams.sessions import Session, Standing
from trioraft.datagrams.wire import EncodedMessage, encode_message
from trioraft.messages import FRAGMENTED_MAX, Fragment, FragmentsReceived, Instant, Message

# A size of datagrams that goes through on any path (RFC 9000, section 14).
DATAGRAM_BYTES: Final = 1200
# A handful of larger ones fills a receive buffer, and the loss of one costs more.
FRAGMENT_DATAGRAM_MAX: Final = 16 * 1024
# The bytes of a fragment beside its part: array, tag, six numbers below 2**32, the head of a byte string.
_FRAGMENT_OVERHEAD: Final = 3 + 6 * 5 + 3

# The receiver acknowledges at least once in this many fragments, since acknowledgements are lost too.
_ACKNOWLEDGE_AFTER: Final = 8

SESSION_BYTES_MAX: Final = 4 * 1024 * 1024
# How many bytes may wait to be sent, and may be incomplete. Nodes and clients have bounds of their own, so that
# clients cannot take the room that nodes need.
NODES_BYTES_MAX: Final = 64 * 1024 * 1024
CLIENTS_BYTES_MAX: Final = 16 * 1024 * 1024
NODES_HELD_MAX: Final = 32 * 1024 * 1024
CLIENTS_HELD_MAX: Final = 16 * 1024 * 1024


class Fragments:
    """The large messages of one endpoint, both ways.

    Parameters
    ----------
    sender : Sender
        Puts fragments into datagrams.
    counters : Counter
        Counts ``dropped_oversized``, ``dropped_busy`` (too much is under way already), ``dropped_undelivered``
        and ``dropped_incomplete`` messages, and ``fragmented`` ones.
    datagram_bytes : int
        The size of datagrams on paths whose limit is not known.

    Attributes
    ----------
    path_bytes : callable
        Returns the size of the largest datagram on the path to an address; None where the system does not know it.
    """

    def __init__(self, sender: Sender, counters: Counter[str], datagram_bytes: int) -> None:
        self.path_bytes: Callable[[Address], int | None] = _unknown
        self._sender = sender
        self._counters = counters
        self._datagram_bytes = datagram_bytes
        self._retransmitters: dict[Session, Retransmitter] = {}
        self._sending: dict[Session, Retransmitter] = {}  # those with messages on their way
        self._queued: dict[bool, int] = {False: 0, True: 0}  # by whether it goes to a node
        self._unacknowledged = 0  # fragments
        self._from_nodes = Reassembly(counters, NODES_HELD_MAX)
        self._from_clients = Reassembly(counters, CLIENTS_HELD_MAX)
        # An encoded message of this size fits into a datagram of any path.
        self.fits_bytes = min(datagram_bytes, DATAGRAM_BYTES) - headers.MESSAGE_OVERHEAD

    def send(self, session: Session, encoded: EncodedMessage, now: Instant) -> None:
        """Send a message, in fragments if one datagram does not hold it.

        Parameters
        ----------
        session : Session
            The session of the receiver.
        encoded : EncodedMessage
            The message.
        now : float
            The time, in seconds.
        """
        if len(encoded) + headers.MESSAGE_OVERHEAD <= self._datagram(session, now):
            self._sender.send(session, encoded)
            return
        if len(encoded) > FRAGMENTED_MAX:
            self._counters["dropped_oversized"] += 1
            return
        retransmitter = self._retransmitters.get(session)
        if retransmitter is None:
            retransmitter = self._retransmitters[session] = Retransmitter(session, self._sender.send)
        if retransmitter.is_sending(encoded):
            return  # a caller that repeats a request need not know how long it takes to arrive
        is_node = session.peer.node_id != 0
        total_max = NODES_BYTES_MAX if is_node else CLIENTS_BYTES_MAX
        if (
            retransmitter.queued_bytes + len(encoded) > SESSION_BYTES_MAX
            or self._queued[is_node] + len(encoded) > total_max
        ):
            self._counters["dropped_busy"] += 1
            return
        self._counters["fragmented"] += 1
        self._queued[is_node] += len(encoded)
        self._sending[session] = retransmitter
        retransmitter.add(encoded, self._room(session, now), now)

    def _settle(self, retransmitter: Retransmitter, queued_before: int) -> None:
        """Update the counts after a retransmitter has sent or dropped messages."""
        self._queued[retransmitter.session.peer.node_id != 0] += retransmitter.queued_bytes - queued_before
        if not retransmitter.messages:
            self._sending.pop(retransmitter.session, None)

    def _datagram(self, session: Session, now: Instant) -> int:
        known = self.path_bytes(session.peer.address) or self._datagram_bytes
        retransmitter = self._retransmitters.get(session)
        return min(known, DATAGRAM_BYTES) if retransmitter is not None and now < retransmitter.small_until else known

    def message_bytes(self, session: Session, now: Instant) -> int:
        """Compute how large a message may be to go in one datagram; see :meth:`Endpoint.message_bytes`."""
        return min(self._datagram(session, now), FRAGMENT_DATAGRAM_MAX) - headers.MESSAGE_OVERHEAD

    def _room(self, session: Session, now: Instant) -> int:
        datagram = min(self._datagram(session, now), FRAGMENT_DATAGRAM_MAX)
        return datagram - headers.MESSAGE_OVERHEAD - _FRAGMENT_OVERHEAD

    # --- what comes in --------------------------------------------------------------------------------------

    def receive_untrusted(
        self, session: Session, message: Fragment | FragmentsReceived, now: Instant
    ) -> list[Message]:
        """Take a fragment, or an acknowledgement.

        Parameters
        ----------
        session : Session
            The confirmed session in which it came.
        message : Fragment or FragmentsReceived
            The fragment or acknowledgement.
        now : float
            The time, in seconds.

        Returns
        -------
        list of Message
            The messages that are whole now, in the order in which they were sent.

        Raises
        ------
        MalformedError
            If it contradicts itself, or an earlier one.
        """
        if isinstance(message, Fragment):
            reassembly = self._from_nodes if session.peer.node_id else self._from_clients
            whole = reassembly.add_untrusted(session, message, now)
            self._unacknowledged += 1
            if self._unacknowledged >= _ACKNOWLEDGE_AFTER:
                self.acknowledge()
            return list(self._decode_untrusted(whole))
        retransmitter = self._sending.get(session)
        if retransmitter is not None:
            queued = retransmitter.queued_bytes
            retransmitter.acknowledged(message, now)
            self._settle(retransmitter, queued)
        return []

    def _decode_untrusted(self, whole: list[bytes]) -> Iterator[Message]:
        for data in whole:
            try:
                yield wire.decode_message_untrusted(data)
            except headers.MalformedError:
                self._counters["dropped_malformed"] += 1

    def acknowledge(self) -> None:
        """Acknowledge to the senders what has arrived since the last call."""
        if not self._unacknowledged:
            return
        self._unacknowledged = 0
        for reassembly in (self._from_nodes, self._from_clients):
            for session, acknowledgement in reassembly.acknowledgements():
                if session.standing is Standing.CURRENT:
                    self._sender.send(session, encode_message(acknowledgement))

    # --- time -----------------------------------------------------------------------------------------------

    def next_deadline(self) -> Instant:
        """Compute when :meth:`handle_timer` has to be called; never, when nothing is on its way."""
        deadline = min(self._from_nodes.next_deadline(), self._from_clients.next_deadline())
        for retransmitter in self._sending.values():
            deadline = min(deadline, retransmitter.next_deadline())
        return deadline

    def handle_timer(self, now: Instant) -> None:
        """Send again what was not acknowledged in time, and give up what nobody acknowledges.

        Parameters
        ----------
        now : float
            The time, in seconds.
        """
        self._from_nodes.handle_timer(now)
        self._from_clients.handle_timer(now)
        for session, retransmitter in list(self._sending.items()):
            if retransmitter.next_deadline() > now:
                continue
            queued = retransmitter.queued_bytes
            is_client_gone = not session.peer.node_id and not session.peer.is_confirmed(now)
            if session.standing is not Standing.CURRENT or is_client_gone or retransmitter.has_waited(now):
                self._counters["dropped_undelivered"] += retransmitter.clear()
            else:
                retransmitter.handle_timeout(now)
                retransmitter.resume(self._room(session, now), now)
            self._settle(retransmitter, queued)

    def forget(self, session: Session) -> None:
        """Drop everything of a session.

        Parameters
        ----------
        session : Session
            A session that was dropped.
        """
        retransmitter = self._retransmitters.pop(session, None)
        if retransmitter is not None:
            queued = retransmitter.queued_bytes
            self._counters["dropped_undelivered"] += retransmitter.clear()
            self._settle(retransmitter, queued)
        self._from_nodes.forget(session)
        self._from_clients.forget(session)


def _unknown(address: Address) -> None:
    """Return that the limit of a path is not known."""
