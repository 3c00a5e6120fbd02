"""The view of a member: the properties that the program around it may read. None of them changes anything."""

from msgspec import Struct

from trioraft.consensus import election, membership, progress
from trioraft.consensus.configuration import Configuration, encode_configuration
from trioraft.consensus.formation import Formation
from trioraft.consensus.hard import HardState
from trioraft.consensus.ledger import Ledger, SnapshotInfo
from trioraft.consensus.state import Role, State
from trioraft.consensus.timing import Timing
from trioraft.messages import Index, Instant, NodeId, OptionalId, OptionalNodeId, Term, Version
from trioraft.versions import Versions


class Progress(Struct, frozen=True):
    """The progress of another node, as a leader knows it.

    Attributes
    ----------
    match_index : int
        Up to this index its log is the leader's, and on its disk.
    heard_at : float
        When it last answered; minus infinity when it never did.
    is_current : bool
        Whether it keeps up: it has all entries that the leader had a lower election timeout ago.
    """

    match_index: Index
    heard_at: Instant
    is_current: bool


class View:
    """A member, to be read only.

    Attributes
    ----------
    id : int
        The node's id.
    timing : Timing
        The durations that it runs by.
    versions : Versions
        The versions of the protocol that the node speaks.
    formation : Formation
        Its part in forming a cluster.
    """

    id: NodeId
    timing: Timing
    versions: Versions
    formation: Formation
    _ledger: Ledger
    _state: State | None

    @property
    def hard(self) -> HardState:
        """The newest hard state, on disk or on its way there."""
        return self._ledger.hard

    @property
    def hard_is_durable(self) -> bool:
        """Whether that hard state is on disk."""
        return self._ledger.durable >= self._ledger.hard_written

    @property
    def state(self) -> State | None:
        """The member's state; None before it has a cluster."""
        return self._state

    @property
    def snapshot(self) -> SnapshotInfo | None:
        """The newest snapshot; None while there is none, or the one on disk cannot be read."""
        return self._ledger.snapshot

    @property
    def lacks_snapshot(self) -> bool:
        """Whether entries were dropped, and the snapshot that covers them cannot be read any more."""
        return self._ledger.snapshot is None and self._ledger.log.base_index > 0

    @property
    def configuration(self) -> Configuration:
        """The newest configuration in the log, committed or not, which is in force; empty without a cluster."""
        return Configuration() if self._state is None else self._state.configuration

    @property
    def version(self) -> Version:
        """The version of the protocol that the cluster speaks, by the configuration that is in force.

        It may be used although that configuration is not committed yet: every member speaks it, and every entry that
        the log gets from now on comes after that configuration.
        """
        return max(self.versions.lowest, self.configuration.version)

    @property
    def can_change_members(self) -> bool:
        """Whether this node leads and no change of the members is under way."""
        return self.why_no_change is None

    @property
    def why_no_change(self) -> str | None:
        """Why no change of the members can begin here now; None when one can."""
        return "this node is no member yet" if self._state is None else membership.why_not_now(self._state)

    def progress(self, now: Instant) -> dict[NodeId, Progress]:
        """Return the progress of the other nodes, on a leader.

        Parameters
        ----------
        now : float
            The time in seconds.

        Returns
        -------
        dict of int to Progress
            For each node that it sends to: members, and nodes that were just removed; empty when it does not lead.
        """
        s = self._state
        if s is None or s.role is not Role.LEADER:
            return {}
        return {
            node: Progress(follower.match_index, follower.heard_at, progress.is_current(s, node, now))
            for node, follower in s.followers.items()
        }

    def describe_snapshot(self, index: Index) -> SnapshotInfo:
        """Describe, except for its bytes, a snapshot of the state after an entry that is applied and not dropped.

        Parameters
        ----------
        index : int
            The entry's index.

        Returns
        -------
        SnapshotInfo
            Its index, term and configuration; size and checksum are 0.
        """
        configuration = self._ledger.log.configurations_since(index)[0].configuration
        members = encode_configuration(configuration) if configuration.voters else b""
        return SnapshotInfo(index, self.term_at(index), 0, 0, members)

    def term_at(self, index: Index) -> Term:
        """Return the term of an entry that is applied and not dropped.

        Parameters
        ----------
        index : int
            Its index.

        Returns
        -------
        int
            Its term.
        """
        return self._ledger.log.term_at(index) or 0

    @property
    def cluster(self) -> OptionalId:
        """The cluster's id; 0 for none, and before this node's membership is on disk."""
        return 0 if self._state is None else self.formation.state.cluster

    @property
    def role(self) -> Role:
        """The role of the node in its cluster."""
        s = self._state
        if s is None:
            return Role.FORMING
        if s.hard.removed:
            return Role.REMOVED
        return s.role if s.role is not Role.FOLLOWER or election.may_campaign(s) else Role.LEARNER

    @property
    def term(self) -> Term:
        """The current term."""
        return self.hard.term

    @property
    def leader(self) -> OptionalNodeId:
        """The leader that the node knows; 0 for none."""
        return 0 if self._state is None else self._state.leader

    @property
    def is_handing_over(self) -> bool:
        """Whether this leader is transferring its leadership to another node."""
        return self._state is not None and self._state.handover is not None

    @property
    def has_offered(self) -> bool:
        """Whether this leader has offered its leadership to another node."""
        return self._state is not None and self._state.handover is not None and self._state.handover.offered

    @property
    def disk_waiting_since(self) -> Instant:
        """Since when the disk owes an answer; infinity when it owes none."""
        return self._ledger.waiting_since
