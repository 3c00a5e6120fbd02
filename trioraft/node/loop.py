"""The loop of a node, which alone takes turns of the member, one after the other.

::

    socket ─▶ endpoint ─▶ member ─▶ a turn: act on events, send, write, apply, answer, come back later
    disk   ──────────────▶ member
    timer, `soon` ───────▶ member

A task that has fed the member something between two turns calls :meth:`Wake.soon`, and a turn follows at the end of
the scheduler's pass. It is one turn for all tasks that have called by then, so their messages leave in few datagrams.
All deadlines are on one clock (``CLOCK_BOOTTIME``).
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final, Protocol

import outcome
import trio
from outcome import Outcome

from trioraft.clock import NEVER
from trioraft.consensus import Turn
from trioraft.consensus.events import Event
from trioraft.consensus.ledger import Write
from trioraft.datagrams.endpoint import Endpoint, encode_message
from trioraft.datagrams.endpoint import Event as EndpointEvent
from trioraft.datagrams.socket import DatagramSocket
from trioraft.errors import NodeError
from trioraft.messages import InstallSnapshotRequest, Instant, Message, NodeId, Seconds
from trioraft.node.member import Member
from trioraft.storage.database import Disk
from trioraft.storage.errors import StorageError
from trioraft.wake import Wake

# Turns that follow each other within less than this, in seconds, do not postpone deadlines.
_OFTEN: Final = 0.005


class Surrounding(Protocol):
    """The program around the member, which the loop drives too."""

    def handle(self, event: EndpointEvent, now: Instant) -> None:
        """Take in an event that the endpoint has read from a datagram."""

    def act_on(self, event: Event, now: Instant) -> None:
        """Act on an event of a turn."""

    def fill(self, to: NodeId, part: InstallSnapshotRequest) -> InstallSnapshotRequest | None:
        """Return a snapshot's part with its bytes, as it leaves; None where the snapshot is not there any more."""

    def turned(self, now: Instant) -> None:
        """Finish a turn: push a changed status, and hand requests and answers to the endpoint."""

    def next_deadline(self) -> Instant:
        """Return when :meth:`handle_timer` must be called, in seconds."""

    def handle_timer(self, now: Instant) -> None:
        """Act on the deadlines that have passed."""

    def written(self, write: Write) -> None:
        """Take note that a write is on disk."""

    def say_farewell(self, failure: str) -> None:
        """Push to the subscribers of the status why this node is about to stop: nothing else tells them."""


