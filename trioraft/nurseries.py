"""Exceptions that come out of nurseries."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def bare_errors() -> Iterator[None]:
    """Let an exception that is alone in a nursery's group come out of the block without the group.

    What the body of somebody's ``async with open_client(…)`` raises shall pass through it as it is: that there is a
    nursery inside is nothing that the caller can know.

    Raises
    ------
    BaseException
        What was alone in its group; else the group, or whatever else the block raised.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        if len(group.exceptions) != 1:
            raise
        error = group.exceptions[0]
        context, cause = error.__context__, error.__cause__
        try:
            raise error
        finally:
            error.__context__, error.__cause__ = context, cause  # not the group that it came in
            del error, context, cause  # they hold this frame, and it holds them


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first exception of a group that is no group itself.

    Parameters
    ----------
    group : BaseExceptionGroup
        The group, which may have others in it.

    Returns
    -------
    BaseException
        The exception.
    """
    first = group.exceptions[0]
    return first_error(first) if isinstance(first, BaseExceptionGroup) else first
