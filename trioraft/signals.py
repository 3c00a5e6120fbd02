"""The signals that end a program, unless it was started to ignore them."""

import signal
from typing import Final

# The signals at which a program ends in good order.
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
        Those that are not ignored: under ``nohup``, a program ignores SIGHUP, the signal of a terminal that closes.
    """
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
