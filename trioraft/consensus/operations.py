"""Operations: the calls by which the program around a core tells it of anything but messages, time and disk.

Each of them is a step of its own.
"""

from collections.abc import Collection, Mapping
from typing import Final

from trioraft.consensus import (
    endings,
    leader_work,
    membership,
    snapshots,
    transfer,
)
from trioraft.consensus.events import ForeignCluster
from trioraft.consensus.ledger import SnapshotInfo
from trioraft.consensus.state import Role
from trioraft.consensus.steps import Steps
from trioraft.messages import Id, Instant, NodeId, OptionalId, OptionalNodeId, Version

# The most bytes of an AppendEntriesRequest beside its entries: the heads of two arrays, six numbers and the tag.
MESSAGE_HEAD: Final = 64


class Operations(Steps):
    """A member that takes in news of its peers, snapshots and leader work, and the wishes of operators."""

    def read_by_lease(self, by_lease: bool) -> None:
        """Take in the cluster's setting for reads, once everything that was handed out is applied.

        Parameters
        ----------
        by_lease : bool
            Whether a leader answers reads by its lease, without asking a quorum.
        """
        if self._state is not None:
            self._state.reads_by_lease = by_lease

    def hear_of_cluster(self, sender: NodeId, cluster: OptionalId, now: Instant) -> None:
        """Take in, from a greeting, the cluster of another node of the same service.

        Parameters
        ----------
        sender : int
            The other node.
        cluster : int
            Its cluster; 0 for none.
        now : float
            The time in seconds.
        """
        self._begin(now)
        if not self.formation.formed:
            self.formation.receive(sender, cluster, None, now)
        elif cluster not in {0, self.formation.state.cluster}:
            self._events.append(ForeignCluster(node=sender, cluster=cluster))
        elif self._state is not None and (cluster or sender in self._state.configuration.departed):
            # A node without a cluster may have been added and removed before it heard of either.
            membership.tell_departed(self._state, sender, now)
        if self._observer is not None:
            self._note("hear_of_cluster", sender)

    def peers_changed(self, peers: frozenset[NodeId]) -> None:
        """Take in which nodes of the same service can be reached.

        Parameters
        ----------
        peers : frozenset of int
            Their ids, without this node's.
        """
        if self._state is not None and peers - self.formation.peers:
            endings.tell_at_once(self._state)
            self._unsettled = True
        self.formation.peers = peers

    def hold_formation(self, held: bool) -> None:
        """Take in whether there may be nodes of the same service that have had no time to answer.

        Parameters
        ----------
        held : bool
            Whether to propose no formation for now.
        """
        self.formation.held = held

    def path_takes(self, node: NodeId, message_bytes: int) -> None:
        """Take in the size of the largest message to a node that fits into one datagram.

        Parameters
        ----------
        node : int
            The node.
        message_bytes : int
            The size of the encoded message.
        """
        self._batch_room[node] = max(0, message_bytes - MESSAGE_HEAD)

    def snapshot_taken(self, snapshot: SnapshotInfo, keep: int, now: Instant, keep_bytes: int | None = None) -> None:
        """Take note that a snapshot that this node took is on disk, and drop entries that it covers.

        Parameters
        ----------
        snapshot : SnapshotInfo
            The snapshot.
        keep : int
            The number of entries that it covers and that are kept, for followers that are a little behind.
        now : float
            The time in seconds.
        keep_bytes : int, optional
            The most bytes of entries that are kept.
        """
        self._begin(now)
        if self._state is not None:
            snapshots.drop_covered(self._state, snapshot, keep, keep_bytes, now)

    def snapshot_gone(self, snapshot: SnapshotInfo, now: Instant) -> None:
        """Take note that a snapshot is damaged or gone; followers are sent a newer one once it is taken.

        Parameters
        ----------
        snapshot : SnapshotInfo
            The snapshot.
        now : float
            The time in seconds.
        """
        self._begin(now)
        if self._state is not None:
            snapshots.snapshot_gone(self._state, snapshot)

    def part_stored(self, snapshot: SnapshotInfo, offset: int, now: Instant) -> None:
        """Take note that a received snapshot is stored up to an offset.

        Parameters
        ----------
        snapshot : SnapshotInfo
            The snapshot.
        offset : int
            All bytes before it are stored.
        now : float
            The time in seconds.
        """
        self._begin(now)
        if self._state is not None:
            snapshots.part_stored(self._state, snapshot, offset)

    def reception_failed(self, snapshot: SnapshotInfo, now: Instant) -> None:
        """Take note that a received snapshot is damaged, so that it is received anew.

        Parameters
        ----------
        snapshot : SnapshotInfo
            The snapshot.
        now : float
            The time in seconds.
        """
        self._begin(now)
        if self._state is not None:
            snapshots.reception_failed(self._state, snapshot)

    def snapshot_installed(self, snapshot: SnapshotInfo, now: Instant) -> None:
        """Take note that a received snapshot is verified, on disk and restored by the state machine.

        Parameters
        ----------
        snapshot : SnapshotInfo
            The snapshot.
        now : float
            The time in seconds.
        """
        self._begin(now)
        if self._state is not None:
            snapshots.snapshot_installed(self._state, snapshot)

    def work_ended(self, now: Instant) -> None:
        """Take note that all leader work has ended, after it was told to.

        Parameters
        ----------
        now : float
            The time in seconds.
        """
        self._begin(now)
        if self._state is not None:
            leader_work.work_ended(self._state, now)
        if self._observer is not None:
            self._note("work_ended")

    def run_at(self, place: str, now: Instant) -> None:
        """Take in where this process runs, once, before the first turn.

        Parameters
        ----------
        place : str
            The place; an earlier process of this node that ran at the same one has ended. Empty where that cannot be
            known.
        now : float
            The time in seconds.
        """
        self._place = place
        if self._state is not None:
            self._state.place = place
            endings.resume_ending(self._state, now)

    def scripts_ended(self, now: Instant) -> None:
        """Take note that no script of an earlier process of this node is left.

        Parameters
        ----------
        now : float
            The time in seconds.
        """
        self._begin(now)
        if self._state is not None:
            endings.scripts_ended(self._state, now)
        if self._observer is not None:
            self._note("scripts_ended")

    def work_failed(self, now: Instant) -> None:
        """Transfer leadership to another node, because leader work failed here.

        Parameters
        ----------
        now : float
            The time in seconds.
        """
        self._begin(now)
        if self._state is not None:
            transfer.hand_over_after_failure(self._state, now)
        if self._observer is not None:
            self._note("work_failed")

    def step_down(self, now: Instant) -> str | None:
        """Do not lead for a while: transfer leadership to another node, or end it when no other node can lead.

        Parameters
        ----------
        now : float
            The time in seconds.

        Returns
        -------
        str or None
            The reason why that is impossible; None when it has begun.
        """
        self._begin(now)
        if self._state is None or self._state.role is not Role.LEADER:
            return "this node is not the leader"
        transfer.step_down(self._state, now)
        if self._observer is not None:
            self._note("step_down")
        return None

    def be_last_choice(self, now: Instant) -> None:
        """Be the last choice as a leader for a minute, whether or not this node leads now.

        Parameters
        ----------
        now : float
            The time in seconds.
        """
        if self._state is not None:
            self._state.last_choice_until = now + transfer.LAST_CHOICE

    def transfer(self, target: OptionalNodeId, now: Instant) -> str | None:
        """Begin to transfer leadership to another node (thesis 3.10).

        Parameters
        ----------
        target : int
            Its id, or 0 for the best successor.
        now : float
            The time in seconds.

        Returns
        -------
        str or None
            The reason why that is impossible; None when it has begun.
        """
        self._begin(now)
        if self._state is None:
            return "this node has no cluster yet"
        refusal = transfer.start_transfer(self._state, target, now)
        if self._observer is not None:
            self._note("transfer")
        return refusal

    def change_members(
        self,
        voters: Collection[NodeId],
        learners: Collection[NodeId],
        now: Instant,
        names: Mapping[NodeId, str] | None = None,
    ) -> str | None:
        """Begin to change the members of the cluster.

        Parameters
        ----------
        voters, learners : collection of int
            The ids of all members after the change. A node becomes a learner first, and a voter when it keeps up; a
            node without a cluster joins when it is made a learner. A removed node never comes back under its id.
        now : float
            The time in seconds.
        names : mapping of int to str, optional
            The names of members; a name that is known already stays unless another one is given.

        Returns
        -------
        str or None
            The reason why the change is impossible, and nothing has changed; None when it has begun. Then
            ``ConfigurationChanged`` follows, and the change is done when that is ``committed`` and not joint. If this
            node loses its leadership before, another leader completes the change, or has never heard of it.
        """
        self._begin(now)
        self._settle()
        if self._state is None:
            return "this node has no cluster yet"
        self._unsettled = True
        return membership.change_members(self._state, voters, learners, names or {}, now)

    def tell_departed(self, node: NodeId, now: Instant) -> None:
        """Send the log for a while to a node that is no member any more: it must have missed its removal.

        Parameters
        ----------
        node : int
            The node.
        now : float
            The time in seconds.
        """
        self._begin(now)
        if self._state is not None:
            membership.tell_departed(self._state, node, now)
            self._settle()

    def raise_version(self, highest: Mapping[NodeId, Version], now: Instant) -> None:
        """Raise the cluster's version to the highest one that every member speaks, if this node leads.

        Parameters
        ----------
        highest : mapping of int to int
            The highest version that each other node has lately shown to speak.
        now : float
            The time in seconds.
        """
        self._begin(now)
        self._settle()
        if self._state is not None and self._state.role is Role.LEADER:
            self._unsettled = True
            membership.raise_version(self._state, {**highest, self.id: self.versions.highest}, now)

    def close(self) -> None:
        """Hand out, in the next turn, all that the disk lacks, even while it is busy: the node stops."""
        self._ledger.close()

    def abandon_formation(self, formation: Id, now: Instant) -> str | None:
        """Abandon the formation that this node has promised, on an operator's word.

        Parameters
        ----------
        formation : int
            The formation.
        now : float
            The time in seconds.

        Returns
        -------
        str or None
            The reason why that is impossible; None when it is abandoned.
        """
        self._begin(now)
        refusal = self.formation.abandon(formation, now)
        if self._observer is not None:
            self._note("abandon_formation")
        return refusal