class Loop:
    """The loop of one node.

    Parameters
    ----------
    member : Member
        The member that takes part in the cluster.
    endpoint : Endpoint
        Decodes datagrams, and encodes messages.
    socket : DatagramSocket
        The socket for the datagrams.
    disk : Disk
        The disk for the writes.
    around : Surrounding
        The program around the member.
    wake : Wake
        The requests for turns, and their deadline.
    clock : callable
        Returns the time in seconds.
    look_interval : float
        How often, in seconds, the loop looks at its input while tasks that propose keep the scheduler busy.
    """

    def __init__(
        self,
        member: Member,
        endpoint: Endpoint,
        socket: DatagramSocket,
        disk: Disk,
        around: Surrounding,
        wake: Wake,
        clock: Callable[[], Instant],
        look_interval: Seconds,
    ) -> None:
        self._member = member
        self._endpoint = endpoint
        self._socket = socket
        self._disk = disk
        self._around = around
        self._wake = wake
        self._clock = clock
        self._look_interval = look_interval
        self._looked_at = -NEVER  # when the socket was drained last
        self._due_at = -NEVER
        self._turned_at = -NEVER
        self._ended_writes: list[tuple[Write, Outcome[None]]] = []
        self._is_hearing = False
        self._deafened = trio.Event()
        self._deafened_by: Outcome[None] = outcome.Value(None)
        self._noted_written = 0
        self._failure: NodeError | None = None

    @property
    def counters(self) -> Counter[str]:
        """The counters of the socket."""
        return self._socket.counters

    # --- its tasks ------------------------------------------------------------------------------------------

    async def receive(self) -> None:
        """Drain the socket at each wake-up, feed all of it to the member, then take a turn."""
        while True:
            await self._socket.wait_readable()
            with self._before_a_turn():
                self._take_in()
            self.turn()

    async def keep_time(self) -> None:
        """Take a turn when a deadline has passed, or a task has requested one."""
        await self._wake.run(self._come, self._reach_deadline)

    def _reach_deadline(self) -> None:
        now = self._clock()
        if self._due_at <= now:
            self.keep_up()
        else:
            self._wake.at(trio.current_time() + (self._due_at - now))

    def _come(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._due_at <= self._clock():
            self.keep_up()
        else:
            self.turn()

    async def hear_disk(self) -> None:
        """Hear of writes that have ended, for as long as they succeed."""
        self._is_hearing = True
        try:
            for write, result in self._ended_writes:
                self._hear_of(write, result)
            await self._deafened.wait()
            self._deafened_by.unwrap()
        finally:
            self._is_hearing = False

    def _write_ended(self, write: Write, result: Outcome[None]) -> None:
        """Hear of a write at once: to wake a task for it would cost another pass of the scheduler."""
        if not self._is_hearing:
            self._ended_writes.append((write, result))
            return
        heard = outcome.capture(self._hear_of, write, result)
        if isinstance(heard, outcome.Error):  # it must end the node, not the run of trio that calls this
            self._deafened_by = heard
            self._deafened.set()

    def _hear_of(self, write: Write, result: Outcome[None]) -> None:
        try:
            result.unwrap()
        except StorageError as error:
            self._around.say_farewell(str(error))
            self.send_datagrams()
            raise
        self._note_written()
        self.turn()
        self._around.written(write)

    # --- input ----------------------------------------------------------------------------------------------

    def _take_in(self) -> None:
        """Take in the answers of the disk, and drain the socket; requests of clients are queued for the turn.

        The clock is read after the socket. A node's promise to its leader counts from when the message was received;
        a time from before a pause would let the promise end too early.
        """
        self._note_written()
        datagrams = self._socket.receive()
        now = self._looked_at = self._clock()
        for data, source in datagrams:
            event = self._endpoint.receive_datagram_untrusted(data, source, now)
            if event is not None:
                self._around.handle(event, now)
        for further in self._endpoint.further_events():
            self._around.handle(further, now)

    def _note_written(self) -> None:
        """Report to the member the newest write that is on disk."""
        if self._disk.written > self._noted_written:
            self._noted_written = self._disk.written
            self._member.persisted(self._noted_written, self._clock())

    def keep_up(self) -> None:
        """Take in all input, act on the deadlines that have passed, and take a turn."""
        with self._before_a_turn():
            self._take_in()
            now = self._clock()
            self._member.handle_timer(now)
            self._endpoint.handle_timer(now)
            self._around.handle_timer(now)
        self.turn()

    @contextmanager
    def _before_a_turn(self) -> Iterator[None]:
        """Take something in before a turn, and take no other turn meanwhile."""
        self._wake.turning = True
        try:
            yield
        finally:
            self._wake.turning = False

    def look_around(self) -> None:
        """Take a turn in the midst of a pass of trio's scheduler, when the pass takes long.

        Trio looks at sockets and clocks only after all tasks that can run have run, and thousands of tasks may
        propose in one pass. The heartbeats of a leader, a follower's answers, and those of the disk must not wait for
        all.

        A turn tells programs the outcomes of their commands, and they may propose the next ones at once. That is no
        time for another turn, which would apply the entries that follow before this one has applied all of its own.
        """
        if self._wake.turning:
            return
        if self._clock() - self._looked_at > self._look_interval:
            try:
                self.keep_up()
            except NodeError as error:  # it must end the node, not the task that proposes
                self._failure = error
                self._wake.soon()

    # --- output ---------------------------------------------------------------------------------------------

    def turn(self) -> None:
        """Take one turn, and do its duties in order."""
        now = self._clock()
        self._wake.begin_turn()
        try:
            turn = self._member.turn(now)
            for event in turn.events:
                self._around.act_on(event, now)
            self._send(turn, now)
            if turn.write is not None:
                # At once: in a pass that takes long, a task that hands it on would have to wait.
                self._disk.begin(turn.write, partial(self._write_ended, turn.write))
            self._member.apply(turn.apply)
            self._around.turned(now)
            self.send_datagrams()
        finally:
            self._wake.turning = False
        self._due_at = min(turn.wake_at, self._endpoint.next_deadline(), self._around.next_deadline())
        exactly = now - self._turned_at > _OFTEN or not (turn.send or turn.write or turn.apply)
        self._turned_at = now
        self._wake.at(trio.current_time() + (self._due_at - now), exactly=exactly)
        if self._member.wants_turn or self._failure is not None:
            self._wake.soon()

    def write_the_rest(self) -> None:
        """Have the disk write all that it lacks, before it is closed: a node that stops takes no other turn."""
        self._member.core.close()
        write = self._member.turn(self._clock()).write
        if write is not None:
            self._disk.begin(write, partial(self._write_ended, write))

    def _send(self, turn: Turn, now: Instant) -> None:
        for receivers, message in turn.send:
            if isinstance(message, InstallSnapshotRequest):
                for to in receivers:
                    part = self._around.fill(to, message)
                    if part is not None:
                        self._send_to((to,), part, now)
            else:
                self._send_to(receivers, message, now)
        self.send_datagrams()

    def _send_to(self, receivers: tuple[NodeId, ...], message: Message, now: Instant) -> None:
        """Send one message, which is encoded once, to all receivers that can be reached."""
        peers = [peer for to in receivers if (peer := self._endpoint.peer(to)) is not None]
        if peers:
            encoded = encode_message(message)
            for peer in peers:
                self._endpoint.send(peer, encoded, now)

    def send_datagrams(self) -> None:
        """Send the datagrams that the endpoint has ready."""
        for data, address in self._endpoint.datagrams_to_send():
            self._socket.send(data, address)
