"""A cluster of cores in memory, told as a story: messages go when they are told to, and time passes when it is said.

Nothing happens by itself. A core's timer fires by :meth:`Story.fire`, messages lie in :attr:`Story.post` until they
are delivered or dropped, and :meth:`Story.live` is for the time in which nothing is worth telling.
"""

import random
from collections.abc import Collection
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from trioraft.consensus import Core, HardState, Role, Timing
from trioraft.consensus.state import Event, FormationState, State
from trioraft.consensus.timing import CLOCK_DRIFT

CLUSTER: Final = 0xC1
TIMING: Final = Timing(lower=3.0, upper=5.0, heartbeat=0.5, stop_grace=2.0)
# What a lower election timeout of 3 s on another clock is surely worth here, and leader work after a heartbeat.
LEASE: Final = 3.0 * (1 - CLOCK_DRIFT)
CLAIM: Final = TIMING.work_claim * (1 + CLOCK_DRIFT)

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
    """

    def __init__(self, nodes: int = 3, *, formed: bool = True, expect: int | None = None, seed: int = 1) -> None:
        self.now = 1000.0
        self.ids = tuple(range(1, nodes + 1))
        self.expect = dict.fromkeys(self.ids, nodes if expect is None else expect)
        self.random = random.Random(seed)
        self.timing = dict.fromkeys(self.ids, TIMING)
        self.post: list[Letter] = []
        self.told: dict[int, list[Event]] = {node: [] for node in self.ids}
        self.writes = dict.fromkeys(self.ids, 0)
        self.stuck: set[int] = set()
        self._unwritten: dict[int, tuple[int, HardState]] = {}
        formation = FormationState(cluster=CLUSTER, members=self.ids) if formed else FormationState()
        self.disk = dict.fromkeys(self.ids, HardState(formation=formation))
        self.cores: dict[int, Core] = {}
        for node in self.ids:
            self.start(node)

    # --- nodes ----------------------------------------------------------------------------------------------

    def start(self, node: int, timing: Timing | None = None) -> Core:
        """Start a node from what is on its disk."""
        self.timing[node] = timing or self.timing[node]
        core = Core(
            node,
            self.disk[node],
            self.timing[node],
            expect=self.expect[node],
            random_source=self.random,
            now=self.now,
        )
        self.cores[node] = core
        core.peers_changed(frozenset(self.ids) - {node})
        self.settle(node)
        return core

    def crash(self, node: int) -> None:
        """End a node: what was not on its disk is lost."""
        del self.cores[node]
        self._unwritten.pop(node, None)
        self.stuck.discard(node)

    def restart(self, node: int, timing: Timing | None = None) -> Core:
        """End a node and start it again."""
        self.crash(node)
        return self.start(node, timing)

    def state(self, node: int) -> State:
        """Give what a member remembers."""
        state = self.cores[node].state
        assert state is not None
        return state

    def settle(self, node: int) -> None:
        """Carry out what a core wants: write (unless its disk is stuck), post, note events."""
        core = self.cores[node]
        self._take(node)
        while node not in self.stuck and node in self._unwritten:
            number, hard = self._unwritten.pop(node)
            self.disk[node] = hard
            self.writes[node] += 1
            core.persisted(number, self.now)
            self._take(node)

    def _take(self, node: int) -> None:
        core = self.cores[node]
        self.told[node] += core.events()
        if (write := core.to_persist()) is not None:
            self._unwritten[node] = write
        self.post += [Letter(node, to, core.cluster, message) for to, message in core.to_send()]

    def stick_disk(self, node: int) -> None:
        """Let nothing reach a node's disk any more."""
        self.stuck.add(node)

    def free_disk(self, node: int) -> None:
        """Let a node's disk work again."""
        self.stuck.discard(node)
        self.settle(node)

    # --- time -----------------------------------------------------------------------------------------------

    def wait(self, seconds: float) -> None:
        """Let time pass in which nobody does anything."""
        self.now += seconds

    def fire(self, node: int) -> None:
        """Move on to the time for which a node has set its timer, and let it fire."""
        self.now = max(self.now, self.cores[node].next_deadline())
        self.tick(node)

    def tick(self, node: int) -> None:
        """Let a node's timer fire now."""
        self.cores[node].handle_timer(self.now)
        self.settle(node)

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
            due, node = min((self.cores[one].next_deadline(), one) for one in alive)
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

    def take(self, kind: type | None = None, *, sender: int | None = None, to: int | None = None) -> list[Letter]:
        """Take letters out of the post; they are delivered later, by :meth:`hand_over`, or never."""
        picked = self._pick(kind, sender, to)
        self.post = [letter for letter in self.post if not any(letter is one for one in picked)]
        return picked

    def deliver(self, kind: type | None = None, *, sender: int | None = None, to: int | None = None) -> int:
        """Deliver the letters that lie in the post, not those that come of it; tell how many there were."""
        picked = self.take(kind, sender=sender, to=to)
        for letter in picked:
            self.hand_over(letter)
        return len(picked)

    def hand_over(self, letter: Letter) -> None:
        """Deliver one letter."""
        if letter.to in self.cores:
            self.cores[letter.to].receive(letter.sender, letter.cluster, letter.message, self.now)
            self.settle(letter.to)

    def receive(self, to: int, sender: int, message: Any) -> None:
        """Deliver a message of one's own making, which names the receiver's cluster, if it has one."""
        self.hand_over(Letter(sender, to, self.cores[to].cluster, message))

    def drop(self, kind: type | None = None, *, sender: int | None = None, to: int | None = None) -> int:
        """Lose letters; tell how many there were."""
        return len(self.take(kind, sender=sender, to=to))

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
        raise AssertionError("the nodes answer one another without end")

    # --- turns of events ------------------------------------------------------------------------------------

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

    def change_disk(self, node: int, **fields: Any) -> None:
        """Give a node another past; it takes effect when it starts."""
        self.disk[node] = msgspec.structs.replace(self.disk[node], **fields)
