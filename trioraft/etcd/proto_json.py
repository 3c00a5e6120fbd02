"""Messages as JSON, as proto3 defines it and etcd's gateway does it.

Whole numbers of 64 bits are written as texts and read as texts or numbers, bytes are base64, enumerations are names
and read as names or numbers, and what has its default is left out. Fields that are not known are ignored, and names
may be in camelCase. Almost every document is read by msgspec at once. Where that refuses one, or camelCase or a
fraction is in it, it is read field by field, which knows everything and words errors as Go does.
"""

import binascii
import codecs
import enum
import json
import re
import typing
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from trioraft.etcd.go_json import base64_problem, cannot_unmarshal, what_is_wrong
from trioraft.etcd.messages import KeyValue, Message, RangeResponse

M = TypeVar("M", bound=Message)

_OBJECT: Final = "map[string]json.RawMessage"


class JsonError(ValueError):
    """A document that is not the message it should be; the text is that of etcd's gateway."""


class Field(Struct, frozen=True):
    """A field of a message.

    Attributes
    ----------
    attribute, name, camel : str
        Its names in Python, in the API, and in the API in camelCase.
    number : int
        Its number in protobuf.
    kind : type or str
        ``bytes``, ``str``, ``bool``, an enumeration or a message; or ``int64``, ``uint64`` or ``uint32``.
    repeated : bool
        Whether it is a list.
    """

    attribute: str
    name: str
    camel: str
    number: int
    kind: Any
    repeated: bool


@cache
def fields_of(cls: type[Message]) -> tuple[Field, ...]:
    """Return the fields of a message, as the table in :mod:`trioraft.etcd.messages` has them.

    Parameters
    ----------
    cls : type
        The message.

    Returns
    -------
    tuple of Field
        Its fields, in order.
    """
    hints = typing.get_type_hints(cls, include_extras=True)
    names = zip(cls.__struct_fields__, cls.__struct_encode_fields__, strict=True)
    return tuple(_field(attribute, name, hints[attribute]) for attribute, name in names)


def _field(attribute: str, name: str, hint: Any) -> Field:
    number = hint.__metadata__[-1]
    marks = [mark for mark in hint.__metadata__ if isinstance(mark, str)]
    kind = marks[0] if marks else hint.__origin__
    repeated = typing.get_origin(kind) is list
    if repeated:
        kind = typing.get_args(kind)[0]
    optional = [one for one in typing.get_args(kind) if one is not type(None)]
    first, *rest = name.split("_")
    camel = first + "".join(part.capitalize() for part in rest)
    return Field(attribute, name, camel, number, optional[0] if optional else kind, repeated)


# --- reading --------------------------------------------------------------------------------------------------


class _Number(str):
    """A number as it was written."""

    __slots__ = ()


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


_DECODER: Final = json.JSONDecoder(parse_int=_Number, parse_float=_Number, parse_constant=_refuse_constant)
_WHITE: Final = re.compile(r"[ \t\n\r]*")
# A whole number that is written as a fraction, or with an exponent.
_FRACTION: Final = re.compile(rb"[:,\[]\s*\"?-?[0-9]+(?:\.[0-9]+(?:[eE][+-]?[0-9]+)?|[eE][+-]?[0-9]+)\"?\s*[,}\]]")
# They are looked for in documents up to this size: to look takes longer than to read.
_LOOKED_THROUGH: Final = 16 * 1024
LARGE: Final = 64 * 1024
# A document that is larger has at most so many parts, for an object is made of each.
_PARTS_MAX: Final = 50_000


@cache
def _camel_names(cls: type[Message]) -> frozenset[bytes]:
    """Return the names in camelCase that a document may have, in quotes, and that are not the names themselves."""
    names: set[bytes] = set()
    seen: set[type[Message]] = set()
    left = [cls]
    while left:
        one = left.pop()
        if one not in seen:
            seen.add(one)
            names |= {f'"{field.camel}"'.encode() for field in fields_of(one) if field.camel != field.name}
            left += [field.kind for field in fields_of(one) if _is_message(field.kind)]
    return frozenset(names)


def _is_message(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Message)


@cache
def _fast(cls: type[Message]) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(cls, strict=False)


def refuse_many_parts(data: bytes) -> None:
    """Refuse a large document that would take long to read, because it has very many parts.

    Parameters
    ----------
    data : bytes
        The document.

    Raises
    ------
    JsonError
        If it is one.
    """
    if len(data) > LARGE and max(data.count(b"{"), data.count(b","), data.count(b"[")) > _PARTS_MAX:
        raise JsonError(f"a document of more than {LARGE} bytes has more than {_PARTS_MAX} parts")


