"""A cluster of cores in memory, told as a story: messages go when they are told to, and time passes when it is said.

Nothing happens by itself. A core's timer fires by :meth:`Story.fire`, messages lie in :attr:`Story.post` until they
are delivered or dropped, and :meth:`Story.live` is for the time in which nothing is worth telling. Where a test
fails, pytest shows what happened in its story (:mod:`tests.unit.interactions`).
"""

import random
import zlib
from collections.abc import Collection, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from tests.simulation.disk import Disk
from tests.unit import interactions
from tests.unit.interactions import step
from trioraft.consensus import Core, HardState, Role, Timing
from trioraft.consensus.events import Event, StorePart
from trioraft.consensus.hard import FormationState
from trioraft.consensus.ledger import SnapshotInfo, Write
from trioraft.consensus.snapshots import PART_BYTES, snapshot_of
from trioraft.consensus.state import State
from trioraft.consensus.timing import CLOCK_DRIFT
from trioraft.messages import Entry, EntryKind, InstallSnapshotRequest
from trioraft.node.member import Member
from trioraft.node.proposals import nothing_required
from trioraft.node.replicated import Replicated
from trioraft.replica.machine import NothingToReplicate
from trioraft.replica.sessions import Replica
from trioraft.versions import SPOKEN

CLUSTER: Final = 0xC1
TIMING: Final = Timing(lower=3.0, upper=5.0, heartbeat=0.5, stop_grace=2.0)
# What a lower election timeout of 3 s on another clock is surely worth here, and leader work after a heartbeat.
LEASE: Final = 3.0 * (1 - CLOCK_DRIFT)
CLAIM: Final = TIMING.work_claim * (1 + CLOCK_DRIFT)

# A turn is followed by another one while there is more to do, up to so often.
_TURNS_MAX: Final = 100

_M = TypeVar("_M")


class Letter(NamedTuple):
    """A message on its way."""

    sender: int
    to: int
    cluster: int
    message: Any


