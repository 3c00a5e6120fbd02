"""Checks of the arguments of public functions.

Each function returns the argument, or raises ``TypeError`` or ``ValueError`` with one line that names the argument,
what is allowed and what was given. An argument of the wrong type must not get further: a command in the log reaches
every node, and stays there.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

T = TypeVar("T")

_LARGEST: Final = 2**63 - 1
_SHOWN_MAX: Final = 60


def _given(value: object) -> str:
    """Describe what was given: its type, and its value where that is short."""
    kind = type(value).__qualname__
    if value is None or isinstance(value, type):
        return repr(value)
    shown = repr(value)
    return f"{kind} {shown}" if isinstance(value, str | int | float) and len(shown) <= _SHOWN_MAX else kind


def check_bytes(name: str, value: object) -> bytes:
    """Check that an argument is bytes, and return a copy where they can change.

    Parameters
    ----------
    name : str
        The name of the argument.
    value : object
        Bytes, a ``bytearray`` or a ``memoryview``.

    Returns
    -------
    bytes
        The bytes, which nobody can change.
    """
    if type(value) is bytes:
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    hint = "; encode the text first, as in .encode()" if isinstance(value, str) else ""
    raise TypeError(f"{name} must be bytes, not {_given(value)}{hint}")


def check_text_or_bytes(name: str, value: object) -> bytes:
    """Check that an argument is text or bytes, and return bytes; text becomes UTF-8.

    Parameters
    ----------
    name : str
        The name of the argument.
    value : object
        Text or bytes.

    Returns
    -------
    bytes
        The bytes.
    """
    if type(value) is bytes:  # most often, and quicker than what follows
        return value
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{name} has no UTF-8: {error.reason} at {error.start}; give bytes") from None
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise TypeError(f"{name} must be text or bytes, not {_given(value)}")


def check_name(name: str, value: object, longest: int) -> str:
    """Check that an argument is a text, and neither empty nor too long.

    Parameters
    ----------
    name : str
        The name of the argument.
    value : object
        The text.
    longest : int
        The largest number of bytes of its UTF-8.

    Returns
    -------
    str
        The text.
    """
    text = check_is(name, value, str)
    if not 0 < len(check_text_or_bytes(name, text)) <= longest:
        raise ValueError(f"{name} must have 1 to {longest} bytes")
    return text


def check_number(name: str, value: object, lowest: int = 0, highest: int = _LARGEST) -> int:
    """Check that an argument is a whole number within its bounds.

    Parameters
    ----------
    name : str
        The name of the argument.
    value : object
        The number; a truth value is no number.
    lowest, highest : int
        The bounds.

    Returns
    -------
    int
        The number.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, not {_given(value)}")
    if not lowest <= value <= highest:
        raise ValueError(f"{name} must be from {lowest} to {highest}, not {value}")
    return int(value)


def check_seconds(name: str, value: object) -> float:
    """Check that an argument is a duration.

    Parameters
    ----------
    name : str
        The name of the argument.
    value : object
        Seconds, which may be infinite.

    Returns
    -------
    float
        The seconds.
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number of seconds, not {_given(value)}")
    if not value >= 0:
        raise ValueError(f"{name} must be 0 seconds or more, not {value}")
    return float(value)


def check_is(name: str, value: object, kind: type[T]) -> T:
    """Check that an argument is of a class.

    Parameters
    ----------
    name : str
        The name of the argument.
    value : object
        The object.
    kind : type
        The class.

    Returns
    -------
    object
        The object.
    """
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be {kind.__name__}, not {_given(value)}")
    return value


def check_all(name: str, values: object, *kinds: type) -> tuple[Any, ...]:
    """Check that an argument is a sequence of objects of some classes, and return a tuple of them.

    Parameters
    ----------
    name : str
        The name of the argument.
    values : object
        A list, a tuple or another iterable of objects.
    *kinds : type
        The classes.

    Returns
    -------
    tuple
        The objects.
    """
    words = " or ".join(kind.__name__ for kind in kinds)
    if not isinstance(values, Iterable) or isinstance(values, str | bytes | Mapping):
        raise TypeError(f"{name} must be a sequence of {words}, not {_given(values)}")
    given = tuple(values)
    for value in given:
        if not isinstance(value, kinds):
            raise TypeError(f"{name} must be a sequence of {words}, and has {_given(value)} in it")
    return given


def check_all_bytes(name: str, values: object) -> list[bytes]:
    """Check that an argument is a sequence of bytes, and return a list of them as they are now.

    Parameters
    ----------
    name : str
        The name of the argument.
    values : object
        A list, a tuple or another iterable of bytes, bytearrays or memoryviews.

    Returns
    -------
    list of bytes
        The bytes.
    """
    return [check_bytes(name, value) for value in check_all(name, values, bytes, bytearray, memoryview)]


def check_function(name: str, value: object, *, is_async: bool | None = None) -> Callable[..., Any]:
    """Check that an argument can be called.

    Parameters
    ----------
    name : str
        The name of the argument.
    value : object
        The function.
    is_async : bool, optional
        Whether it must, or must not, be an async function, as far as that can be seen.

    Returns
    -------
    callable
        The function.
    """
    if not callable(value):
        raise TypeError(f"{name} must be a function, not {_given(value)}")
    if is_async is False and inspect.iscoroutinefunction(value):
        raise TypeError(f"{name} must not be an async function: nobody awaits what it returns")
    return value


def check_methods(name: str, value: object, *methods: str) -> None:
    """Check that an argument is an object with some methods, and no class.

    Parameters
    ----------
    name : str
        The name of the argument.
    value : object
        The object.
    *methods : str
        The methods; none of them may be an async function.
    """
    if isinstance(value, type):
        raise TypeError(f"{name} must be an object, not the class {value.__qualname__} itself; call it")
    for method in methods:
        if not hasattr(value, method):
            raise TypeError(f"{name} must have a method {method!r}, which {type(value).__qualname__} has not")
        check_function(f"{type(value).__qualname__}.{method}", getattr(value, method), is_async=False)
