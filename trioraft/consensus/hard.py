"""The hard state: the state that must be on disk before any message that depends on it leaves the node."""

from msgspec import Struct


class FormationState(Struct, frozen=True):
    """The promises of a node about forming a cluster.

    Attributes
    ----------
    cluster : int
        The cluster it is a member of; 0 while there is none.
    promised : int
        The formation it has promised; 0 when there is none.
    members : tuple of int
        The members of that formation, or the first members of the cluster that it has become; empty when the node has
        joined a cluster that was there before.
    never : tuple of int
        The formations that it will never promise.
    heard : int
        While the node has no cluster: the cluster of another node of this service, which it waits to join. A node
        that has heard of one forms none; 0 for none.
    """

    cluster: int = 0
    promised: int = 0
    members: tuple[int, ...] = ()
    never: tuple[int, ...] = ()
    heard: int = 0


class HardState(Struct, frozen=True):
    """The state that must be on disk before any message that depends on it leaves (Raft, figure 2: persistent state).

    Attributes
    ----------
    term, voted_for : int
        The current term, and the candidate that the node voted for in it (0: none yet).
    promise : float
        The longest time, in seconds, for which the node ever promised a leader to refuse its vote to others.
    work : float
        How long leader work may still run after the last AppendEntries, in seconds.
    work_term : int
        The term of the leader that claimed that.
    formation : FormationState
        How the cluster came to be.
    removed : bool
        Whether the node knows that its removal is committed.
    work_of : int
        The node that led in `work_term`; 0 where it is not known, because an earlier release wrote this.
    work_place : str
        Where the process of this node ran that led in `work_term` (:mod:`trioraft.storage.place`); empty where
        another node led.
    work_alone : bool
        Whether that process knew that all leader work of earlier terms had ended.
    """

    term: int = 0
    voted_for: int = 0
    promise: float = 0.0
    work: float = 0.0
    work_term: int = 0
    formation: FormationState = FormationState()
    removed: bool = False
    work_of: int = 0
    work_place: str = ""
    work_alone: bool = False
