"""Which signals a program obeys: those that it was not started to ignore."""

import signal
from typing import Final

# By these a program is told to end in good order.
ENDING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def not_ignored(*numbers: signal.Signals) -> list[signal.Signals]:
    """List the signals that this process does not ignore.

    Parameters
    ----------
    *numbers : signal.Signals
        The signals.

    Returns
    -------
    list of signal.Signals
        Those that are not ignored: ``nohup`` has SIGHUP ignored, by which a terminal says that it closes.
    """
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
