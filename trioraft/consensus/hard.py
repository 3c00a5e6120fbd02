"""The hard state: what must be on disk before anything that depends on it leaves the node."""

from msgspec import Struct


class FormationState(Struct, frozen=True):
    """What a node has promised about forming a cluster.

    Attributes
    ----------
    cluster : int
        The cluster it is a member of; 0 while there is none.
    promised : int
        The formation it has promised; 0 when there is none.
    members : tuple of int
        The members of that formation, or the first members of the cluster it has become; none when the node has
        joined a cluster that was there before.
    never : tuple of int
        Formations it will never promise.
    heard : int
        While it has none: the cluster of another node of this service, which it waits for; then it forms none.
    """

    cluster: int = 0
    promised: int = 0
    members: tuple[int, ...] = ()
    never: tuple[int, ...] = ()
    heard: int = 0


class HardState(Struct, frozen=True):
    """What must be on disk before anything that depends on it leaves the node (Raft, figure 2: persistent state).

    Attributes
    ----------
    term, voted_for : int
        The current term, and whom the node voted for in it (0: nobody yet).
    promise : float
        The longest time, in seconds, for which it ever promised a leader to refuse votes.
    work : float
        For how many seconds after the last heartbeat leader work may still run.
    work_term : int
        The term of the leader that said so.
    formation : FormationState
        How the cluster came to be.
    removed : bool
        Whether the node has seen it committed that it is no member any more.
    """

    term: int = 0
    voted_for: int = 0
    promise: float = 0.0
    work: float = 0.0
    work_term: int = 0
    formation: FormationState = FormationState()
    removed: bool = False
