"""What is wrong with a JSON document, in the words of Go's ``encoding/json``: clients of etcd compare them.

A document that is well formed never gets here; it is read by faster means.
"""

import re
from typing import Final

_WHITE: Final = re.compile(r"[ \t\n\r]*")
_PLAIN: Final = re.compile(r'[^"\\\x00-\x1f]*')
_DIGITS: Final = re.compile(r"[0-9]*")
_HEX: Final = frozenset("0123456789abcdefABCDEF")
_VALUE: Final = "looking for beginning of value"
_DEEPEST: Final = 10_000  # as in Go


class _WrongError(Exception):
    """The document is wrong; the text says what."""


def _shown(character: str) -> str:
    """Quote a character as Go does."""
    special = {"'": r"'\''", '"': "'\"'", "\n": r"'\n'", "\t": r"'\t'", "\r": r"'\r'", "\\": r"'\\'"}
    if character in special:
        return special[character]
    return f"'{character}'" if character.isprintable() else f"'\\x{ord(character):02x}'"


class _Scanner:
    """Reads one value and raises an error at the first character that cannot be."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def _fail(self, context: str) -> _WrongError:
        if self._at >= len(self._text):
            return _WrongError("unexpected EOF")
        return _WrongError(f"invalid character {_shown(self._text[self._at])} {context}")

    def _skip(self, pattern: re.Pattern[str] = _WHITE) -> str:
        found = pattern.match(self._text, self._at)
        self._at = found.end() if found else self._at
        return self._text[self._at : self._at + 1]

    def value(self, depth: int = 0) -> None:
        """Read a value."""
        if depth > _DEEPEST:
            raise _WrongError("exceeded max depth")
        match self._skip():
            case "{":
                self._object(depth)
            case "[":
                self._array(depth)
            case '"':
                self._string()
            case "t" | "f" | "n" as first:
                self._literal({"t": "true", "f": "false", "n": "null"}[first])
            case first if first and first in "-0123456789":
                self._number()
            case _:
                raise self._fail(_VALUE)

    def _literal(self, word: str) -> None:
        for expected in word:
            if self._text[self._at : self._at + 1] != expected:
                raise self._fail(f"in literal {word} (expecting {_shown(expected)})")
            self._at += 1

    def _number(self) -> None:
        if self._text[self._at] == "-":
            self._at += 1
        if self._text[self._at : self._at + 1] == "0":
            self._at += 1
        elif not self._digits():
            raise self._fail("in numeric literal")
        if self._text[self._at : self._at + 1] == ".":
            self._at += 1
            if not self._digits():
                raise self._fail("after decimal point in numeric literal")
        if self._text[self._at : self._at + 1] in {"e", "E"}:
            self._at += 1
            if self._text[self._at : self._at + 1] in {"+", "-"}:
                self._at += 1
            if not self._digits():
                raise self._fail("in exponent of numeric literal")

    def _digits(self) -> bool:
        before = self._at
        self._skip(_DIGITS)
        return self._at > before

    def _string(self) -> None:
        self._at += 1
        while (found := self._skip(_PLAIN)) != '"':
            if found != "\\":
                raise self._fail("in string literal")
            self._at += 1
            escape = self._text[self._at : self._at + 1]
            if not escape or escape not in '"\\/bfnrtu':
                raise self._fail("in string escape code")
            self._at += 1
            for _ in range(4 if escape == "u" else 0):
                if self._text[self._at : self._at + 1] not in _HEX:
                    raise self._fail("in \\u hexadecimal character escape")
                self._at += 1
        self._at += 1

    def _object(self, depth: int) -> None:
        self._at += 1
        if self._skip() == "}":
            self._at += 1
            return
        while True:
            if self._skip() != '"':
                raise self._fail("looking for beginning of object key string")
            self._string()
            if self._skip() != ":":
                raise self._fail("after object key")
            self._at += 1
            self.value(depth + 1)
            after = self._skip()
            if after not in {",", "}"}:
                raise self._fail("after object key:value pair")
            self._at += 1
            if after == "}":
                return

    def _array(self, depth: int) -> None:
        self._at += 1
        if self._skip() == "]":
            self._at += 1
            return
        while True:
            self.value(depth + 1)
            after = self._skip()
            if after not in {",", "]"}:
                raise self._fail("after array element")
            self._at += 1
            if after == "]":
                return


def what_is_wrong(text: str) -> str:
    """Say what is wrong with the first JSON value of a text.

    Parameters
    ----------
    text : str
        The text.

    Returns
    -------
    str
        The words of Go's decoder; empty where it would take the value.
    """
    try:
        _Scanner(text).value()
    except _WrongError as wrong:
        return str(wrong)
    except RecursionError:
        return "exceeded max depth"
    return ""


def kind_of(value: object) -> str:
    """Name the kind of a JSON value as Go does: ``array``, ``object``, ``string``, ``bool`` or ``number``."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, list):
        return "array"
    if isinstance(value, dict):
        return "object"
    return "string" if type(value) is str else "number"


def cannot_unmarshal(value: object, wanted: str) -> str:
    """Word that a value is not of the type that is wanted.

    Parameters
    ----------
    value : object
        The value; a number is given as its text, in a subclass of ``str``.
    wanted : str
        The type in Go.

    Returns
    -------
    str
        The error.
    """
    kind = kind_of(value)
    shown = f"{kind} {value}" if kind == "number" else kind
    return f"json: cannot unmarshal {shown} into Go value of type {wanted}"


def base64_problem(text: str) -> str:
    """Say where a text is no standard base64 with padding, line ends aside; empty where it is.

    Parameters
    ----------
    text : str
        The text.

    Returns
    -------
    str
        The error of Go's ``encoding/base64``.
    """
    at = _corrupt_at(text)
    return "" if at is None else f"illegal base64 data at input byte {at}"


_ALPHABET: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")


def _corrupt_at(text: str) -> int | None:
    place = 0  # within four characters
    for at, character in enumerate(text):
        if character in "\r\n":
            continue
        if character == "=":
            return _corrupt_padding(text, at, place)
        if character not in _ALPHABET:
            return at
        place = (place + 1) % 4
    return len(text) - place if place else None


def _corrupt_padding(text: str, at: int, place: int) -> int | None:
    """Check the end of a text from its first ``=`` on, which has a place within four characters."""
    if place < 2:
        return at
    rest = at + 1
    if place == 2:
        while text[rest : rest + 1] in {"\r", "\n"}:
            rest += 1
        if rest >= len(text):
            return len(text)
        if text[rest] != "=":
            return rest
        rest += 1
    while text[rest : rest + 1] in {"\r", "\n"}:
        rest += 1
    return rest if rest < len(text) else None
