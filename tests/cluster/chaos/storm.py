"""One fault after another for a cluster of real processes, some at the same time, all from outside."""

import random
import shutil
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

import trio

from tests.cluster.chaos.partitions import SHAPES, shapes_of
from tests.cluster.disks import can_tamper, fill, tampered
from tests.cluster.harness import Cluster
from tests.cluster.namespaces import Links
from tests.cluster.relay import BadNetwork, Faults
from trioraft.client.client import NoAnswerError
from trioraft.members.changes import Action
from trioraft.messages import ChangeMember, Command, MemberStatus, Transfer
from trioraft.replica.settings import ReadMode

# A node stops by itself, with this status, when its disk fails.
_WRONG = 2
_COMMAND_SECONDS = 4.0
_MEND_SECONDS = 30.0
_SECOND_FAULT = 0.35  # how often a fault does not come alone

Kind = Callable[[], Awaitable[None]]


class BrokenError(Exception):
    """Something happened that no fault explains."""


@dataclass
class Fault:
    """Something that was done to a cluster; times are on trio's clock, `ended` is None while it lasts."""

    group: str
    kind: str
    nodes: tuple[int, ...]
    began: float
    ended: float | None = None


@dataclass
class Storm:
    """Faults for one cluster.

    Attributes
    ----------
    cluster : Cluster
        Whose nodes suffer.
    network : BadNetwork
        Between its nodes; where it is made of links, these go down and nodes move, too.
    client_faults : Faults
        Of the network between clients and nodes.
    source : random.Random
        Chooses.
    own_disks : bool
        Whether each node has a file system of its own, which can be full.
    faults : list of Fault
        What was done so far.
    weathers : list of tuple of float and float
        When the weather changed, and how bad it became, from 0 to 1.
    count : Counter of str
        What else happened, by kind.
    """

    cluster: Cluster
    network: BadNetwork
    client_faults: Faults
    source: random.Random
    own_disks: bool = False
    faults: list[Fault] = field(default_factory=list)
    weathers: list[tuple[float, float]] = field(default_factory=list)
    count: Counter[str] = field(default_factory=Counter)
    reads: ReadMode = ReadMode.QUORUM
    _lost: set[str] = field(default_factory=set)  # nodes whose data is gone

    async def weather(self) -> None:
        """Let the network be now bad, now good, each as often: some ten times as much is done in good weather."""
        kinds: list[float] = []
        while True:
            if not kinds:
                kinds = self.source.sample((0.0, 0.3, 1.0), 3)
            bad = kinds.pop()
            for faults in (self.network.faults, self.client_faults):
                faults.loss, faults.duplication, faults.late = 0.2 * bad, 0.2 * bad, 0.2 * bad
                faults.delay, faults.jitter, faults.late_by = 0.01 * bad, 0.01 * bad, 0.3 * bad
            self.weathers.append((trio.current_time(), bad))
            await trio.sleep(self.source.uniform(0.7, 2))

    async def rage(self, until: float) -> None:
        """Have one fault after another until then, each kind as often as the others."""
        rest: list[tuple[str, Kind]] = []
        while trio.current_time() < until:
            if not rest:
                rest = self._kinds()
                self.source.shuffle(rest)
            group, kind = rest.pop()
            at_once = [kind]
            if self.source.random() < _SECOND_FAULT:
                other = next((k for k in rest if k[0] != group), None)
                if other is not None:
                    rest.remove(other)
                    at_once.append(other[1])
            async with trio.open_nursery() as nursery:
                for each in at_once:
                    nursery.start_soon(each)
                    await trio.sleep(self.source.uniform(0, 0.5))
            self._all_live()
            await self.mend()
            await trio.sleep(self.source.uniform(0, 1))

    def _kinds(self) -> list[tuple[str, Kind]]:
        """List the kinds of faults, with the group of each; two of one group never come at once."""
        kinds: list[tuple[str, Kind]] = [
            ("network", partial(self.partition, name)) for name in shapes_of(self.cluster.size)
        ]
        kinds += [("network", self.flap)]
        if isinstance(self.network, Links):
            kinds += [("network", partial(k, self.network)) for k in (self.link_down, self.change_address)]
            kinds += [("nodes", partial(self.restart_elsewhere, self.network))]
        kinds += [
            ("nodes", k) for k in (self.kill, self.kill, self.pause, self.pause, self.kill_some, self.restart_all)
        ]
        kinds += [("people", k) for k in (self.transfer, self.transfer, self.read_otherwise, self.demote)]
        kinds += [("nodes", k) for k in (self.remove, self.lose_data)]
        if self.own_disks:
            kinds.append(("nodes", self.fill_disk))
        if can_tamper():
            kinds += [("nodes", self.fail_disk), ("nodes", self.hang_disk)]
        return kinds

    # --- the network ----------------------------------------------------------------------------------------

    async def partition(self, name: str) -> None:
        victim = self._victim()
        cut = SHAPES[name](self.source, self.cluster.size, victim)
        with self._fault(
            "network", name, [victim] if name == "isolated" else {node for pair in cut for node in pair}
        ):
            self.network.faults.cut |= cut
            await trio.sleep(self.source.uniform(0.5, 2.5))
            self.network.faults.cut -= cut

    async def flap(self) -> None:
        victim = self._victim()
        cut = SHAPES["isolated"](self.source, self.cluster.size, victim)
        with self._fault("network", "flap", [victim]):
            for _ in range(self.source.randrange(2, 8)):
                self.network.faults.cut |= cut
                await trio.sleep(self.source.uniform(0.05, 0.4))
                self.network.faults.cut -= cut
                await trio.sleep(self.source.uniform(0.05, 0.4))

    # --- links ----------------------------------------------------------------------------------------------

    async def link_down(self, links: Links) -> None:
        with self._one("links", "link down") as victim:
            async with links.down(victim):
                await trio.sleep(self.source.uniform(0.5, 2.5))

    async def change_address(self, links: Links) -> None:
        """Move a node to another address while it runs, as a container that is taken from a network and put back."""
        with self._one("links", "another address") as victim:
            await self._move(links, victim)

    async def restart_elsewhere(self, links: Links) -> None:
        """Stop a node, or kill it, and start it at another address."""
        with self._one("links", "restart at another address") as victim:
            await (self._stop(victim) if self.source.random() < 0.5 else self.cluster.kill(victim))
            await self._move(links, victim)
            await trio.sleep(self.source.uniform(0, 1.5))
            await self.cluster.start(victim)

    async def _move(self, links: Links, node: int) -> None:
        await links.move(node, self.source)
        self.cluster.move(node, links.place(node))

    # --- processes ------------------------------------------------------------------------------------------

    async def kill(self) -> None:
        await self._kill([self._victim()])

    async def kill_some(self) -> None:
        """Kill several nodes at once, perhaps all."""
        await self._kill(
            self.source.sample(range(self.cluster.size), self.source.randrange(2, self.cluster.size + 1))
        )

    async def _kill(self, nodes: list[int]) -> None:
        with self._fault("processes", "kill -9", nodes):
            for node in nodes:
                self.cluster.process(node).kill()
            for node in nodes:
                await self.cluster.ended(node, 15)
            await trio.sleep(self.source.uniform(0, 1.5))
            for node in nodes:
                await self.cluster.start(node)

    async def pause(self) -> None:
        with self._one("processes", "pause") as victim:
            self.cluster.pause(victim)
            await trio.sleep(self.source.uniform(0.3, 2.5))
            self.cluster.resume(victim)

    async def restart_all(self) -> None:
        """Restart one node after the other, as an upgrade does."""
        with self._fault("processes", "rolling restart", range(self.cluster.size)):
            for node in range(self.cluster.size):
                await self._restart(node)
                await self._within(_COMMAND_SECONDS, partial(self._follows, node))

    async def _restart(self, node: int) -> None:
        await self._stop(node)
        await self.cluster.start(node)

    async def _stop(self, node: int) -> None:
        status = await self.cluster.stop(node)
        if status not in {0, -signal.SIGTERM, 128 + signal.SIGTERM}:  # the latter two while it was still starting
            raise BrokenError(f"node-{node + 1} ended with status {status} after SIGTERM")

    # --- disks ----------------------------------------------------------------------------------------------

    async def fill_disk(self) -> None:
        with self._one("disks", "full disk") as victim:
            ballast = self.cluster.data_dir(victim) / "ballast"
            await trio.to_thread.run_sync(fill, ballast)
            await self._ends_by_its_disk(victim)
            ballast.unlink()
            await self._start_if_ended(victim)

    async def fail_disk(self) -> None:
        with self._one("disks", "disk errors") as victim:
            async with tampered(self.cluster.process(victim).pid, "fdatasync:error=EIO", "pwrite64:error=EIO"):
                await self._ends_by_its_disk(victim)
            await self._start_if_ended(victim)

    async def hang_disk(self) -> None:
        with self._one("disks", "disk hangs") as victim:
            delay = self.source.uniform(0.2, 2)
            async with tampered(self.cluster.process(victim).pid, f"fdatasync:delay_enter={delay:.1f}s"):
                await trio.sleep(self.source.uniform(1, 2.5))

    async def _ends_by_its_disk(self, node: int) -> None:
        """Wait for what a node does when it cannot write; one that hears nothing has nothing to write."""
        process = self.cluster.process(node)
        if not await self._within(_COMMAND_SECONDS, lambda: process.poll() is not None):
            self.count["disks that failed unnoticed"] += 1

    async def _start_if_ended(self, node: int) -> None:
        await trio.sleep(0.3)  # it may be about to end
        if self.cluster.process(node).poll() is not None:
            status = await self.cluster.ended(node, 1)
            if status != _WRONG:
                raise BrokenError(f"node-{node + 1} ended with status {status} where its disk failed")
            await self.cluster.start(node)

    # --- people ---------------------------------------------------------------------------------------------

    async def transfer(self) -> None:
        with self._fault("people", "transfer", ()):
            await self._command(Transfer(0))

    async def read_otherwise(self) -> None:
        """Let reads go by the lease if they asked a quorum, or the other way round."""
        self.reads = ReadMode.QUORUM if self.reads is ReadMode.LEASE else ReadMode.LEASE
        with self._fault("people", f"reads by {self.reads.value}", ()), trio.move_on_after(5) as scope:
            await self.cluster.client.change_cluster_settings(reads=self.reads)
        self.count["changes of settings without an answer"] += scope.cancelled_caught

    async def demote(self) -> None:
        """Take a node's vote; the autopilot gives it back."""
        with self._fault("people", "demote", [victim := self._victim()]):
            await self._change("demote", self._id(victim))

    # --- members --------------------------------------------------------------------------------------------

    async def remove(self) -> None:
        """Remove a node, and start it again: it comes back as another one."""
        with self._one("members", "remove") as victim:
            if await self._change("remove", self._id(victim)):
                await self._within(_COMMAND_SECONDS, lambda: self._role(victim) == "removed")
            if self._role(victim) == "removed":
                await self._restart(victim)

    async def lose_data(self) -> None:
        """Kill a node, take its data, and start it: it comes back as another one, and the old one is removed."""
        victim = self._victim()
        lost = self._id(victim)
        if lost is None or self._lost or not self._all_vote():
            await self._kill([victim])  # a cluster survives the loss of one disk at a time
            return
        with self._fault("members", "data lost", [victim]):
            await self.cluster.kill(victim)
            self._lost.add(lost)
            for directory in self.cluster.data_dir(victim).iterdir():
                if directory.name != "lost+found":
                    shutil.rmtree(directory)
            await trio.sleep(self.source.uniform(0, 1))
            await self.cluster.start(victim)

    async def _change(self, action: Action, node: str | None) -> bool:
        return node is not None and await self._command(ChangeMember(action, int(node, 16)))

    async def _command(self, command: Command) -> bool:
        name = type(command).__name__
        with suppress(NoAnswerError):
            answer = await self.cluster.client.command(None, command, _COMMAND_SECONDS)
            self.count[f"{name} {'done' if answer.done else 'refused'}"] += 1
            return answer.done
        self.count[f"{name} without an answer"] += 1
        return False

    # --- what people do afterwards --------------------------------------------------------------------------

    async def mend(self) -> None:
        """Restart nodes that are removed, and remove those whose data is gone; what does not succeed can wait."""
        for node in range(self.cluster.size):
            if self._role(node) == "removed":
                with self._fault("members", "comes back", [node]):
                    await self._restart(node)
                    await self._within(_COMMAND_SECONDS, partial(self._follows, node))
        members = {member.id for member in self._members()}
        for lost in list(self._lost):
            if (members and lost not in members) or await self._change("remove", lost):
                self._lost.discard(lost)

    async def heal(self) -> None:
        """End all faults, and wait until every node votes again."""
        self.network.faults.end()
        self.client_faults.end()
        self.weathers.append((trio.current_time(), 0.0))
        with trio.move_on_after(_MEND_SECONDS):
            while not self._all_vote() or self._lost:
                await self.mend()
                await trio.sleep(0.1)
            return
        raise BrokenError(
            f"not all vote {_MEND_SECONDS:.0f} s after the last fault: {self._members()}; lost: {self._lost};"
            f" seen: {[node.to_json() for node in self.cluster.client.nodes.values()]}"
        )

    def _all_vote(self) -> bool:
        """Check whether all nodes that run are voters, and nobody else is a member."""
        ids = {self._id(node) for node in range(self.cluster.size)}
        return ids == {member.id for member in self._members() if member.kind == "voter"}

    # --- whom, and how they are -----------------------------------------------------------------------------

    def _victim(self) -> int:
        """Choose a node, the leader more often than others."""
        leader = self.cluster.client.cluster().leader
        if leader is not None and self.source.random() < 0.5:
            return self.cluster.index(leader)
        return self.source.randrange(self.cluster.size)

    @contextmanager
    def _one(self, group: str, kind: str) -> Iterator[int]:
        victim = self._victim()
        with self._fault(group, kind, [victim]):
            yield victim

    @contextmanager
    def _fault(self, group: str, kind: str, nodes: Iterable[int]) -> Iterator[None]:
        fault = Fault(group, kind, tuple(sorted(nodes)), trio.current_time())
        self.faults.append(fault)
        try:
            yield
        finally:
            fault.ended = trio.current_time()

    def _all_live(self) -> None:
        for node in range(self.cluster.size):
            status = self.cluster.process(node).poll()
            if status is not None:
                last = self.cluster.logs(node)[-1:]
                raise BrokenError(f"node-{node + 1} ended by itself with status {status}: {last}")

    async def _within(self, seconds: float, condition: Callable[[], bool]) -> bool:
        with trio.move_on_after(seconds):
            while not condition():
                await trio.sleep(0.05)
            return True
        return False

    def _id(self, node: int) -> str | None:
        found = self.cluster.node(node)
        return found.status.id if found is not None else None

    def _role(self, node: int) -> str:
        """Tell what a node says it is; nothing when it was not heard of lately."""
        found = self.cluster.node(node)
        return found.status.role if found is not None and found.reachable else ""

    def _follows(self, node: int) -> bool:
        found = self.cluster.node(node)
        process = self.cluster.process(node)
        return (
            found is not None
            and found.reachable
            and found.status.pid == process.pid
            and found.status.leader is not None
        )

    def _members(self) -> tuple[MemberStatus, ...]:
        leader = self.cluster.client.cluster().leader
        return leader.status.members if leader is not None else ()
