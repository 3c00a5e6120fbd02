"""The answers of DNS servers to one question, and the lack of one."""

from dataclasses import dataclass
from typing import Any, NamedTuple


class UnresolvedError(Exception):
    """A question was not answered.

    Parameters
    ----------
    reason : str
        Why not, in a few words that stay the same as long as the cause does.
    absent : bool
        Whether a server said that there is no such name.
    silent : bool
        Whether no server answered at all.
    """

    def __init__(self, reason: str, *, absent: bool = False, silent: bool = False) -> None:
        super().__init__(reason)
        self.absent = absent
        self.silent = silent


@dataclass(frozen=True, slots=True)
class Found:
    """The answer of the servers about a name.

    Attributes
    ----------
    records : tuple
        The data of the records.
    problems : tuple of str
        What keeps the answer from being complete; empty when it is complete.
    absent : bool
        Whether the servers agree that there is no such record.
    """

    records: tuple[Any, ...]
    problems: tuple[str, ...] = ()
    absent: bool = False


class Service(NamedTuple):
    """One SRV record.

    Attributes
    ----------
    target : str
        The absolute name of a host.
    port : int
        Its port.
    """

    target: str
    port: int
