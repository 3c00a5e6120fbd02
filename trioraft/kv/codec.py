"""Commands and results as bytes: CBOR arrays, ``[tag, field, field, …]``."""

import re
from typing import Final, Generic, TypeVar

import cbor2
import msgspec

from trioraft.datagrams import cbor
from trioraft.kv.commands import COMMAND_MAX, LONG_MAX, Command, Put
from trioraft.kv.requests import NESTED_MAX, Request, TxnRequest, to_command
from trioraft.kv.results import PutResult, Result
from trioraft.kv.short import decode_put, decode_put_result, encode_put, encode_put_result

T = TypeVar("T")

pack: Final = cbor.encode


class Box(msgspec.Struct, Generic[T], frozen=True, array_like=True):
    """A box for a union of structs: msgspec caches how to decode a struct, but not how to decode a union."""

    content: T


# A transaction within another one is two arrays further in: a list of operations, and a request.
_TXN_DEPTH: Final = cbor.DEPTH_MAX + 2 * NESTED_MAX
_TXN: Final = TxnRequest.__struct_config__.tag
_COMMANDS: Final = Command | Request


class _AnyCommand(Box[Command | Request], frozen=True, array_like=True):
    pass


class _AnyResult(Box[Result], frozen=True, array_like=True):
    pass


def unpack(data: bytes, box: type[Box[T]], depth: int = cbor.DEPTH_MAX) -> T:
    """Decode and validate what :func:`pack` encoded.

    Parameters
    ----------
    data : bytes
        CBOR, from anybody.
    box : type
        The box for the type that it must have.
    depth : int
        How deep it may be nested.

    Returns
    -------
    object
        The content of the box.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    item = cbor.decode_untrusted(data, depth)
    try:
        return msgspec.convert([item], box, builtin_types=(bytes,)).content
    except Exception as error:  # whatever msgspec raises, the data is wrong
        raise ValueError(str(error)) from error


def encode_command(command: Command | Request) -> bytes:
    """Encode a command for the log.

    Parameters
    ----------
    command : Command or Request
        The command.

    Returns
    -------
    bytes
        The command, as :meth:`KeyValueStore.apply` takes it.

    Raises
    ------
    ValueError
        If a field is out of its bounds, which the text names, or the command is too large.
    """
    short = encode_put(command) if type(command) is Put else None
    if short is not None:
        return short
    if not isinstance(command, _COMMANDS):
        raise TypeError(f"this is no command of the key-value store, but {type(command).__name__}")
    data = pack_checked(command)
    largest = LONG_MAX if isinstance(command, Request) else COMMAND_MAX
    if len(data) > largest:
        raise ValueError(f"the command has {len(data)} bytes; at most {largest} are allowed")
    return data


def pack_checked(struct: msgspec.Struct) -> bytes:
    """Encode a struct as :func:`pack` does, if its fields are within their bounds.

    Parameters
    ----------
    struct : Struct
        A command or a question.

    Returns
    -------
    bytes
        Its CBOR.

    Raises
    ------
    ValueError
        If a field is out of its bounds; the text names it.
    """
    plain = msgspec.to_builtins(struct, builtin_types=(bytes,))
    try:
        msgspec.convert(plain, type(struct), builtin_types=(bytes,))
    except msgspec.ValidationError as error:
        raise ValueError(_in_words(struct, str(error))) from None
    return cbor2.dumps(plain)


def _in_words(command: msgspec.Struct, error: str) -> str:
    """Name the field of a command that is wrong: ``key: expected `bytes` of length >= 1`` for ``… at `$[1]```."""
    reason, _, path = error.partition(" - at ")
    reason = reason.replace("`", "")
    value: object = command
    names = [type(command).__name__]
    for place in map(int, re.findall(r"\[(\d+)\]", path)):
        if isinstance(value, msgspec.Struct):
            field = value.__struct_fields__[place - (value.__struct_config__.tag is not None)]
            names.append(field)
            value = getattr(value, field)
        elif isinstance(value, tuple):
            value = value[place]
            names.append(type(value).__name__)
    return f"{'.'.join(names)}: {reason[:1].lower()}{reason[1:]}"


def encode_request(request: Request) -> bytes:
    """Encode a request for the log, in the shortest way; see :func:`encode_command`."""
    return encode_command(to_command(request))


def decode_command(data: bytes) -> Command | Request:
    """Decode and validate a command.

    Parameters
    ----------
    data : bytes
        The command, from anybody.

    Returns
    -------
    Command or Request
        The command.

    Raises
    ------
    ValueError
        If it is none.
    """
    # What is older has the depth that it always had: a replica of an earlier release must refuse the same commands.
    is_txn = len(data) > 1 and data[0] in cbor.SMALL_ARRAYS and data[1] == _TXN
    return decode_put(data) or unpack(data, _AnyCommand, _TXN_DEPTH if is_txn else cbor.DEPTH_MAX)


def encode_result(result: Result) -> bytes:
    """Encode a result.

    Parameters
    ----------
    result : Result
        The result.

    Returns
    -------
    bytes
        The result, as :func:`decode_result` takes it.
    """
    short = encode_put_result(result) if type(result) is PutResult else None
    return pack(result) if short is None else short


def decode_result(data: bytes) -> Result:
    """Decode and validate a result.

    Parameters
    ----------
    data : bytes
        A return value of :meth:`KeyValueStore.apply`.

    Returns
    -------
    Result
        The result.

    Raises
    ------
    ValueError
        If it is none.
    """
    return decode_put_result(data) or unpack(data, _AnyResult, _TXN_DEPTH)
