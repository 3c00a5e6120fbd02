"""Leader work that a node asks for, and the script that its supervisor runs."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["leader", "follower"]


@dataclass(slots=True, eq=False)
class Work:
    """Leader work that the node has asked for and has not ended yet.

    Attributes
    ----------
    token : int
        Its fencing token.
    deadline : float
        The end of the lease.
    begun : bool
        Whether its script has been started, or could not be.
    overdue : bool
        Whether its script was ended at its deadline.
    """

    token: int
    deadline: float
    begun: bool = False
    overdue: bool = False


@dataclass(slots=True, eq=False)
class Run:
    """A run of a script; it is over when none of its processes is left.

    Attributes
    ----------
    kind, path : str
        The script.
    work : Work or None
        The leader work that it does; None for a follower script.
    deadline : float or None
        The deadline that the supervisor was told last.
    told_to_end, ending, killed : bool
        Whether the supervisor was told to end it, has begun to, and has come to SIGKILL.
    failed : bool
        Whether it has failed.
    started_at : float or None
        When its process was started; None before.
    again_in : float or None
        The pause until the script's next run, once its own process has ended; None where there is none.
    """

    kind: Kind
    path: str
    work: Work | None
    deadline: float | None = None
    told_to_end: bool = False
    ending: bool = False
    killed: bool = False
    failed: bool = False
    started_at: float | None = None
    again_in: float | None = None
