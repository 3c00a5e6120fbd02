"""Clusters whose members change, for stories."""

from tests.unit.story import Story


def led(nodes: int = 3, spare: int = 2) -> Story:
    """Let node 1 lead the first nodes, and its no-op be committed everywhere; the spare ones have heard of it."""
    story = Story(nodes, spare=spare)
    story.elect(1)
    story.live(2)
    story.wait(0.01)
    return story


def with_learners(nodes: int = 3, spare: int = 2) -> Story:
    """Let all spare nodes be learners, too, that have caught up."""
    story = led(nodes, spare)
    assert story.change(1, range(1, nodes + 1), range(nodes + 1, nodes + spare + 1)) is None
    story.live(3)
    story.wait(0.01)
    return story


def roles(story: Story) -> dict[int, str]:
    return {node: core.role.value for node, core in story.cores.items()}
