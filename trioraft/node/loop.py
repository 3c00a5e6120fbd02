"""The loop of a node: one turn after the other, whatever comes in, and nobody else takes any.

::

    socket ─▶ endpoint ─▶ member ─▶ a turn: act on events, send, write, apply, answer, come back later
    disk   ──────────────▶ member
    timer, `soon` ───────▶ member

Whoever has fed the member something between two turns calls :meth:`Wake.soon`, and a turn follows at the end of the
scheduler's pass: however many have done so by then, it is one turn, and what they want leaves in few datagrams. All
deadlines are on one clock (``CLOCK_BOOTTIME``).
"""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Protocol

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


class Wake:
    """What a node waits for beside its socket and its disk: a deadline, or somebody who wants a turn soon."""

    def __init__(self) -> None:
        self._scope = trio.CancelScope()
        self.turning = False

    def soon(self) -> None:
        """Have a turn follow at the end of this pass; during a turn there is nothing to be wanted."""
        if not self.turning:
            self._scope.cancel()

    def at(self, deadline: Instant) -> None:
        """Have a turn follow at a time at the latest.

        Parameters
        ----------
        deadline : float
            The time, on trio's clock. One that has moved away is noticed when the loop wakes for nothing.
        """
        # To set it costs time.
        if deadline < self._scope.deadline:  # noqa: PLR1730
            self._scope.deadline = deadline

    async def wait(self) -> None:
        """Wait for either."""
        with self._scope:
            await trio.sleep_forever()
        self._scope = trio.CancelScope()


class Surrounding(Protocol):
    """What the loop drives beside the member: the program around it."""

    def handle(self, event: EndpointEvent, now: Instant) -> None:
        """Take what the endpoint has read from a datagram."""

    def act_on(self, event: Event, now: Instant) -> None:
        """Act on what a turn says has happened."""

    def fill(self, to: NodeId, part: InstallSnapshotRequest) -> InstallSnapshotRequest | None:
        """Read the bytes of a snapshot's part that leaves; None where it is not there any more."""

    def turned(self, now: Instant) -> None:
        """Do what follows a turn: show what has changed, and hand to the endpoint what else is to leave."""

    def next_deadline(self) -> Instant:
        """Return when :meth:`handle_timer` wants to be called, in seconds."""

    def handle_timer(self, now: Instant) -> None:
        """Do what is due."""

    def written(self, write: Write) -> None:
        """Learn that a write is on disk."""

    def say_farewell(self, failure: str) -> None:
        """Tell whoever watches why this node is about to stop: nothing else tells them."""


class Loop:
    """The loop.

    Parameters
    ----------
    member : Member
        What takes part in the cluster.
    endpoint : Endpoint
        Turns bytes into messages, and messages into bytes.
    socket : DatagramSocket
        Where they come from and go to.
    disk : Disk
        Where writes go.
    around : Surrounding
        The program around it.
    wake : Wake
        Who wants a turn, and when.
    clock : callable
        Returns the time in seconds.
    look_interval : float
        Where tasks that propose take long, what has come in is looked at after so many seconds.
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
        self._looked_at = -NEVER  # when the socket was looked at last
        self._due_at = -NEVER
        self._ended_writes: list[tuple[Write, Outcome[None]]] = []
        self._disk_answered = trio.Event()
        self._noted_written = 0
        self._failure: NodeError | None = None

    @property
    def counters(self) -> Counter[str]:
        """What the socket has counted."""
        return self._socket.counters

    # --- its tasks ------------------------------------------------------------------------------------------

    async def receive(self) -> None:
        """Drain the socket on each wake-up, feed everything, then take a turn."""
        while True:
            await self._socket.wait_readable()
            self._take_in()
            self.turn()

    async def keep_time(self) -> None:
        """Take a turn when something is due, or somebody wants one."""
        while True:
            await self._wake.wait()
            if self._failure is not None:
                raise self._failure
            if self._due_at <= self._clock():
                self.keep_up()
            else:
                self.turn()

    async def hear_disk(self) -> None:
        """Take a turn when a write has ended, for as long as writes succeed."""
        while True:
            await self._disk_answered.wait()
            self._disk_answered = trio.Event()
            ended, self._ended_writes = self._ended_writes, []
            for write, result in ended:
                try:
                    result.unwrap()
                except StorageError as error:
                    self._around.say_farewell(str(error))
                    self.send_datagrams()
                    raise
                self._note_written()
                self.turn()
                self._around.written(write)

    def _write_ended(self, write: Write, result: Outcome[None]) -> None:
        self._ended_writes.append((write, result))
        self._disk_answered.set()

    # --- what comes in --------------------------------------------------------------------------------------

    def _take_in(self) -> None:
        """Hear the disk and drain the socket; what clients ask for waits for its turn.

        The clock is read after the socket: what a node promises its leader, it promises from the receipt on. A time
        from before a pause would let that end too early.
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
        """Tell the member what the disk has written by now."""
        if self._disk.written > self._noted_written:
            self._noted_written = self._disk.written
            self._member.persisted(self._noted_written, self._clock())

    def keep_up(self) -> None:
        """Take what has come in, do what is due, and take a turn."""
        self._take_in()
        now = self._clock()
        self._member.handle_timer(now)
        self._endpoint.handle_timer(now)
        self._around.handle_timer(now)
        self.turn()

    def look_around(self) -> None:
        """Do the node's own business in the midst of a pass of trio's scheduler, when that takes long.

        Trio looks at sockets and clocks once all tasks that can run have run, and thousands of them may propose in
        one pass. The heartbeats of a leader, a follower's answers to them, and those of the disk do not wait for all.
        """
        if self._clock() - self._looked_at > self._look_interval:
            try:
                self.keep_up()
            except NodeError as error:  # not for whoever proposes
                self._failure = error
                self._wake.soon()

    # --- what goes out --------------------------------------------------------------------------------------

    def turn(self) -> None:
        """Take one turn, and do what it says."""
        now = self._clock()
        self._wake.turning = True
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
        self._wake.at(trio.current_time() + (self._due_at - now))
        if self._member.wants_turn:
            self._wake.soon()

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
        """Send one message, which is encoded once, to all who can be reached."""
        peers = [peer for to in receivers if (peer := self._endpoint.peer(to)) is not None]
        if peers:
            encoded = encode_message(message)
            for peer in peers:
                self._endpoint.send(peer, encoded, now)

    def send_datagrams(self) -> None:
        """Let what the endpoint has ready leave."""
        for data, address in self._endpoint.datagrams_to_send():
            self._socket.send(data, address)
