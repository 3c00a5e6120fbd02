"""How the watches of a key are found, against a look at all of them."""

from collections import Counter

from hypothesis import example, given
from hypothesis import strategies as st

from trioraft.kv import prefix_range
from trioraft.kv.watched import Watched

texts = st.lists(st.sampled_from(b"\0ab\xfe\xff"), max_size=4).map(bytes)
keys = texts.filter(bool)
prefixes = texts.map(prefix_range)


class Ranged:
    """A watch that counts how often it is looked at."""

    def __init__(self, key: bytes, range_end: bytes) -> None:
        self.key = key
        self.range_end = range_end
        self.looks = 0

    def matches(self, key: bytes) -> bool:
        self.looks += 1
        if not self.range_end:
            return key == self.key
        return self.key <= key and (self.range_end == b"\0" or key < self.range_end)


@given(st.lists(st.tuples(keys, texts) | prefixes, max_size=12), st.lists(st.integers(0, 11)), st.lists(keys))
@example([(b"a", b"b\0"), (b"a\0", b"b")], [], [b"b", b"a\xff"])
@example([(b"b", b""), (b"a", b"b")], [0, 0], [b"a", b"b"])
def test_all_watches_of_a_key_are_found_and_no_others(
    ranges: list[tuple[bytes, bytes]], removed: list[int], looked_up: list[bytes]
) -> None:
    watched: Watched[Ranged] = Watched()
    watches = [Ranged(*bounds) for bounds in ranges]
    for watch in watches:
        watched.add(watch)
    for place in removed:
        if place < len(watches):
            watched.remove(watches[place])
    left = [watch for place, watch in enumerate(watches) if place not in removed]
    assert list(watched) == left
    assert len(watched) == len(left)
    for key in looked_up:
        assert Counter(watched.of(key)) == Counter(watch for watch in left if watch.matches(key))


def test_nothing_is_left_when_all_watches_are_removed() -> None:
    watched: Watched[Ranged] = Watched()
    watches = [Ranged(b"a", b""), Ranged(*prefix_range(b"a")), Ranged(b"a", b"c"), Ranged(b"b", b"")]
    for watch in watches:
        watched.add(watch)
    for watch in watches:
        watched.remove(watch)
    assert not any(vars(watched).values())


def test_watches_of_other_prefixes_are_not_looked_at() -> None:
    watched: Watched[Ranged] = Watched()
    others = [Ranged(*prefix_range(b"other/%d/" % number)) for number in range(100)]
    between = Ranged(b"mine/a", b"mine/c")
    for watch in [*others, between]:
        watched.add(watch)
    assert watched.of(b"mine/b") == [between]
    assert watched.of(b"mine/d") == []
    assert watched.of(b"other/7/key") == [others[7]]
    assert [watch.looks for watch in others] == [int(watch is others[7]) for watch in others]