def decode_fast(data: bytes, cls: type[M]) -> M | None:
    """Read a document at once, as nearly every one can be read.

    Parameters
    ----------
    data : bytes
        The document.
    cls : type
        The message.

    Returns
    -------
    Message or None
        The message; None where :func:`decode_carefully` has to read it.
    """
    if any(name in data for name in _camel_names(cls)) or (len(data) <= _LOOKED_THROUGH and _FRACTION.search(data)):
        return None
    try:
        return typing.cast(M, _fast(cls).decode(data))
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, ValueError):
        return None


def decode_carefully(data: bytes, cls: type[M]) -> M:
    """Read the first document of some bytes field by field.

    Parameters
    ----------
    data : bytes
        The bytes; none stand for an empty message.
    cls : type
        The message.

    Returns
    -------
    Message
        The message.

    Raises
    ------
    JsonError
        If it is none.
    """
    text = data.decode("utf-8", "replace")
    if not text.strip(" \t\r\n"):
        return cls()
    value, _ = _first(text)
    try:
        return _message(value, cls)
    except RecursionError:
        raise JsonError("exceeded max depth") from None


def decode(data: bytes, cls: type[M]) -> M:
    """Read the first document of some bytes; see :func:`decode_carefully`."""
    refuse_many_parts(data)
    fast = decode_fast(data, cls)
    return decode_carefully(data, cls) if fast is None else fast


def _first(text: str) -> tuple[object, int]:
    start = typing.cast(re.Match[str], _WHITE.match(text)).end()
    try:
        return _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError) as error:
        raise JsonError(what_is_wrong(text) or str(error)) from None


def _message(value: object, cls: type[M]) -> M:
    if value is None:
        return cls()
    if not isinstance(value, dict):
        raise JsonError(cannot_unmarshal(value, _OBJECT))
    found: dict[str, Any] = {}
    for field in fields_of(cls):
        given = value.get(field.name)
        if given is None:
            given = value.get(field.camel)
        if given is not None:
            found[field.attribute] = _list(given, field) if field.repeated else _single(given, field)
    return cls(**found)


def _list(value: object, field: Field) -> list[Any]:
    if not isinstance(value, list):
        raise JsonError(cannot_unmarshal(value, "[]json.RawMessage"))
    return [_single(one, field) for one in value if one is not None]


def _single(value: object, field: Field) -> Any:
    kind = field.kind
    if isinstance(kind, str):
        return _whole_number(value, kind)
    if kind is bytes:
        return _bytes(value)
    if kind is bool:
        if isinstance(value, bool):
            return value
        raise JsonError(cannot_unmarshal(value, "bool"))
    if kind is str:
        if type(value) is str:
            return value
        raise JsonError(cannot_unmarshal(value, "string"))
    if issubclass(kind, enum.Enum):
        return _member(value, kind)
    return _message(value, kind)


_BOUNDS: Final = {
    "int64": (-(2**63), 2**63 - 1),
    "uint64": (0, 2**64 - 1),
    "uint32": (0, 2**32 - 1),
}
_WHOLE: Final = re.compile(r"-?[0-9]{1,20}")


def _whole_number(value: object, kind: str) -> int:
    if not isinstance(value, str):
        raise JsonError(cannot_unmarshal(value, kind))
    if not isinstance(value, _Number) and (problem := what_is_wrong(value)):
        raise JsonError(problem)
    lowest, highest = _BOUNDS[kind]
    if not _WHOLE.fullmatch(value) or not lowest <= int(value) <= highest:
        raise JsonError(cannot_unmarshal(_Number(value), kind))
    return int(value)


def _bytes(value: object) -> bytes:
    if type(value) is not str:
        raise JsonError(cannot_unmarshal(value, "[]uint8"))
    try:
        return binascii.a2b_base64(value, strict_mode=True)
    except ValueError:  # there may be line ends in it
        problem = base64_problem(value)
    if problem:
        raise JsonError(problem)
    return binascii.a2b_base64(value)


def _member(value: object, kind: type[enum.Enum]) -> enum.Enum:
    members = list(kind)
    if isinstance(value, _Number):
        number = _whole_number(value, "int64")
        return members[number] if 0 <= number < len(members) else members[0]
    if not isinstance(value, str):
        raise JsonError(cannot_unmarshal(value, "string"))
    if value not in kind.__members__:
        raise JsonError(f"unknown value {json.dumps(value)} for enum {kind.__name__}")
    return kind[value]


_OUTSIDE: Final = re.compile(r'["{}]')
_INSIDE: Final = re.compile(r'["\\]')


