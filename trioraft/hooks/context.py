"""What scripts are given by their node: the settings that concern them, and the facts that they learn at a start."""

from dataclasses import dataclass
from typing import Protocol

from trioraft.settings.restart import RestartPolicy


class HookSettings(Protocol):
    """The part of a node's settings that concerns its scripts."""

    @property
    def election_timeout_lower(self) -> float:
        """Seconds within which a supervisor must acknowledge a new deadline."""

    @property
    def script_leader_path(self) -> str | None:
        """The leader script."""

    @property
    def script_leader_arguments(self) -> tuple[str, ...] | None:
        """The arguments of the leader script, where it is a command; else None."""

    @property
    def script_leader_restart(self) -> RestartPolicy:
        """Whether a leader script that has ended by itself runs again."""

    @property
    def script_leader_output(self) -> str:
        """``log``, or ``streams`` for the standard streams of this process."""

    @property
    def script_follower_path(self) -> str | None:
        """The follower script."""

    @property
    def hook_stop_grace(self) -> float:
        """Seconds between SIGTERM and SIGKILL."""

    @property
    def hook_failure(self) -> str:
        """``ignore`` or ``step-down``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HookContext:
    """What a script learns of its node at its start.

    Attributes
    ----------
    node_id, node_name, cluster_id : str
        The node and its cluster, ids as 16 hexadecimal digits.
    term : int
        The current term.
    leader_id : str
        The leader that the node knows, or empty.
    """

    node_id: str
    node_name: str
    cluster_id: str
    term: int
    leader_id: str

    def environment(self, role: str, token: int) -> dict[str, str]:
        """Make the variables of a script.

        Parameters
        ----------
        role : str
            ``leader`` or ``follower``.
        token : int
            The fencing token.

        Returns
        -------
        dict of str to str
            The variables.
        """
        return {
            "TRIORAFT_ROLE": role,
            "TRIORAFT_NODE_ID": self.node_id,
            "TRIORAFT_NODE_NAME": self.node_name,
            "TRIORAFT_CLUSTER_ID": self.cluster_id,
            "TRIORAFT_TERM": str(self.term),
            "TRIORAFT_LEADER_ID": self.leader_id,
            "TRIORAFT_FENCING_TOKEN": str(token),
        }
