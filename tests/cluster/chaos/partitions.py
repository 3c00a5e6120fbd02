"""The shapes of partitions: which directions between nodes carry nothing."""

import random
from collections.abc import Callable, Iterable
from itertools import pairwise, permutations, product

Cut = set[tuple[int, int]]


def both_ways(ones: Iterable[int], others: Iterable[int]) -> Cut:
    """Return the directions between two groups of nodes."""
    pairs = [(one, other) for one, other in product(list(ones), list(others)) if one != other]
    return {*pairs, *((other, one) for one, other in pairs)}


def isolated(source: random.Random, size: int, victim: int) -> Cut:
    """Cut one node off."""
    return both_ways([victim], range(size))


def one_way(source: random.Random, size: int, victim: int) -> Cut:
    """Let a node not hear some others, or not be heard by them."""
    others = [node for node in range(size) if node != victim]
    others = source.sample(others, source.randrange(1, size))
    is_deaf = source.random() < 0.5
    return {(other, victim) if is_deaf else (victim, other) for other in others}


def link(source: random.Random, size: int, victim: int) -> Cut:
    """Cut the link between two nodes that everybody else still reaches."""
    return both_ways([victim], [source.choice([node for node in range(size) if node != victim])])


def halves(source: random.Random, size: int, victim: int) -> Cut:
    """Let there be two sides; the victim is on the smaller one."""
    others = [node for node in range(size) if node != victim]
    side = [victim, *source.sample(others, max(0, size // 2 - 1))]
    return both_ways(side, [node for node in others if node not in side])


def bridge(source: random.Random, size: int, victim: int) -> Cut:
    """Let there be two sides that only the victim reaches both of."""
    others = [node for node in range(size) if node != victim]
    side = source.sample(others, len(others) // 2)
    return both_ways(side, [node for node in others if node not in side])


def ring(source: random.Random, size: int, victim: int) -> Cut:
    """Let each node reach its two neighbours only."""
    order = source.sample(range(size), size)
    neighbours = both_ways(order[:1], order[-1:])
    for one, other in pairwise(order):
        neighbours |= both_ways([one], [other])
    return {*permutations(range(size), 2)} - neighbours


def everybody_alone(source: random.Random, size: int, victim: int) -> Cut:
    """Let nobody reach anybody."""
    return {*permutations(range(size), 2)}


# In a cluster of three a ring is a whole, and halves are one that is isolated.
SHAPES: dict[str, Callable[[random.Random, int, int], Cut]] = {
    shape.__name__.replace("_", " "): shape
    for shape in (isolated, one_way, link, halves, bridge, ring, everybody_alone)
}


def shapes_of(size: int) -> list[str]:
    """List the shapes that differ in a cluster of this size."""
    return [name for name, shape in SHAPES.items() if size > 3 or shape not in {halves, ring}]
