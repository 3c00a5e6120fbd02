"""Configurations: who is a member, who votes, and what a quorum is (Raft, section 6; thesis, chapter 4)."""

from collections.abc import Collection, Mapping
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from trioraft.clock import LONG_AGO
from trioraft.messages import FIRST_VERSION, MEMBERS_MAX, Id, Name, NodeId, Version

_NONE: Final = LONG_AGO

_Ids = Annotated[tuple[Id, ...], Meta(max_length=MEMBERS_MAX)]
# Of so many that were members, and are none any more, it is remembered that they never may be again.
DEPARTED_MAX: Final = 32

_Names = Annotated[tuple[tuple[Id, Name], ...], Meta(max_length=2 * MEMBERS_MAX)]


class Configuration(Struct, frozen=True, omit_defaults=True):
    """The members of a cluster.

    While it is *joint*, a change from the old voters to the new ones is under way: every decision needs a majority
    of both, so that at no time two separate majorities can decide.

    Attributes
    ----------
    voters : tuple of int
        The node ids of those who vote, in ascending order.
    old_voters : tuple of int
        Those who voted before the change that is under way; none when there is none.
    learners : tuple of int
        Those who get the log and do not vote. During a change an old voter that becomes a learner is both.
    names : tuple of tuple of int and str
        What people call the members, as far as that is known.
    departed : tuple of int
        Those who were removed last, in that order. None of them comes back under its id: its process may run on, and
        to a leader that has started since it would look like a node that waits to be joined.
    version : int
        Which version of the protocol the cluster speaks (:mod:`trioraft.versions`); never lower than before.
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

    @property
    def electors(self) -> tuple[NodeId, ...]:
        """All who vote, in ascending order: during a change the old voters and the new ones."""
        return tuple(sorted({*self.voters, *self.old_voters})) if self.old_voters else self.voters

    @property
    def members(self) -> tuple[NodeId, ...]:
        """All members, in ascending order."""
        return tuple(sorted({*self.voters, *self.old_voters, *self.learners}))

    def name(self, node: NodeId) -> str:
        """Give what people call a member.

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
        """Tell whether some nodes are a quorum.

        Parameters
        ----------
        nodes : collection of int
            Node ids; those that do not vote do not count.

        Returns
        -------
        bool
            Whether more than half of the voters are among them, and of the old voters too during a change.
        """
        return _has_majority(self.voters, nodes) and (not self.old_voters or _has_majority(self.old_voters, nodes))

    def quorum_value(self, values: Mapping[NodeId, float]) -> float:
        """Give the largest value that a quorum has reached.

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
    """Write a configuration as entries have it.

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
    """Read a configuration, which may come from anybody.

    Parameters
    ----------
    data : bytes
        What :func:`encode_configuration` gave.

    Returns
    -------
    Configuration or None
        The configuration; None when that is none, or nobody votes in it.
    """
    try:
        configuration = _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return configuration if configuration.voters else None
