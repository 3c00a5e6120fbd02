"""The most frequent command and its result as bytes, written and read without a library.

Nearly every command of a busy store is a put of a short key, with no lease, which does not ask for the former value;
each replica decodes it, and encodes its result. So this module knows their bytes::

    85 01 KEY VALUE 00 f4        [1, KEY, VALUE, 0, false]
    83 01 REVISION f6            [1, REVISION, null]

Everything else is for :mod:`~trioraft.kv.codec`, and so is whatever is wrong. What is written here is what is written
there, and what is read here is read the same there. The bounds of a put are kept, because no length here has more
than two bytes.
"""

from struct import Struct
from typing import Final

from trioraft.kv.commands import Put
from trioraft.kv.results import PutResult

_PUT: Final = b"\x85\x01"
_NO_LEASE_NO_PREVIOUS: Final = b"\x00\xf4"
_KEY_MAX: Final = 2**8 - 1
_VALUE_MAX: Final = 2**16 - 1

# A byte string begins with its length, if that is small; else with what says in how many bytes the length follows.
_SMALL: Final = 0x40
_IN_1: Final = 0x58
_IN_2: Final = 0x59
_HEADS: Final = [
    bytes((_SMALL + size,)) if _SMALL + size < _IN_1 else bytes((_IN_1, size)) for size in range(_KEY_MAX + 1)
]
# The bytes of the largest byte strings with a head of one byte, and of two.
_WITH_HEAD_1: Final = _IN_1 - _SMALL
_WITH_HEAD_2: Final = 2 + _KEY_MAX

# A revision in two bytes, and in four.
_RESULT_2: Final = Struct(">3sHc")
_RESULT_4: Final = Struct(">3sIc")
_PUT_RESULT_2: Final = b"\x83\x01\x19"
_PUT_RESULT_4: Final = b"\x83\x01\x1a"
_NO_PREVIOUS: Final = b"\xf6"


def encode_put(put: Put) -> bytes | None:
    """Encode a put, or return None where that is not for this module."""
    key, value, lease = put.key, put.value, put.lease
    if type(key) is not bytes or type(value) is not bytes or type(lease) is not int:
        return None
    if lease or put.prev_kv is not False or not 0 < len(key) <= _KEY_MAX or len(value) > _VALUE_MAX:
        return None
    return b"".join((_PUT, _HEADS[len(key)], key, _head(len(value)), value, _NO_LEASE_NO_PREVIOUS))


def decode_put(data: bytes) -> Put | None:
    """Decode a put, or return None where that is not for this module."""
    end = len(data) - len(_NO_LEASE_NO_PREVIOUS)
    if end < 4 or data[:2] != _PUT or data[end:] != _NO_LEASE_NO_PREVIOUS:
        return None
    start, size = 3, data[2] - _SMALL
    if data[2] >= _IN_1:
        start, size = 4, data[3]
    after = start + size
    left = end - after  # the value with its head
    if size <= 0 or data[2] > _IN_1 or not 0 < left <= 3 + _VALUE_MAX:
        return None
    head = _head(left - (1 if left <= _WITH_HEAD_1 else 2 if left <= _WITH_HEAD_2 else 3))
    value = after + len(head)
    return Put(data[start:after], data[value:end]) if data[after:value] == head else None


def _head(size: int) -> bytes:
    return _HEADS[size] if size <= _KEY_MAX else bytes((_IN_2, size >> 8, size & 0xFF))


def encode_put_result(result: PutResult) -> bytes | None:
    """Encode the result of a put, or return None where that is not for this module."""
    revision = result.revision
    if result.prev_kv is not None or not 0xFF < revision < 2**32:
        return None
    if revision < 2**16:
        return _RESULT_2.pack(_PUT_RESULT_2, revision, _NO_PREVIOUS)
    return _RESULT_4.pack(_PUT_RESULT_4, revision, _NO_PREVIOUS)


def decode_put_result(data: bytes) -> PutResult | None:
    """Decode the result of a put, or return None where that is not for this module."""
    layout = _RESULT_4 if len(data) == _RESULT_4.size else _RESULT_2
    if len(data) != layout.size:
        return None
    start, revision, end = layout.unpack(data)
    known = _PUT_RESULT_4 if layout is _RESULT_4 else _PUT_RESULT_2
    return PutResult(revision) if start == known and end == _NO_PREVIOUS else None
