"""Which versions of the protocol this software speaks, and what each of them has added.

A *version* stands for everything that members of a cluster must understand of each other: messages and their fields,
commands, kinds of log entries, and what a snapshot may hold. (What a database looks like is the matter of one node
alone, and has a version of its own: :mod:`trioraft.storage.database`.)

* Every ``Hello`` says from which to which version its sender speaks. Two nodes without one in common do not talk.
* The *version of the cluster* is a part of its configuration, and so of the log and of snapshots. A new cluster
  begins with the first one. Its leader raises it as soon as every member, learners included, has shown that it
  speaks a higher one; it is never lowered. From then on a member says that it speaks that one at least.
* What a version has added is sent, or put into the log, only from that version of the cluster on. The leader judges
  that at its entrance, for kinds of entries (:func:`added_in`) and for commands, their fields and their bounds: the
  state machine says which version a command needs (:class:`trioraft.replica.machine.Versioned`). What comes too early
  is refused with the names of the nodes to upgrade first.
* A leader of an older release judges nothing, so such a command may be in the log all the same. The state machine is
  told, in the order of the log, which version the cluster speaks (the entries of kind ``CONFIGURATION`` and the
  snapshots have it). Under a lower one it gives what it gave before it knew the command, at the same index on every
  replica. New refusals, bounds and kinds of results of older commands begin there too.
* A question is answered by the state that a node has applied, and so by the version that the cluster spoke there. A
  kind of request that a node does not know it refuses by itself, and says that it must be upgraded.
* Whoever finds that its cluster speaks a higher version than it does itself stops, and changes nothing.

==========  ===============================================================================================
version     what it has added
==========  ===============================================================================================
1           everything else
2           settings of the cluster: entries of kind ``SETTINGS``, the commands ``ReadSettings`` and
            ``ChangeSettings``, and their record in snapshots
3           versions of commands; a history that keeps a revision larger than its limits; the kind of the
            replicated state: an entry of kind ``STATE_KIND``, and its record in snapshots; the request ``Cancel``,
            and the refusal ``limit`` (both for whoever speaks this version, whatever the cluster does);
            keys of locks that go with their leases only, and the command ``LeaseRecall``
4           the quota of the key-value store; and ephemeral values and signatures in a ``Hello``, the keys that are
            agreed upon by those values, keys of the second generation, and random bytes in nonces (all of these for
            whoever speaks this version, whatever the cluster does)
==========  ===============================================================================================
"""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from trioraft.messages import FIRST_VERSION, EntryKind


class Versions(Struct, frozen=True):
    """The versions that a node speaks.

    Attributes
    ----------
    lowest, highest : int
        It speaks these and all between them.
    """

    lowest: int
    highest: int

    def __str__(self) -> str:
        return str(self.highest) if self.lowest == self.highest else f"{self.lowest} to {self.highest}"

    def overlaps(self, other: "Versions") -> bool:
        """Tell whether two nodes have a version in common.

        Parameters
        ----------
        other : Versions
            What the other node speaks.

        Returns
        -------
        bool
            Whether there is one that both speak.
        """
        return max(self.lowest, other.lowest) <= min(self.highest, other.highest)

    def within(self, cluster: int) -> "Versions":
        """Tell what is left of them for a member of a cluster.

        Parameters
        ----------
        cluster : int
            The version of the cluster.

        Returns
        -------
        Versions
            From that one on, if it is higher than the lowest.
        """
        return Versions(max(self.lowest, cluster), self.highest)


SPOKEN: Final = Versions(FIRST_VERSION, 4)

# Two processes that speak this one agree on keys by ephemeral values, and put random bytes into nonces.
AGREES_FROM: Final = 4
# Whoever speaks this one understands that a request is given up, and a refusal that names a limit.
CANCELS_FROM: Final = 3

# Whoever speaks this one has the keys of the second generation, and signs.
SIGNS_FROM: Final = 4

_ADDED: Final[Mapping[EntryKind, int]] = {EntryKind.SETTINGS: 2, EntryKind.STATE_KIND: 3}


# What is said of something that needs a later version than the cluster speaks; a client can do without it then.
NEEDS_LATER: Final = "of the protocol, and this needs"


def added_in(kind: EntryKind) -> int:
    """Tell which version has added a kind of entry.

    Parameters
    ----------
    kind : EntryKind
        The kind.

    Returns
    -------
    int
        The version.
    """
    return _ADDED.get(kind, FIRST_VERSION)
