"""Helpers for the groups of exceptions that nurseries raise."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def bare_errors() -> Iterator[None]:
    """Let an exception that is alone in a nursery's group come out of the block without the group.

    An exception in the body of ``async with open_client(…)`` has to pass through it unchanged, because its caller
    cannot know that there is a nursery inside.

    Raises
    ------
    BaseException
        The exception that was alone in its group; else the group, or any other exception of the block.
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
