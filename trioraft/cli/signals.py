"""The signals that end a command, from its first moment to its last.

By default a process dies of them at once, and leaves things behind: keys of a benchmark, a temporary directory, a
place in a lock's queue. So a signal raises an exception, as Ctrl-C does, and the command cleans up. A signal that was
ignored when the process started, as `nohup` arranges, stays ignored.
"""

import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import FrameType
from typing import Final, TypeVar

from trioraft.signals import not_ignored

_T = TypeVar("_T")

SIGNALLED: Final = 128
_END: Final = (signal.SIGTERM, signal.SIGHUP)


class ToldToEnd(BaseException):
    """A signal ends this process.

    Parameters
    ----------
    number : int
        The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.exit_status = SIGNALLED + number


class _Handler:
    """The handler that raises :class:`ToldToEnd` in the main thread, but never within trio's own code."""

    def __init__(self) -> None:
        self.holds_back = False
        self.held_back: list[int] = []

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        if not self.holds_back:
            raise ToldToEnd(number)
        self.held_back.append(number)


_handler = _Handler()


def raise_when_told() -> None:
    """Raise :class:`ToldToEnd` in the main thread when a signal comes, from now on."""
    for number in not_ignored(*_END):
        signal.signal(number, _handler)


def die_when_told() -> None:
    """Let a signal end this process at once from now on, because nothing is left to clean up."""
    for number in not_ignored(*_END):
        signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def signals_held_back() -> Iterator[None]:
    """Raise nothing while trio runs; :func:`run_until_told` acts on a signal that comes before it listens."""
    _handler.holds_back = True
    try:
        yield
    finally:
        _handler.holds_back = False


async def run_until_told(main: Callable[[], Awaitable[_T]]) -> _T:
    """Run a program, and cancel it when a signal comes; within :func:`signals_held_back`.

    Parameters
    ----------
    main : callable
        The program.

    Returns
    -------
    object
        The result of the program, also where it ended by itself after a signal.

    Raises
    ------
    ToldToEnd
        If the program was cancelled.
    """
    import trio  # noqa: PLC0415 - commands without a cluster start faster

    told: list[int] = []
    returned: list[_T] = []
    with contextlib.ExitStack() as stack:
        async with trio.open_nursery() as nursery:

            async def listen(signals: AsyncIterator[int]) -> None:
                async for number in signals:
                    told.append(number)
                    nursery.cancel_scope.cancel()

            if numbers := not_ignored(*_END):
                nursery.start_soon(listen, stack.enter_context(trio.open_signal_receiver(*numbers)))
            if _handler.held_back:
                told.append(_handler.held_back[0])
                nursery.cancel_scope.cancel()
            returned.append(await main())
            nursery.cancel_scope.cancel()
    if not returned:
        raise ToldToEnd(told[0])
    return returned[0]
