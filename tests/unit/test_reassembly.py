"""Putting fragments together: in every order, with every repetition, and made-up ones."""

import contextlib
from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.endpoint_network import ONE, TWO, A
from trioraft.datagrams.headers import MalformedError
from trioraft.datagrams.reassembly import (
    INCOMPLETE_SECONDS,
    PART_MIN,
    SESSION_BYTES_MAX,
    SESSION_MESSAGES_MAX,
    Reassembly,
)
from trioraft.datagrams.replay import ReplayWindow
from trioraft.datagrams.sealing import Domain
from trioraft.datagrams.sessions import Peer, Session
from trioraft.messages import FRAGMENTED_MAX, Fragment, FragmentsReceived

MIB = 1024 * 1024
MUCH = 1 << 40


def session(node_id: int = ONE) -> Session:
    peer = Peer(node_id, bytes(16), Domain.CONSENSUS, "web", "", A, 0, 0.0, 0.0)
    return Session(peer, ReplayWindow(), None, None)


def split(number: int, data: bytes, count: int, first: int = 0) -> list[Fragment]:
    part = -(-len(data) // count)
    return [Fragment(number, n, first, len(data), count, n, data[n * part : (n + 1) * part]) for n in range(count)]


def reassembly(bytes_max: int = MUCH) -> Reassembly:
    return Reassembly(Counter(), bytes_max)


def acknowledged(told: FragmentsReceived) -> set[int]:
    bits = int.from_bytes(told.further, "little")
    return {*range(told.before), *(told.before + n for n in range(bits.bit_length()) if bits >> n & 1)}


@settings(deadline=None)
@given(st.data())
def test_any_order_and_any_repetition_give_the_messages_once_and_in_order(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(2 * PART_MIN, 4000), min_size=1, max_size=5))
    messages = [data.draw(st.randoms()).randbytes(size) for size in sizes]
    fragments = []
    for number, message in enumerate(messages):
        count = data.draw(st.integers(2, len(message) // PART_MIN))
        count = -(-len(message) // -(-len(message) // count))  # so that no part is empty
        fragments += split(number, message, count) if count > 1 else split(number, message, 2)
    repeated = data.draw(st.lists(st.sampled_from(fragments), max_size=20))
    order = data.draw(st.permutations(fragments + repeated))
    one, other = reassembly(), session()
    arrived: list[bytes] = []
    known: dict[int, set[int]] = {}
    for fragment in order:
        whole = one.add_untrusted(other, fragment, 0.0)
        assert len(arrived) + len(whole) <= len(messages)
        arrived += whole
        known.setdefault(fragment.number, set()).add(fragment.part)
        [(to, told)] = one.acknowledgements()
        assert to is other
        assert acknowledged(told) == known[fragment.number]
    assert sorted(arrived) == sorted(messages)
    assert one.held_bytes == 0


def test_a_whole_message_waits_for_an_earlier_one_that_goes_on() -> None:
    one, other = reassembly(), session()
    early, late = split(1, b"a" * 1000, 2, first=1), split(2, b"b" * 1000, 2, first=1)
    assert one.add_untrusted(other, early[0], 0.0) == []
    assert one.add_untrusted(other, late[0], 0.0) == []
    assert one.add_untrusted(other, late[1], 0.0) == []
    assert one.add_untrusted(other, early[1], 0.0) == [b"a" * 1000, b"b" * 1000]


def test_a_whole_message_does_not_wait_for_one_that_was_given_up() -> None:
    one, other = reassembly(), session()
    one.add_untrusted(other, split(1, b"a" * 1000, 2, first=1)[0], 0.0)
    late = split(2, b"b" * 1000, 2, first=2)
    one.add_untrusted(other, late[0], 0.0)
    assert one.add_untrusted(other, late[1], 0.0) == [b"b" * 1000]
    assert one.held_bytes == 0


_FRAGMENTS = st.builds(
    Fragment,
    number=st.integers(0, 50),
    sending=st.integers(0, 2**62),
    first=st.integers(0, 60),
    size=st.one_of(st.integers(2, 2000), st.integers(2, FRAGMENTED_MAX)),
    count=st.one_of(st.integers(2, 8), st.integers(2, FRAGMENTED_MAX)),
    part=st.one_of(st.integers(0, 8), st.integers(0, FRAGMENTED_MAX - 1)),
    data=st.integers(1, 1200).map(bytes),
)


def _fitted(fragment: Fragment, is_fitted: bool) -> Fragment:
    part = -(-fragment.size // fragment.count)
    length = min(part, fragment.size - fragment.part * part)
    if not is_fitted or length < 1:
        return fragment
    return msgspec.structs.replace(fragment, data=bytes(length))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.builds(_fitted, _FRAGMENTS, st.booleans())), max_size=60))
def test_no_fragments_make_it_hold_more_than_its_bounds(sent: list[tuple[int, Fragment]]) -> None:
    bound = 5 * MIB
    one, sessions = reassembly(bound), [session() for _ in range(4)]
    for step, (who, fragment) in enumerate(sent):
        with contextlib.suppress(MalformedError):
            one.add_untrusted(sessions[who], fragment, float(step))
        assert one.held_bytes <= bound
    assert all(0 <= told.before <= FRAGMENTED_MAX for _, told in one.acknowledgements())
    for other in sessions:
        one.forget(other)
    assert one.held_bytes == 0
    assert one.next_deadline() == float("inf")


def test_one_session_is_bounded_by_itself_and_the_longest_silent_message_goes() -> None:
    one, greedy, modest = reassembly(), session(), session(TWO)
    message = bytes(2 * MIB - 10)
    one.add_untrusted(modest, split(1, message, 2000)[0], 0.0)
    first, second, third = (split(number, message, 2000) for number in (1, 2, 3))
    one.add_untrusted(greedy, first[0], 1.0)
    one.add_untrusted(greedy, second[0], 2.0)
    one.add_untrusted(greedy, first[1], 3.0)
    one.acknowledgements()
    one.add_untrusted(greedy, third[0], 4.0)
    assert one.held_bytes <= SESSION_BYTES_MAX + 2 * MIB + 4096
    told = {acknowledgement.number: acknowledgement for _, acknowledgement in one.acknowledgements()}
    assert told[2].dropped
    assert acknowledged(told[3]) == {0}
    assert one.add_untrusted(greedy, second[1], 5.0) == []
    [(_, again)] = one.acknowledgements()
    assert again.dropped
    for number in range(10, 10 + 2 * SESSION_MESSAGES_MAX):
        one.add_untrusted(greedy, split(number, bytes(1000), 2)[0], 6.0)
    assert one.held_bytes <= SESSION_MESSAGES_MAX * 2100 + 2 * MIB + 2048


def test_many_sessions_are_bounded_together() -> None:
    one = reassembly(8 * MIB)
    for number in range(100):
        one.add_untrusted(session(), split(1, bytes(MIB), 1000)[number], float(number))
        assert one.held_bytes <= 8 * MIB


def test_a_message_that_is_never_completed_is_forgotten() -> None:
    one, other = reassembly(), session()
    one.add_untrusted(other, split(1, bytes(MIB), 1000)[0], 100.0)
    assert one.next_deadline() == 100.0 + INCOMPLETE_SECONDS
    one.handle_timer(100.0 + INCOMPLETE_SECONDS - 0.1)
    assert one.held_bytes > 0
    one.handle_timer(100.0 + INCOMPLETE_SECONDS)
    assert one.held_bytes == 0


@pytest.mark.parametrize(
    "fragment",
    [
        Fragment(1, 1, 1, 1000, 2, 0, bytes(499)),
        Fragment(1, 1, 1, 1000, 2, 0, bytes(501)),
        Fragment(1, 1, 1, 1000, 2, 2, bytes(500)),
        Fragment(1, 1, 1, 1001, 2, 1, bytes(501)),
        Fragment(1, 1, 1, 1000, 9, 0, bytes(112)),
        Fragment(1, 1, 1, FRAGMENTED_MAX, FRAGMENTED_MAX, 0, bytes(1)),
    ],
)
def test_a_fragment_that_contradicts_itself_is_refused_and_leaves_nothing(fragment: Fragment) -> None:
    one = reassembly()
    with pytest.raises(MalformedError):
        one.add_untrusted(session(), fragment, 0.0)
    assert one.held_bytes == 0
    assert one.next_deadline() == float("inf")


def test_a_fragment_that_contradicts_its_message_is_refused() -> None:
    one, other = reassembly(), session()
    good = split(1, b"a" * 1000, 2)
    one.add_untrusted(other, good[0], 0.0)
    with pytest.raises(MalformedError):
        one.add_untrusted(other, split(1, b"b" * 1200, 2)[1], 0.0)
    assert one.add_untrusted(other, good[1], 0.0) == [b"a" * 1000]


def test_the_example_in_the_specification_is_what_happens() -> None:
    one, other = reassembly(), session()
    message = bytes(range(250)) * 10
    parts = [message[:834], message[834:1668], message[1668:]]
    assert len(parts[2]) == 832
    one.add_untrusted(other, Fragment(5, 11, 5, 2500, 3, 0, parts[0]), 0.0)
    one.add_untrusted(other, Fragment(5, 13, 5, 2500, 3, 2, parts[2]), 0.0)
    assert one.acknowledgements() == [(other, FragmentsReceived(5, 13, 1, b"\x02"))]
    assert one.add_untrusted(other, Fragment(5, 14, 5, 2500, 3, 1, parts[1]), 0.0) == [message]
    assert one.acknowledgements() == [(other, FragmentsReceived(5, 14, 3))]
