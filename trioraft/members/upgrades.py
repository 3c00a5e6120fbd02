"""Which version of the protocol the cluster speaks: raised when every member can, and why something has to wait."""

from collections.abc import Callable, Iterable, Mapping

from trioraft.consensus import Core, Role
from trioraft.datagrams.endpoint import Peer
from trioraft.errors import BusyError, RefusedError
from trioraft.messages import format_id
from trioraft.versions import NEEDS_LATER


class Upgrades:
    """What one node knows of the versions that the others speak.

    Parameters
    ----------
    core : Core
        Whose cluster it is.
    patience : float
        A node that has been silent for so many seconds may come back with other software.
    clock : callable
        Tells the time in seconds.
    nodes : callable
        Gives the nodes that are known.
    names : callable
        Gives what people call them.
    """

    def __init__(
        self,
        core: Core,
        patience: float,
        clock: Callable[[], float],
        nodes: Callable[[], Iterable[Peer]],
        names: Callable[[], Mapping[int, str]],
    ) -> None:
        self._core = core
        self._patience = patience
        self._clock = clock
        self._nodes = nodes
        self._names = names

    def _highest(self) -> dict[int, int]:
        heard_after = self._clock() - self._patience
        highest = {peer.node_id: peer.versions.highest for peer in self._nodes() if peer.heard_at > heard_after}
        return {**highest, self._core.id: self._core.versions.highest}

    def drive(self) -> None:
        """Raise the version of the cluster, if this node leads and all members speak a higher one."""
        if self._core.role is Role.LEADER:
            self._core.raise_version(self._highest(), self._clock())

    def require(self, needed: int, speaks: int) -> None:
        """See that the cluster speaks the version of the protocol that something needs.

        Parameters
        ----------
        needed, speaks : int
            That version; and what the cluster speaks, by the log or by what is applied of it.

        Raises
        ------
        RefusedError
            If members must be upgraded first; it names them.
        BusyError
            If none must be: the version is about to be raised.
        """
        if speaks >= needed:
            return
        highest = self._highest()
        members = self._core.configuration.members
        older = sorted(self._describe(node, highest.get(node)) for node in members if highest.get(node, 0) < needed)
        if older:
            raise RefusedError(
                f"the cluster speaks version {speaks} {NEEDS_LATER} {needed}; upgrade first: {', '.join(older)}"
            )
        raise BusyError(f"busy: the cluster is changing to version {needed} of the protocol; try again")

    def _describe(self, node: int, highest: int | None) -> str:
        name = self._names().get(node) or self._core.configuration.name(node) or format_id(node)
        return f"{name} ({'silent' if highest is None else f'speaks {highest}'})"

    def why_not_join(self, node: int) -> str | None:
        """Tell why a node cannot become a member: it does not speak the cluster's version.

        Parameters
        ----------
        node : int
            The node.

        Returns
        -------
        str or None
            The reason; None where there is none.
        """
        highest, speaks = self._highest().get(node), self._core.version
        if highest is None or highest >= speaks:
            return None
        return (
            f"{self._describe(node, highest)} does not speak version {speaks}, as the cluster does; upgrade it first"
        )
