"""CBOR as it is used here: encoding of structs, and the one decoder, which takes bytes from anybody.

It decodes nothing but numbers, text, bytes, booleans, null, arrays and maps. msgspec then checks that these have the
types and bounds which a struct states; a caller converts what it has decoded with ``builtin_types=(bytes,)``.
"""

import os
from collections.abc import Callable
from typing import Any, Final

import cbor2
import msgspec

# The elections in a status are nested 5 deep, and so are the results of a transaction.
DEPTH_MAX: Final = 8
# The first bytes of arrays of less than 24 items; the next byte is the first item, where that is a small number.
SMALL_ARRAYS: Final = range(0x80, 0x98)


class _NoTags(dict[int, Callable[..., Any]]):
    """A decoder for every CBOR tag there is, which refuses it: decoding some tags costs much, and none is used."""

    def __missing__(self, tag: int) -> Callable[..., Any]:
        return _refuse_tag


def _refuse_tag(*_: object) -> Any:
    raise ValueError("CBOR tags are not used here")


_NO_TAGS: Final = _NoTags()
# The library does not say where an item ends. So what is to be decoded becomes the first item of two, and the second
# one is found where nothing comes between them. It is drawn anew by each process, so that nobody can end an item with
# it and go on.
_END_ITEM: Final = os.urandom(16)
_END: Final = cbor2.dumps(_END_ITEM)
_PAIR: Final = b"\x82"


def encode(value: object) -> bytes:
    """Encode structs.

    Parameters
    ----------
    value : object
        A struct, or a list that may hold some.

    Returns
    -------
    bytes
        Its CBOR; always the same for equal values.
    """
    return cbor2.dumps(msgspec.to_builtins(value, builtin_types=(bytes,)))


def decode_untrusted(data: bytes, depth: int = DEPTH_MAX) -> Any:
    """Decode one item of CBOR.

    Parameters
    ----------
    data : bytes
        CBOR, from anybody.
    depth : int
        How deep it may be nested.

    Returns
    -------
    object
        Numbers, text, bytes, booleans, None, lists, and dictionaries of these.

    Raises
    ------
    ValueError
        If it is anything else, or has an indefinite length, a key twice, or something behind it.
    """
    try:
        item, end = cbor2.loads(
            _PAIR + data + _END,
            tag_hook=_refuse_tag,
            semantic_decoders=_NO_TAGS,
            max_depth=depth + 1,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            strict_hashable_types=True,
        )
    except Exception as error:  # whatever the library raises, it is the data that is wrong
        raise ValueError(str(error)) from error
    if end != _END_ITEM:
        raise ValueError("there is something behind the end")
    return item
