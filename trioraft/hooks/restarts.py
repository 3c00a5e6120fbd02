"""When a leader script that has ended by itself runs again in the same term.

Failures in a row are answered by pauses that double, from one second to half a minute, and after so many of them the
script is given up until the next election. A run that lasted for a while ends the row: what failed was not the start.
"""

from typing import Final

from trioraft.messages import Seconds
from trioraft.settings.restart import RestartPolicy

_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 30.0
# A run that lasted so long has started well, in seconds.
_LASTED: Final = 10.0


class Restarts:
    """The runs of a leader script in one term.

    Parameters
    ----------
    policy : RestartPolicy
        When it runs again.

    Attributes
    ----------
    failures : int
        The number of failures in a row.
    """

    def __init__(self, policy: RestartPolicy) -> None:
        self._policy = policy
        self.failures = 0

    @property
    def keeps_running(self) -> bool:
        """Whether a script that fails is run again."""
        return self._policy.when != "never"

    def begin(self) -> None:
        """Begin another term."""
        self.failures = 0

    def pause_after(self, *, failed: bool, lasted: Seconds) -> Seconds | None:
        """Compute the pause until the next run.

        Parameters
        ----------
        failed : bool
            Whether the run has failed.
        lasted : float
            How long it lasted, in seconds.

        Returns
        -------
        float or None
            The pause in seconds; None when the script does not run again in this term.
        """
        self.failures = (0 if lasted >= _LASTED else self.failures) + 1 if failed else 0
        again = self._policy.when == "always" or (self._policy.when == "on-failure" and failed)
        if not again or self.failures >= self._policy.attempts:
            return None
        return min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** max(0, min(self.failures, 10) - 1))
