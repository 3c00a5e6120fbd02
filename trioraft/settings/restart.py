"""Whether a leader script that has ended by itself is run again while its node leads on."""

import re
from typing import Final, Literal

from msgspec import Struct

RESTARTS_DEFAULT: Final = 10
RESTARTS_MAX: Final = 1_000_000
ALLOWED: Final = "never, on-failure or always; on-failure:3 gives up after 3 failed starts in a row (else after 10)"


class RestartPolicy(Struct, frozen=True):
    """When a leader script is run again.

    Attributes
    ----------
    when : {'never', 'on-failure', 'always'}
        ``on-failure`` runs it again unless it has ended with 0, ``always`` in any case.
    attempts : int
        The number of failed starts in a row after which it is given up until the next election.
    """

    when: Literal["never", "on-failure", "always"] = "never"
    attempts: int = RESTARTS_DEFAULT

    def __str__(self) -> str:
        """Return the text that makes this policy."""
        return self.when if self.attempts == RESTARTS_DEFAULT else f"{self.when}:{self.attempts}"


NEVER_AGAIN: Final = RestartPolicy()
ON_FAILURE: Final = RestartPolicy("on-failure")


def restart_policy(text: str) -> RestartPolicy:
    """Parse a policy: ``never``, ``on-failure``, ``always``, or the latter two with ``:N``."""
    found = re.fullmatch(r"(on-failure|always)(?::([0-9]{1,7}))?", text, re.ASCII | re.IGNORECASE)
    if found is None:
        if text.lower() != "never":
            raise ValueError("unknown")
        return NEVER_AGAIN
    attempts = int(found[2] or RESTARTS_DEFAULT)
    if not 1 <= attempts <= RESTARTS_MAX:
        raise ValueError(f"{attempts} is not a number of starts from 1 to {RESTARTS_MAX}")
    return RestartPolicy("always" if found[1].lower() == "always" else "on-failure", attempts)
