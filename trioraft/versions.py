"""The versions of the protocol that this software speaks, and what each of them has added.

A *version* stands for everything that members of a cluster must understand of each other: messages and their fields,
commands, kinds of log entries, and what a snapshot may contain. (The format of the database concerns one node alone,
and has a version of its own: :mod:`trioraft.storage.database`.)

* Every ``Hello`` says from which to which version its sender speaks. Two nodes without one in common refuse each
other. * The *version of the cluster* is a part of its configuration, and so of the log and of snapshots. A new
cluster
  begins with the first one. Its leader raises it as soon as every member, learners included, has shown that it
  speaks a higher one; it is never lowered. From then on a member says that it speaks that one at least.
* What a version has added is sent, or put into the log, only from that version of the cluster on. The leader checks
  this before it appends an entry, both for kinds of entries (:func:`added_in`) and for commands, their fields and
  their bounds: the state machine knows which version a command needs (:class:`trioraft.replica.machine.Versioned`). A
  command that comes too early is refused with the names of the nodes to upgrade first.
* A leader of an older release checks nothing, so such a command may be in the log all the same. The state machine
  learns, in the order of the log, which version the cluster speaks (entries of kind ``CONFIGURATION`` and snapshots
  contain it). Under a lower version its result is the one of the time before it knew the command, at the same index
  on every replica. New refusals, bounds and kinds of results of older commands begin with their version too.
* A question is answered by the state that a node has applied, and so by the version that the cluster spoke there. A
  node refuses a kind of request that it does not know, and says that it must be upgraded.
* A node that finds that its cluster speaks a higher version than it does itself stops, and changes nothing.

==========  ===============================================================================================
version     what it has added
==========  ===============================================================================================
1           everything else
2           settings of the cluster: entries of kind ``SETTINGS``, the commands ``ReadSettings`` and
            ``ChangeSettings``, and their record in snapshots
3           versions of commands; a history that keeps a revision larger than its limits; the kind of the
            replicated state: an entry of kind ``STATE_KIND``, and its record in snapshots; the request ``Cancel``,
            and the refusal ``limit`` (both with processes that speak this version, whatever the cluster does);
            keys of locks that go with their leases only, and the command ``LeaseRecall``
4           the quota of the key-value store; and ephemeral values and signatures in a ``Hello``, the keys that are
            agreed upon by those values, keys of the second generation, and random bytes in nonces (all of these
            with processes that speak this version, whatever the cluster does)
5           batches: entries of kind ``BATCH``; and the request ``ProposeBatch`` (with processes that speak this
            version, whatever the cluster does: its leader takes a batch apart while the cluster does not)
6           the requests of :mod:`trioraft.kv.requests`, which are etcd's in full; leases with negative ids, and the
            compaction at revision 0; and the message ``LeadershipEnded``
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
        The ends of the range, which belong to it.
    """

    lowest: int
    highest: int

    def __str__(self) -> str:
        return str(self.highest) if self.lowest == self.highest else f"{self.lowest} to {self.highest}"

    def overlaps(self, other: "Versions") -> bool:
        """Check whether two nodes have a version in common.

        Parameters
        ----------
        other : Versions
            The versions that the other node speaks.

        Returns
        -------
        bool
            Whether there is a version that both speak.
        """
        return max(self.lowest, other.lowest) <= min(self.highest, other.highest)

    def within(self, cluster: int) -> "Versions":
        """Compute the versions that a member of a cluster speaks.

        Parameters
        ----------
        cluster : int
            The version of the cluster.

        Returns
        -------
        Versions
            Those of the range that are not below the version of the cluster.
        """
        return Versions(max(self.lowest, cluster), self.highest)


SPOKEN: Final = Versions(FIRST_VERSION, 6)

# From this version on, processes agree on keys by ephemeral values, and put random bytes into nonces.
AGREES_FROM: Final = 4
# From this version on, processes understand batches of commands.
BATCHES_FROM: Final = 5
# From this version on, processes understand that a request is given up, and a refusal that names a limit.
CANCELS_FROM: Final = 3
# From this version on, members understand that a process has ended, and with it what it led and worked.
ENDS_FROM: Final = 6

# From this version on, nodes have the keys of the second generation, and sign.
SIGNS_FROM: Final = 4

_ADDED: Final[Mapping[EntryKind, int]] = {
    EntryKind.SETTINGS: 2,
    EntryKind.STATE_KIND: 3,
    EntryKind.BATCH: BATCHES_FROM,
}


# The words of a refusal of something that needs a later version than the cluster speaks; a client that finds them can
# do without it.
NEEDS_LATER: Final = "of the protocol, and this needs"


def added_in(kind: EntryKind) -> int:
    """Return the version that has added a kind of entry.

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
