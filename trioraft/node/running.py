"""A running node: its tasks, and the program around the member, which its loop drives too.

The loop (:mod:`trioraft.node.loop`) takes in datagrams, answers of the disk and passed deadlines, and takes turns of
the member. Every other task feeds something to the core or the endpoint, and requests a turn.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import trio

from trioraft.address import Address
from trioraft.consensus.events import (
    Event,
)
from trioraft.consensus.ledger import Write
from trioraft.datagrams.endpoint import (
    Event as EndpointEvent,
)
from trioraft.datagrams.endpoint import (
    Peer,
    Received,
)
from trioraft.dns.discovery import Answer
from trioraft.errors import NodeError
from trioraft.messages import (
    ClientRequest,
    ClientRequests,
    ClientResponse,
    ClientResponses,
    Hello,
    InstallSnapshotRequest,
    Instant,
    Message,
    NodeId,
    OptionalId,
    Status,
    StatusRequest,
)
from trioraft.node.assembly import Assembly
from trioraft.node.loop import Loop
from trioraft.node.member import ABOUT_READS
from trioraft.node.trace import recording
from trioraft.nurseries import bare_errors
from trioraft.settings.key_files import key_file_warning

# While tasks that propose keep the scheduler busy, the node looks at its input this often in a heartbeat interval.
_LOOKS: Final = 4


class Running(Assembly):
    """A node with its tasks; it is the :class:`~trioraft.node.loop.Surrounding` of its loop."""

    async def run(self, *, task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the node until it is cancelled.

        Parameters
        ----------
        task_status : trio.TaskStatus
            Is given the address of the socket once the node takes part.
        """
        try:
            self._socket = await self._world.open_socket(self.settings.bind_host, self.settings.bind_port)
        except OSError as error:
            self._disk.close()
            raise NodeError(
                f"BIND_HOST={self.settings.bind_host} BIND_PORT={self.settings.bind_port}:"
                f" {error.strerror or error}; choose an address of this machine and a free UDP port"
            ) from error
        self._endpoint.use_path_bytes(self._socket.path_bytes)
        self._neighbours.bound = self._socket.address
        try:
            with bare_errors(), recording(self._core, self.settings.trace_file):
                async with trio.open_nursery() as nursery:
                    if self._world.watchdog_clock is not None:
                        trio.lowlevel.add_instrument(self._loop_watch)
                    await self._snapshots.restore()
                    await nursery.start(self._work.hooks.run)
                    nursery.start_soon(self._work.end_earlier_scripts)
                    loop = self._loop = Loop(
                        self._member,
                        self._endpoint,
                        self._socket,
                        self._disk,
                        self,
                        self._wake,
                        self._world.clock,
                        self.settings.heartbeat_repeat / _LOOKS,
                    )
                    for task in self._tasks(loop):
                        nursery.start_soon(task)
                    self._start_up()
                    loop.turn()
                    task_status.started(self._socket.address)
        finally:
            with suppress(KeyError):
                trio.lowlevel.remove_instrument(self._loop_watch)
            self._work.bodies.close()
            self._socket.close()
            if self._loop is not None:
                self._loop.write_the_rest()
            self._disk.close_database()

    def leave_directory(self) -> None:
        """Let another process have the node's directory: nothing of this one's leader work is left."""
        self._disk.close()

    def _tasks(self, loop: Loop) -> tuple[Callable[[], Awaitable[None]], ...]:
        return (
            loop.receive,
            loop.keep_time,
            loop.hear_disk,
            self._snapshots.take,
            self._snapshots.receive,
            self._snapshots.clean_up,
            self._backups.run,
            self._digests.run,
            self._discover,
            self._greet,
            self._take_names,
        )

    def _start_up(self) -> None:
        if self.settings.keys is None:
            self._log.warning(
                "no CLUSTER_KEY: datagrams are neither secret nor authentic;"
                " make one with `trioraft keygen --output FILE`"
            )
        if warning := key_file_warning(self.settings.key_file):
            self._log.warning(warning)
        self._log.info(
            "node started", address=str(self._socket.address), service=self.settings.app_name, role=self._core.role
        )
        if self._core.cluster:
            self._work.become_follower()
        self._neighbours.tell_core(self._world.clock())

    async def _discover(self) -> None:
        """Ask DNS again and again; neither its answers nor its silence ever disturb a running cluster."""
        await self._world.open_discovery(self.settings).run(self._discovered)

    def _discovered(self, answer: Answer) -> None:
        self._neighbours.discovered(answer)
        self._steering.discovered(answer, self.address, self._world.clock())
        self.soon()

    async def _greet(self) -> None:
        """Greet the addresses that are due, drive the autopilot and upgrades; now and then, and at news."""
        while True:
            news = self._neighbours.news = trio.Event()
            now = self._world.clock()
            self._neighbours.greet(now)
            self._upgrades.drive()
            self._member.proposals.name_kind()
            self._steering.steer(now)
            self.soon()
            if self.address not in {None, self._named_at} and not self.settings.node_name:
                self._named_at = self.address
                self._has_moved.set()
            pause = self._neighbours.greeting_pause
            if self._steering.waits or self._upgrades.waits:
                pause = min(pause, self.settings.heartbeat_repeat)
            with trio.move_on_after(pause):
                await news.wait()

    async def _take_names(self) -> None:
        """Look up the name of this node whenever its address is another one; a silent DNS holds up nothing else."""
        while True:
            await self._has_moved.wait()
            self._has_moved = trio.Event()
            if self._named_at is not None and (name := await self._neighbours.find_name(self._named_at)):
                self._log = self._log.bind(name=name)
                self.soon()

    def handle(self, event: EndpointEvent, now: Instant) -> None:
        """Take in an event that the endpoint has read from a datagram."""
        if isinstance(event, Received):
            self._receive_message(event.peer, event.cluster_id, event.message, now)
            return
        try:
            self._neighbours.handle(event, now)
        except NodeError as error:
            self.say_farewell(str(error))
            raise

    def _receive_message(self, peer: Peer, cluster: OptionalId, message: Message, now: Instant) -> None:
        match message:
            case StatusRequest(subscribe=seconds):
                self._account.subscribe(peer, seconds, now)
            case ClientRequest():
                self._requests.add(peer, message)
            case ClientRequests(requests=requests):
                for request in requests:
                    self._requests.add(peer, request)
            case ClientResponse():
                self._calls.receive(peer.node_id, message)
            case ClientResponses(responses=responses):
                for response in responses:
                    self._calls.receive(peer.node_id, response)
            case Hello() | Status():
                pass  # not for a node
            case _ if isinstance(message, ABOUT_READS) or self._neighbours.may_say(peer, message, now):
                self._member.take(peer.node_id, cluster, message, now)
            case _:
                self._endpoint.counters["dropped_not_a_member"] += 1

    def act_on(self, event: Event, now: Instant) -> None:
        """Act on an event of a turn."""
        try:
            self._acting.act_on(event, now)
        except NodeError as error:
            self.say_farewell(str(error))
            raise

    def fill(self, to: NodeId, part: InstallSnapshotRequest) -> InstallSnapshotRequest | None:
        """Return a snapshot's part with its bytes, as it leaves."""
        return self._snapshots.fill(to, part)

    def turned(self, now: Instant) -> None:
        """Push a changed status, and hand requests and answers to the endpoint."""
        self._snapshots.look()
        if self._account.has_changed(self._log, now):
            self._changed.set()
            self._changed = trio.Event()
            self._neighbours.news.set()
            self._account.push(now)
            self._calls.learn_leader(self._core.term, self._core.leader)
        if self.next_deadline() <= now:
            self.handle_timer(now)
        self._questions.flush(now)
        self._answers.flush(now)

    def next_deadline(self) -> Instant:
        """Return when :meth:`handle_timer` must be called, in seconds."""
        return min(self._session.next_deadline(), self._calls.next_deadline())

    def handle_timer(self, now: Instant) -> None:
        """Send the requests of this node's own program, and repeat them."""
        self._session.handle_timer(now)
        self._calls.handle_timer(now)

    def written(self, write: Write) -> None:
        """Act on a write that is on disk now."""
        self._acting.written(write)

    def say_farewell(self, failure: str) -> None:
        """Push to the subscribers of the status why this node is about to stop: nothing else tells them."""
        self._account.failure = failure
        self._account.push(self._world.clock())
        if self._loop is not None:
            self._loop.send_datagrams()
