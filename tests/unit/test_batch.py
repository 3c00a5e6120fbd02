"""The bytes of batches and of their outcomes, and what is none."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from trioraft.messages import (
    COMMANDS_MAX,
    Batch,
    PartOutcome,
    Refused,
    decode_batch_untrusted,
    decode_outcomes_untrusted,
    encode_batch,
    encode_outcomes,
)

Commands = tuple[bytes | None, ...]
COMMANDS = st.lists(st.none() | st.binary(max_size=40), min_size=1, max_size=COMMANDS_MAX).map(tuple)
NUMBERS = st.integers(0, 2**62)
REFUSALS = st.builds(Refused, st.from_regex("[a-z-]{1,20}", fullmatch=True), st.text(max_size=30))
OUTCOMES = st.lists(st.none() | st.binary(max_size=40) | REFUSALS, min_size=1, max_size=COMMANDS_MAX)


def test_a_batch_has_these_bytes() -> None:
    batch = Batch(7, 3, 2, (b"one", None, b"", b"four"))
    assert encode_batch(batch) == (
        b"\0\0\0\0\0\0\0\7\0\0\0\0\0\0\0\3\0\0\0\0\0\0\0\2\0\0\0\4\0\0\0\3\xff\xff\xff\xff\0\0\0\0\0\0\0\4onefour"
    )


def test_outcomes_have_these_bytes() -> None:
    assert encode_outcomes([b"ok", Refused("busy", "no"), None], 100) == (
        b"\0\0\0\3\0\0\0\2\x80\0\0\7\xff\xff\xff\xffokbusy\nno"
    )


@given(NUMBERS, NUMBERS, NUMBERS, COMMANDS)
def test_a_batch_is_decoded_as_it_was(session: int, first: int, below: int, commands: Commands) -> None:
    batch = Batch(session, first, below, commands)
    assert decode_batch_untrusted(encode_batch(batch)) == batch


@given(OUTCOMES)
def test_outcomes_are_decoded_as_they_were(outcomes: list[PartOutcome]) -> None:
    assert decode_outcomes_untrusted(encode_outcomes(outcomes, 10**6)) == outcomes


@given(COMMANDS, st.data())
def test_a_batch_that_is_cut_short_or_has_more_is_none(commands: Commands, data: st.DataObject) -> None:
    encoded = encode_batch(Batch(1, 1, 1, commands))
    length = data.draw(st.integers(0, len(encoded) - 1))
    assert decode_batch_untrusted(encoded[:length]) is None
    assert decode_batch_untrusted(encoded + b"x") is None


@given(st.binary(max_size=200))
def test_any_bytes_are_a_batch_that_encodes_to_them_or_none(data: bytes) -> None:
    batch = decode_batch_untrusted(data)
    assert batch is None or encode_batch(batch) == data


@pytest.mark.parametrize(
    "batch",
    [Batch(2**62 + 1, 1, 1, (b"",)), Batch(1, 2**62 + 1, 1, (b"",)), Batch(1, 1, 1, (b"",) * (COMMANDS_MAX + 1))],
)
def test_numbers_and_counts_beyond_their_bounds_make_no_batch(batch: Batch) -> None:
    assert decode_batch_untrusted(encode_batch(batch)) is None


def test_a_refusal_is_no_command() -> None:
    head = encode_batch(Batch(1, 1, 1, (b"",)))[:24]
    assert decode_batch_untrusted(head + encode_outcomes([Refused("busy", "")], 100)) is None


@given(OUTCOMES, st.integers(0, 3000))
def test_outcomes_without_room_are_left_out_and_the_others_told(outcomes: list[PartOutcome], room: int) -> None:
    most = 4 + 4 * len(outcomes) + room
    told = decode_outcomes_untrusted(data := encode_outcomes(outcomes, most))
    assert len(data) <= most
    assert told is not None
    assert all(mine in (None, theirs) for mine, theirs in zip(told, outcomes, strict=True))