class Documents:
    """The documents of a body that comes in parts, one after another; each part is looked at once."""

    def __init__(self) -> None:
        self._text = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._at = 0  # where to look on for the end of the first document
        self._depth = 0
        self._in_string = False

    def feed(self, data: bytes, *, ended: bool = False) -> None:
        """Take in a part of the body, perhaps the last one."""
        self._text += self._decoder.decode(data, ended)

    @property
    def size(self) -> int:
        """The number of characters that wait for the end of their document."""
        return len(self._text)

    def read(self, cls: type[M], *, ended: bool = False) -> Iterator[M]:
        """Read the documents that are whole.

        Parameters
        ----------
        cls : type
            The message that each is.
        ended : bool
            Whether nothing more comes, so that one that is not whole is an error.

        Yields
        ------
        Message
            Each message.
        """
        while True:
            if not self._at:
                self._text = self._text.lstrip(" \t\r\n")
            end = self._find_end() if self._text.startswith("{") else len(self._text)
            if not self._text or (not end and not ended):
                return
            document, self._text = self._text[: end or None], self._text[end:] if end else ""
            self._at, self._depth, self._in_string = 0, 0, False
            yield decode(document.encode("utf-8", "surrogatepass"), cls)

    def _find_end(self) -> int:
        """Return where the first document ends; 0 where that has not come."""
        while found := (_INSIDE if self._in_string else _OUTSIDE).search(self._text, self._at):
            self._at = found.end()
            match found[0]:
                case "\\":
                    self._at += 1
                case '"':
                    self._in_string = not self._in_string
                case "{":
                    self._depth += 1
                case _:
                    self._depth -= 1
                    if not self._depth:
                        return self._at
        self._at = max(self._at, len(self._text) - (1 if self._in_string else 0))
        return 0


# --- writing --------------------------------------------------------------------------------------------------


def _plain_key(kv: KeyValue) -> dict[str, Any]:
    """Do what :func:`plain` does, for the message that there is most of."""
    out: dict[str, Any] = {"key": kv.key}
    if kv.create_revision:
        out["create_revision"] = str(kv.create_revision)
    out["mod_revision"] = str(kv.mod_revision)
    if kv.version:
        out["version"] = str(kv.version)
    if kv.value:
        out["value"] = kv.value
    if kv.lease:
        out["lease"] = str(kv.lease)
    return out


@cache
def _writers(cls: type[Message]) -> tuple[tuple[str, str, Callable[[Any], Any]], ...]:
    return tuple((field.attribute, field.name, _writer(field)) for field in fields_of(cls))


def _writer(field: Field) -> Callable[[Any], Any]:
    kind = field.kind
    if kind in {"int64", "uint64"}:
        one: Callable[[Any], Any] = str
    elif _is_message(kind):
        one = _plain_key if kind is KeyValue else plain
    elif isinstance(kind, type) and issubclass(kind, enum.Enum):
        one = _name
    else:
        one = _same
    return (lambda values: [one(value) for value in values]) if field.repeated else one


def _same(value: Any) -> Any:
    return value


def _name(member: enum.Enum) -> Any:
    return member.value


def plain(message: Message) -> dict[str, Any]:
    """Return a message as what JSON can hold, without the fields that have their defaults.

    Parameters
    ----------
    message : Message
        The message.

    Returns
    -------
    dict
        Its fields by their names; bytes are still bytes, which msgspec writes as base64.
    """
    out: dict[str, Any] = {}
    for attribute, name, write in _writers(type(message)):
        value = getattr(message, attribute)
        if value or isinstance(value, Message):
            shown = write(value)
            if not isinstance(value, enum.Enum) or value is not next(iter(type(value))):
                out[name] = shown
    return out


_ENCODER: Final = msgspec.json.Encoder()


def encode(message: Message) -> bytes:
    """Write a message as JSON.

    Parameters
    ----------
    message : Message
        The message.

    Returns
    -------
    bytes
        The document.
    """
    return _ENCODER.encode(plain(message))


def encode_result(message: Message) -> bytes:
    """Write a message of a stream: as the field ``result`` of a document that ends with its line."""
    return _ENCODER.encode({"result": plain(message)}) + b"\n"


# So many bytes of a large answer are made at once.
_PIECE: Final = 64 * 1024


def encode_in_pieces(answer: RangeResponse) -> Iterator[bytes]:
    """Write the answer to a range piece by piece.

    Parameters
    ----------
    answer : RangeResponse
        The answer.

    Yields
    ------
    bytes
        A piece of the document.
    """
    if answer.header is not None:
        yield b'{"header":' + encode(answer.header) + b',"kvs":['
    piece: list[bytes] = []
    size = 0
    for kv in answer.kvs:
        piece.append(_ENCODER.encode(_plain_key(kv)))
        size += len(piece[-1])
        if size > _PIECE:
            yield b",".join(piece) + (b"" if kv is answer.kvs[-1] else b",")
            piece, size = [], 0
    more = b',"more":true' if answer.more else b""
    yield b",".join(piece) + b"]" + more + b',"count":"%d"}' % answer.count