class Story:
    """Some nodes, what lies in the post between them, and what is on their disks.

    Parameters
    ----------
    nodes : int
        How many there are; their ids are 1, 2, 3…
    formed : bool
        Whether they are members of a cluster from the start, or have empty disks.
    expect : int
        ``BOOTSTRAP_EXPECT``; as many as there are unless told.
    seed : int
        For the randomness of all of them.
    spare : int
        How many more nodes there are, with empty disks, that only ever join.
    log_waits : bool
        Whether what depends on entries waits for the disk.
    """

    def __init__(
        self,
        nodes: int = 3,
        *,
        formed: bool = True,
        expect: int | None = None,
        seed: int = 1,
        spare: int = 0,
        log_waits: bool = True,
    ) -> None:
        self.log_waits = log_waits
        self.trace = interactions.begin()
        self.now = 1000.0
        first = tuple(range(1, nodes + 1))
        self.ids = tuple(range(1, nodes + spare + 1))
        self.expect = {node: 0 if node not in first else nodes if expect is None else expect for node in self.ids}
        self.random = random.Random(seed)
        self.timing = dict.fromkeys(self.ids, TIMING)
        self.post: list[Letter] = []
        self.told: dict[int, list[Event]] = {node: [] for node in self.ids}
        self.writes = dict.fromkeys(self.ids, 0)
        self.stuck: set[int] = set()
        self.places = {node: f"place {node}" for node in self.ids}
        self.applied: dict[int, list[bytes]] = {node: [] for node in self.ids}
        self._opened: dict[int, dict[SnapshotInfo, bytes]] = {node: {} for node in self.ids}
        self._unwritten: dict[int, list[Write]] = {node: [] for node in self.ids}
        formation = FormationState(cluster=CLUSTER, members=first) if formed else FormationState()
        self.disks = {
            node: Disk(HardState(formation=formation) if node in first else HardState()) for node in self.ids
        }
        self.running: dict[int, Member] = {}
        self.cores: dict[int, Core] = {}
        self.wake_at: dict[int, float] = {}
        for node in self.ids:
            self.start(node)

    # --- nodes ----------------------------------------------------------------------------------------------

    @step
    def start(self, node: int, timing: Timing | None = None) -> Core:
        """Start a node from what is on its disk."""
        self.timing[node] = timing or self.timing[node]
        disk = self.disks[node]
        core = Core(
            node,
            disk.hard,
            disk.log(),
            self.timing[node],
            snapshot=disk.snapshot,
            log_waits=self.log_waits,
            expect=self.expect[node],
            random_source=self.random,
            now=self.now,
        )
        core.run_at(self.places[node], self.now)
        self.cores[node] = core
        replica = Replica(NothingToReplicate())
        self.running[node] = Member(
            Replicated.of(core, replica, lambda: self.now, first_read=1000, require=nothing_required)
        )
        core.peers_changed(frozenset(self.ids) - {node})
        self.settle(node)
        return core

    @step
    def crash(self, node: int) -> None:
        """End a node: what was not on its disk is lost."""
        del self.cores[node], self.running[node], self.wake_at[node]
        self._unwritten[node].clear()
        self._opened[node].clear()
        self.applied[node].clear()
        self.stuck.discard(node)

    @step
    def restart(self, node: int, timing: Timing | None = None) -> Core:
        """End a node and start it again."""
        self.crash(node)
        return self.start(node, timing)

    @step
    def end_scripts(self, node: int) -> None:
        """Tell a node that no script of an earlier process of it is left."""
        self.cores[node].scripts_ended(self.now)
        self.settle(node)

    def state(self, node: int) -> State:
        """Give what a member remembers."""
        state = self.cores[node].state
        assert state is not None
        return state

    def settle(self, node: int) -> None:
        """Carry out what a core wants: write (unless its disk is stuck), post, apply, note events."""
        self._take(node)
        while node not in self.stuck and self._unwritten[node]:
            self.write_one(node)

    @step
    def write_one(self, node: int) -> None:
        """Let the disk end the write that it was given first."""
        write = self._unwritten[node].pop(0)
        self.disks[node].put(write)
        self.writes[node] += 1
        self.running[node].persisted(write.number, self.now)
        self._take(node)

    def _take(self, node: int) -> None:
        member = self.running[node]
        for _ in range(_TURNS_MAX):
            turn = member.turn(self.now)
            self.told[node] += turn.events
            self.trace.look_at(node, member.core)
            for receivers, message in turn.send:
                filled = self._fill(node, message) if isinstance(message, InstallSnapshotRequest) else message
                for to in receivers:
                    self.post.append(Letter(node, to, member.core.cluster, filled))
                    self.trace.carried(node, to, "sent", filled)
            if turn.write is not None:
                self._unwritten[node].append(turn.write)
            self.applied[node] += [entry.data for _, entry in turn.apply if entry.kind is EntryKind.COMMAND]
            member.apply(turn.apply)
            self.wake_at[node] = turn.wake_at
            if not member.wants_turn:
                return

    @step
    def stick_disk(self, node: int) -> None:
        """Let nothing reach a node's disk any more."""
        self.stuck.add(node)

    @step
    def free_disk(self, node: int) -> None:
        """Let a node's disk work again."""
        self.stuck.discard(node)
        self.settle(node)

    # --- members --------------------------------------------------------------------------------------------

    @step
    def change(self, node: int, voters: Collection[int], learners: Collection[int] = ()) -> str | None:
        """Have a node begin to change the members; give why it does not."""
        refusal = self.cores[node].change_members(voters, learners, self.now)
        self.settle(node)
        return refusal

    @step
    def raise_version(self, /, node: int, **others: int) -> None:
        """Tell a node that all others speak the highest version there is, but for some: ``node_3=1``."""
        spoken = {other: others.get(f"node_{other}", SPOKEN.highest) for other in self.ids}
        self.cores[node].raise_version(spoken, self.now)
        self.settle(node)

    def members(self, node: int) -> str:
        """Tell the configuration that a node goes by: its voters, the old ones in brackets, its learners."""
        configuration = self.cores[node].configuration
        old = f" [{' '.join(map(str, configuration.old_voters))}]" if configuration.is_joint else ""
        learners = f" + {' '.join(map(str, configuration.learners))}" if configuration.learners else ""
        return " ".join(map(str, configuration.voters)) + old + learners

    # --- the log --------------------------------------------------------------------------------------------

    @property
    def disk(self) -> dict[int, HardState]:
        """The hard states on the nodes' disks."""
        return {node: disk.hard for node, disk in self.disks.items()}

    @step
    def propose(self, node: int, *commands: str) -> None:
        """Propose commands, one after the other."""
        for command in commands:
            assert self.cores[node].propose(EntryKind.COMMAND, command.encode(), self.now) is not None
        self.settle(node)

    @step
    def read(self, node: int, number: int = 1) -> None:
        """Ask for a linearizable read."""
        self.cores[node].start_read(number, self.now)
        self.settle(node)

    def log(self, node: int) -> list[int]:
        """List the terms of the entries that a node has in memory."""
        log = self.state(node).log
        return [entry.term for entry in log.entries(log.base_index + 1, log.last_index)]

    @step
    def change_log(self, node: int, terms: Sequence[int], *, term: int | None = None) -> None:
        """Give a node another past: entries of some terms, which it gets when it starts."""
        self.disks[node].entries = [Entry(one, EntryKind.COMMAND, b"%d" % one) for one in terms]
        self.change_disk(node, term=max(terms, default=0) if term is None else term)
        self.restart(node)

    @step
    def take_snapshot(self, node: int, data: bytes, *, keep: int = 0, keep_bytes: int | None = None) -> SnapshotInfo:
        """Let a node take a snapshot of what it has applied."""
        state = self.state(node)
        index = state.applied_index
        described = self.cores[node].describe_snapshot(index)
        snapshot = msgspec.structs.replace(described, size=len(data), checksum=zlib.crc32(data))
        self.disks[node].files[snapshot] = data
        self.cores[node].snapshot_taken(snapshot, keep, self.now, keep_bytes)
        self.settle(node)
        return snapshot

    def _fill(self, node: int, part: InstallSnapshotRequest) -> InstallSnapshotRequest:
        snapshot = snapshot_of(part)
        data = self._opened[node].get(snapshot)  # what is open can be read, also when it has been removed
        if data is None:
            data = self._opened[node][snapshot] = self.disks[node].files[snapshot]
        return msgspec.structs.replace(part, data=data[part.offset : part.offset + PART_BYTES])

    @step
    def store_parts(self, node: int) -> None:
        """Let a node store all parts of snapshots that it was handed, and take over what is whole."""
        core = self.cores[node]
        parts = self.events(node, StorePart)
        self.told[node] = [event for event in self.told[node] if not isinstance(event, StorePart)]
        for part in parts:
            core.part_stored(part.snapshot, part.offset + len(part.data), self.now)
            if part.is_last:
                core.snapshot_installed(part.snapshot, self.now)
            self.settle(node)

    # --- time -----------------------------------------------------------------------------------------------

    @step
    def wait(self, seconds: float) -> None:
        """Let time pass in which nobody does anything."""
        self.now += seconds

    @step
    def fire(self, node: int) -> None:
        """Move on to the time for which a node has set its timer, and let it fire."""
        self.now = max(self.now, self.wake_at[node])
        self.tick(node)

    @step
    def tick(self, node: int) -> None:
        """Let a node's timer fire now."""
        self.running[node].handle_timer(self.now)
        self.settle(node)

    @step
    def live(self, seconds: float, *, without: Collection[int] = (), cut_off: Collection[int] = ()) -> None:
        """Let time pass as it does on a good network.

        Parameters
        ----------
        seconds : float
            How much.
        without : collection of int
            Nodes that are paused meanwhile: they do nothing, and letters to and from them are lost.
        cut_off : collection of int
            Nodes that live on, alone: letters to and from them are lost.
        """
        end = self.now + seconds
        alive = [node for node in self.ids if node in self.cores and node not in without]
        among = [node for node in alive if node not in cut_off]
        self.exchange(among=among)
        while True:
            due, node = min((self.wake_at[one], one) for one in alive)
            if due > end:
                break
            self.now = max(self.now, due)
            self.tick(node)
            self.exchange(among=among)
        self.now = end

    # --- the post -------------------------------------------------------------------------------------------

    def waiting(self, kind: type[_M], *, sender: int | None = None, to: int | None = None) -> list[_M]:
        """List the messages of a kind that lie in the post."""
        return [letter.message for letter in self._pick(kind, sender, to)]

    def _pick(self, kind: type | None, sender: int | None, to: int | None) -> list[Letter]:
        return [
            letter
            for letter in self.post
            if (kind is None or isinstance(letter.message, kind))
            and sender in {None, letter.sender}
            and to in {None, letter.to}
        ]

    @step
    def take(self, kind: type | None = None, *, sender: int | None = None, to: int | None = None) -> list[Letter]:
        """Take letters out of the post; they are delivered later, by :meth:`hand_over`, or never."""
        picked = self._pick(kind, sender, to)
        self.post = [letter for letter in self.post if not any(letter is one for one in picked)]
        return picked

    @step
    def deliver(self, kind: type | None = None, *, sender: int | None = None, to: int | None = None) -> int:
        """Deliver the letters that lie in the post, not those that come of it; tell how many there were."""
        picked = self.take(kind, sender=sender, to=to)
        for letter in picked:
            self.hand_over(letter)
        return len(picked)

    @step
    def hand_over(self, letter: Letter) -> None:
        """Deliver one letter."""
        if letter.to not in self.cores:
            self._lose(letter)
        else:
            self.trace.carried(letter.sender, letter.to, "delivered", letter.message)
            self.running[letter.to].take(letter.sender, letter.cluster, letter.message, self.now)
            self.settle(letter.to)

    @step
    def receive(self, to: int, sender: int, message: Any) -> None:
        """Deliver a message of one's own making, which names the receiver's cluster, if it has one."""
        self.hand_over(Letter(sender, to, self.cores[to].cluster, message))

    @step
    def drop(self, kind: type | None = None, *, sender: int | None = None, to: int | None = None) -> int:
        """Lose letters; tell how many there were."""
        lost = self.take(kind, sender=sender, to=to)
        for letter in lost:
            self._lose(letter)
        return len(lost)

    def _lose(self, letter: Letter) -> None:
        self.trace.carried(letter.sender, letter.to, "lost", letter.message)

    @step
    def exchange(self, *, among: Collection[int] | None = None) -> None:
        """Deliver all letters among some nodes, and all that come of it; those to and from others are lost."""
        nodes = set(self.ids if among is None else among)
        for _ in range(1000):
            if not self.post:
                return
            letters, self.post = self.post, []
            for letter in letters:
                if letter.sender in nodes and letter.to in nodes:
                    self.hand_over(letter)
                else:
                    self._lose(letter)
        raise AssertionError("the nodes answer one another without end")

    # --- turns of events ------------------------------------------------------------------------------------

    @step
    def elect(self, node: int, *, among: Collection[int] | None = None) -> None:
        """Let a node's election timeout pass, and let it win."""
        self.fire(node)
        self.exchange(among=among)
        assert self.cores[node].role is Role.LEADER

    def roles(self) -> list[str]:
        """List what the nodes are."""
        return [self.cores[node].role.value if node in self.cores else "down" for node in self.ids]

    def events(self, node: int, kind: type[_M]) -> list[_M]:
        """List what a node has said of a kind."""
        return [event for event in self.told[node] if isinstance(event, kind)]

    def work(self, node: int) -> list[str]:
        """List what a node has said about leader work, without its extensions."""
        kinds = ("StartWork", "EndWork")
        return [type(event).__name__ for event in self.told[node] if type(event).__name__ in kinds]

    @step
    def change_disk(self, /, node: int, **fields: Any) -> None:
        """Give a node another past; it takes effect when it starts."""
        self.disks[node].hard = msgspec.structs.replace(self.disks[node].hard, **fields)
