"""Why the store refuses a command."""

from trioraft.kv.commands import DELETED_MAX
from trioraft.kv.results import ErrorCode
from trioraft.kv.state import State


class RefusedError(Exception):
    """The store refuses a command, and has changed nothing.

    Parameters
    ----------
    code : ErrorCode
        The reason.
    message : str
        The reason, in words.
    oldest_revision : int
        As in :class:`~trioraft.kv.results.Error`.
    """

    def __init__(self, code: ErrorCode, message: str, oldest_revision: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.oldest_revision = oldest_revision


def no_lease(lease_id: int) -> RefusedError:
    """Make the refusal where there is no such lease."""
    return RefusedError(ErrorCode.LEASE_NOT_FOUND, f"there is no lease {lease_id:016x}; it may have expired")


def check_lease(state: State, lease_id: int, key: bytes) -> None:
    """Refuse to attach a key to a lease that does not exist, or has the most keys.

    Parameters
    ----------
    state : State
        The state.
    lease_id : int
        The lease.
    key : bytes
        The key.

    Raises
    ------
    RefusedError
        If it cannot be attached.
    """
    if state.leases.get(lease_id) is None:
        raise no_lease(lease_id)
    if state.would_hold(lease_id, key) > DELETED_MAX:
        text = f"the lease {lease_id:016x} has {DELETED_MAX} keys, which is the most; use another one"
        raise RefusedError(ErrorCode.TOO_LARGE, text)


def check_revision(state: State, revision: int) -> None:
    """Refuse to read at a revision that is still to come, or is compacted.

    Parameters
    ----------
    state : State
        The state.
    revision : int
        The revision; 0 for now.

    Raises
    ------
    RefusedError
        If it cannot be read.
    """
    if revision > state.revision:
        text = f"revision {revision} is still to come; the current one is {state.revision}"
        raise RefusedError(ErrorCode.FUTURE_REVISION, text)
    if 0 < revision < state.compacted:
        raise compacted(state, revision)


def compacted(state: State, revision: int) -> RefusedError:
    """Make the refusal to read at a revision that is compacted."""
    oldest = state.compacted
    text = f"revision {revision} is compacted; the oldest that can be read is {oldest}"
    return RefusedError(ErrorCode.COMPACTED, text, oldest)
