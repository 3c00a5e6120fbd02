"""The refusals of the key-value store, as a client of it meets them."""

from typing import TypeVar

from trioraft.kv.questions import Answer, Refused
from trioraft.kv.results import Error, ErrorCode, Result

_R = TypeVar("_R")


class KeyValueError(Exception):
    """The store has refused a command or question; nothing was changed.

    Parameters
    ----------
    error : Error
        The refusal.

    Attributes
    ----------
    code : ErrorCode
        The reason.
    oldest_revision : int
        With ``ErrorCode.COMPACTED``: the oldest revision that can still be read, or watched from.
    """

    def __init__(self, error: Error) -> None:
        super().__init__(error.message)
        self.code: ErrorCode = error.code
        self.oldest_revision: int = error.oldest_revision


def expect(kind: type[_R], result: Result | Answer) -> _R:
    """Return the answer of the store, or raise its refusal.

    Parameters
    ----------
    kind : type
        The kind that the answer must have.
    result : Result or Answer
        The answer.

    Returns
    -------
    object
        The answer, which is of that kind.

    Raises
    ------
    KeyValueError
        If the store has refused.
    TypeError
        If the answer is of another kind.
    """
    if isinstance(result, Refused):
        result = result.error
    if isinstance(result, Error):
        raise KeyValueError(result)
    if not isinstance(result, kind):
        raise TypeError(f"the cluster answers with {type(result).__name__} where {kind.__name__} belongs")
    return result
