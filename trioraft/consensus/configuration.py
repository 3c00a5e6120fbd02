"""Configurations: the members, the voters among them, and the quorum (Raft, section 6; thesis, chapter 4)."""

from collections.abc import Collection, Mapping
from functools import cached_property
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from trioraft.clock import LONG_AGO
from trioraft.messages import FIRST_VERSION, MEMBERS_MAX, Id, Name, NodeId, Version

_NONE: Final = LONG_AGO

_Ids = Annotated[tuple[Id, ...], Meta(max_length=MEMBERS_MAX)]
# A configuration names this many of the nodes that were removed last: they may never be members again.
DEPARTED_MAX: Final = 32

_Names = Annotated[tuple[tuple[Id, Name], ...], Meta(max_length=2 * MEMBERS_MAX)]


class Configuration(Struct, frozen=True, omit_defaults=True, dict=True):
    """The members of a cluster.

    A *joint* configuration belongs to a change from old voters to new ones: every decision needs a majority of both,
    so that at no time two separate majorities can decide (section 6).

    Attributes
    ----------
    voters : tuple of int
        The node ids of the voters, in ascending order.
    old_voters : tuple of int
        The voters before the change that is under way; empty when there is none.
    learners : tuple of int
        The members that get the log and do not vote (thesis 4.2.1). During a change an old voter that becomes a
        learner is both.
    names : tuple of tuple of int and str
        The names of the members, as far as they are known.
    departed : tuple of int
        The nodes that were removed last, in that order. None of them may come back under its id: its process may
        still run, and to a leader that was started later it would look like a node that waits to be taken in.
    version : int
        The version of the protocol that the cluster speaks (:mod:`trioraft.versions`); never lower than before.
    """

    voters: _Ids = ()
    old_voters: _Ids = ()
    learners: _Ids = ()
    names: _Names = ()
    departed: _Ids = ()
    version: Version = FIRST_VERSION

    @property
    def is_joint(self) -> bool:
        """Whether a change of the voters is under way."""
        return bool(self.old_voters)

    @cached_property
    def electors(self) -> tuple[NodeId, ...]:
        """All voters, in ascending order: during a change the old ones and the new ones."""
        return tuple(sorted({*self.voters, *self.old_voters})) if self.old_voters else self.voters

    @cached_property
    def members(self) -> tuple[NodeId, ...]:
        """All members, in ascending order."""
        return tuple(sorted({*self.voters, *self.old_voters, *self.learners}))

    @cached_property
    def elector_set(self) -> frozenset[NodeId]:
        """All voters, to look one up."""
        return frozenset(self.electors)

    @cached_property
    def member_set(self) -> frozenset[NodeId]:
        """All members, to look one up."""
        return frozenset(self.members)

    def name(self, node: NodeId) -> str:
        """Return the name of a member.

        Parameters
        ----------
        node : int
            Its id.

        Returns
        -------
        str
            Its name; empty when it is not known.
        """
        return dict(self.names).get(node, "")

    def has_quorum(self, nodes: Collection[NodeId]) -> bool:
        """Check whether some nodes are a quorum.

        Parameters
        ----------
        nodes : collection of int
            Node ids; nodes that do not vote do not count.

        Returns
        -------
        bool
            Whether they hold a majority of the voters and, during a change, of the old voters too.
        """
        return _has_majority(self.voters, nodes) and (not self.old_voters or _has_majority(self.old_voters, nodes))

    def quorum_value(self, values: Mapping[NodeId, float]) -> float:
        """Compute the largest value that a quorum has reached.

        Parameters
        ----------
        values : mapping of int to float
            A value for each voter; a missing one counts as minus infinity.

        Returns
        -------
        float
            The largest v such that a quorum has v or more.
        """
        value = _majority_value(self.voters, values)
        return min(value, _majority_value(self.old_voters, values)) if self.old_voters else value


def _has_majority(voters: tuple[NodeId, ...], nodes: Collection[NodeId]) -> bool:
    return 2 * sum(voter in nodes for voter in voters) > len(voters)


def _majority_value(voters: tuple[NodeId, ...], values: Mapping[NodeId, float]) -> float:
    ranked = sorted([values.get(voter, _NONE) for voter in voters])
    return ranked[(len(voters) - 1) // 2]


# --- in entries, snapshots and messages ---------------------------------------------------------------------


_DECODER: Final = msgspec.json.Decoder(Configuration)


def encode_configuration(configuration: Configuration) -> bytes:
    """Encode a configuration, for an entry of the log or a snapshot.

    Parameters
    ----------
    configuration : Configuration
        The configuration.

    Returns
    -------
    bytes
        JSON.
    """
    return msgspec.json.encode(configuration)


def decode_configuration(data: bytes) -> Configuration | None:
    """Decode a configuration, which may come from any node.

    Parameters
    ----------
    data : bytes
        The result of :func:`encode_configuration`, or anything else.

    Returns
    -------
    Configuration or None
        The configuration; None when the data are none, or when it has no voters.
    """
    try:
        configuration = _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return configuration if configuration.voters else None
