"""CBOR as it is used here: encoding of structs, and the one decoder, which takes bytes from anybody.

It decodes nothing but numbers, text, bytes, booleans, null, arrays and maps. msgspec then checks that these have the
types and bounds which a struct states; a caller converts what it has decoded with ``builtin_types=(bytes,)``.
"""

import io
from collections.abc import Callable
from typing import Any, Final

import cbor2
import msgspec

# The elections in a status are nested 5 deep, and so are the results of a transaction.
_DEPTH_MAX: Final = 8


class _NoTags(dict[int, Callable[..., Any]]):
    """A decoder for every CBOR tag there is, which refuses it: decoding some tags costs much, and none is used."""

    def __missing__(self, tag: int) -> Callable[..., Any]:
        return _refuse_tag


def _refuse_tag(*_: object) -> Any:
    raise ValueError("CBOR tags are not used here")


_NO_TAGS: Final = _NoTags()


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


def decode_untrusted(data: bytes) -> Any:
    """Decode one item of CBOR.

    Parameters
    ----------
    data : bytes
        CBOR, from anybody.

    Returns
    -------
    object
        Numbers, text, bytes, booleans, None, lists, and dictionaries of these; nested 8 deep at most.

    Raises
    ------
    ValueError
        If it is anything else, or has an indefinite length, a key twice, or something behind it.
    """
    stream = io.BytesIO(data)
    try:
        item = cbor2.CBORDecoder(
            stream,
            tag_hook=_refuse_tag,
            semantic_decoders=_NO_TAGS,
            max_depth=_DEPTH_MAX,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            strict_hashable_types=True,
        ).decode()
    except Exception as error:  # whatever the library raises, it is the data that is wrong
        raise ValueError(str(error)) from error
    if stream.tell() != len(data):
        raise ValueError("there is something behind the end")
    return item
