"""The short way from puts and their results to bytes and back, against the general one."""

from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trioraft.datagrams import cbor
from trioraft.kv import KeyValue, Put, PutResult, decode_command, decode_result, encode_command, encode_result
from trioraft.kv.codec import Box, pack_checked, unpack
from trioraft.kv.commands import KEY_MAX, VALUE_MAX, Command
from trioraft.kv.results import Result
from trioraft.kv.short import decode_put, decode_put_result, encode_put, encode_put_result

# Where the length of a byte string, or a number, gets another form.
EDGES = [0, 1, 2, 22, 23, 24, 25, 26, 255, 256, 257, 258, 65535, 65536, 65537]
sizes = st.sampled_from(EDGES) | st.integers(0, 300)
puts = st.builds(Put, sizes.map(bytes), sizes.map(bytes))
numbers = st.sampled_from([edge + by for edge in (2**8, 2**16, 2**32, 2**63) for by in (-1, 0, 1)]) | st.integers(
    0, 30
)


class AnyCommand(Box[Command], frozen=True, array_like=True):
    pass


class AnyResult(Box[Result], frozen=True, array_like=True):
    pass


def outcome(function: Any, *given: Any) -> object:
    try:
        return function(*given)
    except (ValueError, msgspec.ValidationError):
        return "refused"


@given(puts)
def test_a_put_has_the_same_bytes_both_ways(put: Put) -> None:
    assert encode_put(put) in {None, outcome(pack_checked, put)}
    assert outcome(encode_command, put) == outcome(pack_checked, put)


@pytest.mark.parametrize("key_size", [edge for edge in EDGES if 0 < edge <= 255])
@pytest.mark.parametrize("value_size", [edge for edge in EDGES if edge <= 65535])
def test_a_put_of_moderate_size_is_written_and_read_the_short_way(key_size: int, value_size: int) -> None:
    put = Put(bytes(key_size), bytes(value_size))
    data = encode_put(put)
    assert data == cbor.encode(put)
    assert decode_put(data) == put


@pytest.mark.parametrize(
    "fields",
    [
        (b"", b""),
        (b"k", b"", 1),
        (b"k", b"", 0, True),
        (b"k", b"", False),
        (b"k", b"", 0.0),
        (b"k", b"", 0, 0),
        (b"k", bytearray(b"v")),
        ("k", b""),
        (b"k", "v"),
        (bytes(KEY_MAX + 1), b""),
        (b"k", bytes(VALUE_MAX + 1)),
        (bytes(KEY_MAX), bytes(VALUE_MAX)),
    ],
    ids=lambda fields: str(fields)[:30],
)
def test_a_put_that_is_another_or_wrong_is_left_to_the_general_way(fields: Any) -> None:
    put = Put(*fields)
    assert encode_put(put) is None
    assert outcome(encode_command, put) == outcome(pack_checked, put)


def _damaged(data: bytes, place: int, byte: int, cut: int) -> bytes:
    changed = bytearray(data)
    changed[place % len(data)] = byte
    return bytes(changed[: len(changed) - cut])


@given(puts, st.integers(0, 8) | st.integers(0, 2**17), st.integers(0, 255), st.sampled_from([0, 0, 0, 1, 2, 3]))
@example(Put(b"k", b""), 2, 0x58, 0)
@example(Put(bytes(24), b""), 3, 0, 0)
@example(Put(b"kk", b"v"), 2, 0x44, 0)
def test_whatever_is_read_as_a_put_is_read_the_same_both_ways(put: Put, place: int, byte: int, cut: int) -> None:
    data = cbor.encode(put)
    for changed in (data, _damaged(data, place, byte, cut)):
        general = outcome(unpack, changed, AnyCommand)
        assert decode_put(changed) in {None, general}
        assert outcome(decode_command, changed) == general


@given(st.binary(max_size=12).map(lambda middle: b"\x85\x01" + middle + b"\x00\xf4") | st.binary(max_size=12))
def test_any_bytes_are_read_as_a_command_the_same_both_ways(data: bytes) -> None:
    assert decode_put(data) in {None, outcome(unpack, data, AnyCommand)}


@given(numbers)
def test_the_result_of_a_put_has_the_same_bytes_both_ways(revision: int) -> None:
    result = PutResult(revision)
    data = cbor.encode(result)
    assert encode_result(result) == data
    assert encode_put_result(result) in {None, data}
    assert decode_put_result(data) in {None, result}
    assert outcome(decode_result, data) == outcome(unpack, data, AnyResult)


@given(st.binary(max_size=9) | st.binary(max_size=6).map(lambda data: b"\x83\x01" + data))
@example(b"\x83\x01\x19\x00\x01\xf6")
@example(b"\x83\x01\x1a\xff\xff\xff\xff\xf6")
@example(b"\x83\x01\x1a\xff\xff\xff\xff\xf7")
def test_any_bytes_are_read_as_a_result_the_same_both_ways(data: bytes) -> None:
    assert decode_put_result(data) in {None, outcome(unpack, data, AnyResult)}


@pytest.mark.parametrize("revision", [2**8, 2**16 - 1, 2**16, 2**32 - 1])
def test_the_result_of_a_put_is_written_and_read_the_short_way(revision: int) -> None:
    result = PutResult(revision)
    data = encode_put_result(result)
    assert data == cbor.encode(result)
    assert decode_put_result(data) == result


def test_a_result_with_the_former_value_is_left_to_the_general_way() -> None:
    result = PutResult(1000, KeyValue(b"key", b"value", 1, 1, 1))
    assert encode_put_result(result) is None
    assert decode_result(encode_result(result)) == result
