"""Raises the version of the protocol that the cluster speaks, once every member speaks a higher one."""

from collections.abc import Callable, Iterable, Mapping

from trioraft.consensus import Core, Role
from trioraft.datagrams.endpoint import Peer
from trioraft.errors import BusyError, RefusedError
from trioraft.messages import Instant, NodeId, Seconds, format_id
from trioraft.versions import NEEDS_LATER


class Upgrades:
    """The versions that other nodes speak, as far as this node knows.

    Parameters
    ----------
    core : Core
        The core of this node.
    patience : float
        A node that has been silent for so many seconds may come back with other software.
    clock : callable
        Returns the time in seconds.
    nodes : callable
        Returns the nodes that are known.
    names : callable
        Returns their names, for people.
    """

    def __init__(
        self,
        core: Core,
        patience: Seconds,
        clock: Callable[[], Instant],
        nodes: Callable[[], Iterable[Peer]],
        names: Callable[[], Mapping[NodeId, str]],
    ) -> None:
        self._core = core
        self._patience = patience
        self._clock = clock
        self._nodes = nodes
        self._names = names

    def _highest(self) -> dict[NodeId, int]:
        heard_after = self._clock() - self._patience
        highest = {peer.node_id: peer.versions.highest for peer in self._nodes() if peer.heard_at > heard_after}
        return {**highest, self._core.id: self._core.versions.highest}

    def drive(self) -> None:
        """Raise the version of the cluster, if this node leads and all members speak a higher one."""
        if self._core.role is Role.LEADER:
            self._core.raise_version(self._highest(), self._clock())

    @property
    def waits(self) -> bool:
        """Whether this node leads and may raise the version soon."""
        return self._core.role is Role.LEADER and self._core.version < self._core.versions.highest

    def require(self, needed: int, speaks: int) -> None:
        """Refuse what needs a later version of the protocol than the cluster speaks.

        Parameters
        ----------
        needed : int
            The version that is needed.
        speaks : int
            The version that the cluster speaks, by the log or by what is applied of it.

        Raises
        ------
        RefusedError
            If members must be upgraded first; the text names them.
        BusyError
            If no member must be, because the version is about to be raised.
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

    def _describe(self, node: NodeId, highest: int | None) -> str:
        name = self._names().get(node) or self._core.configuration.name(node) or format_id(node)
        return f"{name} ({'silent' if highest is None else f'speaks {highest}'})"

    def why_not_join(self, node: NodeId) -> str | None:
        """Explain why a node cannot become a member, where it does not speak the cluster's version.

        Parameters
        ----------
        node : int
            The node.

        Returns
        -------
        str or None
            The reason; None where it can, or where its version is not known.
        """
        highest, speaks = self._highest().get(node), self._core.version
        if highest is None or highest >= speaks:
            return None
        return (
            f"{self._describe(node, highest)} does not speak version {speaks}, as the cluster does; upgrade it first"
        )
