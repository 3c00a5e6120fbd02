"""A leader crashes at each step of a joint change: one configuration survives, and no write is lost.

What a crash leaves behind is which of the entries of the change each node has on its disk. So the steps are not
sampled, they are enumerated: every set of nodes that has the joint entry, and, where that is committed, every set of
those that has the new configuration too; the leader's own disk with its last write or without it. After each, the
others must go on without the leader, and with it once it is back. ``TRIORAFT_CRASH_SEEDS=3`` takes each of them with
three different orders of what comes then; else it is one in five.
"""

import os
from collections.abc import Iterator
from itertools import chain, combinations
from typing import Final, NamedTuple

import pytest

from tests.unit.story import Story
from trioraft.consensus.events import BecameLeader, ConfigurationChanged
from trioraft.messages import AppendEntriesRequest, AppendEntriesResponse

SEEDS: Final = int(os.environ.get("TRIORAFT_CRASH_SEEDS", "0"))


class Change(NamedTuple):
    """A change of the voters; node 1 leads, and those who are new are learners before."""

    name: str
    old: tuple[int, ...]
    new: tuple[int, ...]

    @property
    def others(self) -> tuple[int, ...]:
        """All whom the leader sends the joint entry."""
        return tuple(sorted({*self.old, *self.new} - {1}))

    def is_committed(self, having: set[int]) -> bool:
        """Check whether the nodes that have the joint entry commit it together with the leader."""
        return all(2 * len({*voters} & {1, *having}) > len(voters) for voters in (self.old, self.new))


CHANGES = (
    Change("grow", (1, 2, 3), (1, 2, 3, 4, 5)),
    Change("shrink", (1, 2, 3, 4, 5), (1, 2, 3)),
    Change("replace a follower", (1, 2, 3), (1, 2, 4)),
    Change("remove the leader", (1, 2, 3), (2, 3)),
    Change("replace most, and the leader", (1, 2, 3), (3, 4, 5)),
)


class Step(NamedTuple):
    """The nodes that have the joint entry and the new configuration when the leader crashes, and its disk."""

    change: Change
    joint: tuple[int, ...]
    new: tuple[int, ...] | None  # None: it has not been appended
    last_write_lost: bool

    @property
    def name(self) -> str:
        """Describe it in short."""
        new = "" if self.new is None else f", new on {self.new}"
        return f"{self.change.name}: joint on {self.joint}{new}{', unwritten' if self.last_write_lost else ''}"


def _subsets(nodes: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    return chain.from_iterable(combinations(nodes, size) for size in range(len(nodes) + 1))


def _steps() -> Iterator[Step]:
    for change in CHANGES:
        for joint in _subsets(change.others):
            if not change.is_committed(set(joint)):
                yield Step(change, joint, None, last_write_lost=False)
                yield Step(change, joint, None, last_write_lost=True)
                continue
            yield Step(change, joint, None, last_write_lost=True)  # the acknowledgements were lost
            for new in _subsets(joint):
                yield Step(change, joint, new, last_write_lost=False)
                yield Step(change, joint, new, last_write_lost=True)


def _prepared(change: Change, seed: int) -> Story:
    newcomers = sorted({*change.new} - {*change.old})
    story = Story(len(change.old), spare=len(newcomers), seed=seed)
    story.elect(1)
    story.live(2)
    if newcomers:
        assert story.change(1, change.old, newcomers) is None
        story.live(2)
    story.propose(1, "before")
    story.live(1)
    story.wait(0.01)
    return story


def _hand_out(story: Story, nodes: tuple[int, ...], *, acknowledged: bool) -> None:
    """Let some nodes get what the leader sent, and nobody else."""
    for node in nodes:
        story.deliver(AppendEntriesRequest, to=node)
    story.drop(AppendEntriesRequest)
    if acknowledged:
        story.deliver(AppendEntriesResponse)
    story.drop(AppendEntriesResponse)


def _crash_at(step: Step, seed: int) -> tuple[Story, list[bytes]]:
    """Carry a change out up to a step; give what was acknowledged before the leader crashed."""
    story = _prepared(step.change, seed)
    if step.new is None and step.last_write_lost:
        story.stick_disk(1)
    assert story.change(1, step.change.new) is None
    story.propose(1, "during")
    _hand_out(story, step.joint, acknowledged=step.new is not None or not step.last_write_lost)
    if step.new is not None:
        assert not story.cores[1].configuration.is_joint
        if step.last_write_lost:
            story.stick_disk(1)
        story.propose(1, "after")
        story.tick(1)
        _hand_out(story, step.new, acknowledged=True)
    acknowledged = list(story.applied[1])
    story.crash(1)
    return story, acknowledged


def _check(story: Story, step: Step, acknowledged: list[bytes], decided: set[tuple[int, ...]]) -> None:
    """Check that one configuration stands, the same on all that are in it, and that nothing is lost."""
    winners: dict[int, int] = {}
    for node in story.ids:
        for event in story.events(node, BecameLeader):
            assert winners.setdefault(event.term, node) == node, f"two leaders in term {event.term}"
    standing = {core.configuration for core in story.cores.values() if core.role in {"leader", "follower"}}
    assert len(standing) == 1
    (final,) = standing
    assert not final.is_joint
    assert final.voters in {step.change.old, step.change.new}
    assert decided <= {final.voters}, "what was committed is not undone"
    for node in final.voters:
        if node in story.cores:
            log = story.state(node).log
            data = [entry.data for entry in log.entries(1, story.state(node).commit_index)]
            assert [write for write in acknowledged if write not in data] == []
    leading = [node for node, core in story.cores.items() if core.role == "leader"]
    assert len(leading) == 1
    assert leading[0] in final.voters


def _decided(story: Story) -> set[tuple[int, ...]]:
    """List the voters of every change of which a node knows that its joint entry is committed."""
    events = chain.from_iterable(story.events(node, ConfigurationChanged) for node in story.ids)
    return {event.configuration.voters for event in events if event.committed and event.configuration.old_voters}


@pytest.mark.parametrize("seed", range(max(1, SEEDS)))
@pytest.mark.parametrize("step", list(_steps())[:: 1 if SEEDS else 5], ids=lambda step: step.name)
def test_one_configuration_survives(step: Step, seed: int) -> None:
    story, acknowledged = _crash_at(step, seed)
    assert acknowledged[:1] == [b"before"]
    story.live(60)
    _check(story, step, acknowledged, _decided(story))
    leader = next(node for node, core in story.cores.items() if core.role == "leader")
    story.propose(leader, "later")
    story.live(1)
    assert b"later" in story.applied[leader]
    acknowledged.append(b"later")
    story.start(1)
    story.live(30)
    for node in story.ids:
        story.cores[node].work_ended(story.now)
        story.settle(node)
    story.live(30)
    _check(story, step, acknowledged, _decided(story))
    assert (1 in story.cores[leader].configuration.voters) == (story.cores[1].role.value in {"leader", "follower"})


def test_the_steps_are_all_there_are() -> None:
    steps = list(_steps())
    assert len(steps) == len(set(steps)) > 300
    assert any(step.new == () for step in steps)
