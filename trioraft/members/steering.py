"""Shows the autopilot what the leader's node sees of the others, and makes the changes that it decides on."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from trioraft.address import Address
from trioraft.clock import FOREVER
from trioraft.consensus import Core, Role
from trioraft.datagrams.endpoint import Peer
from trioraft.dns.discovery import Answer
from trioraft.members.autopilot import Change, Declined, Observation, Rules, Seen, decide, leave
from trioraft.members.notes import Notes
from trioraft.members.presence import Heard, Presence
from trioraft.messages import AutopilotNote, Instant, NodeId
from trioraft.settings.settings import NodeSettings
from trioraft.standstill import Standstill

# A member that asked to leave asks again and again. When it has not for so many seconds, it has stopped or will stay.
_LEAVING_LASTS: Final = 10.0
# The autopilot looks about once a second. When so many seconds lie between two looks, this process stood still.
_STOOD_STILL: Final = 5.0


class Steering:
    """The autopilot of one node, which acts while that node leads.

    Parameters
    ----------
    core : Core
        The core whose members change.
    settings : NodeSettings
        The settings, which say whether it acts at all, and by which rules.
    nodes : callable
        Returns the nodes that are known, with their addresses.
    names : callable
        Returns the names of the nodes, for people.
    notes : Notes, optional
        Where it notes what it did and declined; by default it makes its own.

    Attributes
    ----------
    waits : bool
        Whether it waits for nodes to join, for learners to keep up, or until it can make a change at all, so that it
        should look again soon.
    """

    def __init__(
        self,
        core: Core,
        settings: NodeSettings,
        nodes: Callable[[], Iterable[Peer]],
        names: Callable[[], Mapping[NodeId, str]],
        notes: Notes | None = None,
    ) -> None:
        self._core = core
        self._settings = settings
        self._nodes = nodes
        self._names = names
        self._rules = Rules(
            dead_after=settings.dead_server, min_voters=settings.min_voters, max_voters=settings.max_voters
        )
        self._heard: dict[NodeId, Heard] = {}
        self._presence = Presence()
        self._found: frozenset[Address] = frozenset()  # by the last good answer of DNS
        self._term = 0  # the last one that this node led in
        self._watching_since = 0.0  # when it began to watch the others in that term
        self._standstill = Standstill(_STOOD_STILL)
        self._looked_at = 0.0
        self._current_since: dict[NodeId, Instant] = {}
        self._leaving: dict[NodeId, Instant] = {}
        self._notes = notes or Notes()
        self.waits = False

    def notes(self, now: Instant) -> tuple[AutopilotNote, ...]:
        """List what it did lately and what it declines, for the status; nothing on a node that does not lead.

        Parameters
        ----------
        now : float
            The time in seconds.

        Returns
        -------
        tuple of AutopilotNote
            The changes, the newest first, then what it declines.
        """
        return self._notes.shown(now) if self._core.role is Role.LEADER else ()

    # --- what is seen ---------------------------------------------------------------------------------------

    def discovered(self, answer: Answer, own: Address | None, now: Instant) -> None:
        """Note what a look-up found.

        Parameters
        ----------
        answer : Answer
            The addresses, and whether they are complete.
        own : Address or None
            This node's address, where it is known.
        now : float
            The time in seconds.
        """
        if not self._settings.dns_name:
            return  # a list of peers names those that are there, and says nothing of those that are not
        if not answer.complete or answer.problems:
            self._presence.unknown()
            return
        self._found = answer.addresses
        self._note_heard(now)
        heard = dict(self._heard)
        if own is not None:
            heard[self._core.id] = Heard(own, now)
        configuration = self._core.configuration
        self._presence.answered(answer.addresses, heard, configuration.voters, configuration.members, now)

    def _note_heard(self, now: Instant) -> None:
        for peer in self._nodes():
            self._heard[peer.node_id] = Heard(peer.address, peer.heard_at)
        # A node that is no member is forgotten when nothing was heard of it for a long time.
        members = self._core.configuration.members
        self._heard = {
            node: known
            for node, known in self._heard.items()
            if node in members or now - known.at < 10 * self._settings.dead_server
        }

    def _waiting(self, now: Instant) -> tuple[NodeId, ...]:
        """List the nodes that could join: of this cluster and not among its members, or of no cluster."""
        configuration = self._core.configuration
        lately = now - 2 * self._settings.election_timeout_upper
        return tuple(
            sorted(
                peer.node_id
                for peer in self._nodes()
                if peer.node_id not in configuration.members
                and peer.node_id not in configuration.departed
                and peer.cluster_id in {0, self._core.cluster}
                and peer.heard_at > lately
                and peer.versions.highest >= self._core.version
            )
        )

    def _seen(self, node: NodeId, now: Instant, waiting: bool) -> Seen:
        name = self._names().get(node) or self._core.configuration.name(node)
        progress = self._core.progress(now).get(node)
        if waiting or progress is None:
            return Seen(name=name)
        silent = now - max(progress.heard_at, self._watching_since)
        since = self._current_since.get(node)
        # Without DNS a silent learner counts as absent: when it comes back it joins again. A voter does not.
        without_dns = not self._settings.dns_name and node in self._core.configuration.learners
        return Seen(
            name=name,
            silent=silent,
            absent=FOREVER if without_dns else self._presence.absence(node),
            is_static=self._is_static(node),
            kept_up=-1.0 if since is None else now - since,
            has_answered=silent < self._settings.election_timeout_lower,
            leaves=node in self._leaving,
        )

    def _is_static(self, node: NodeId) -> bool:
        address = self._heard[node].address if node in self._heard else None
        return any(address == Address(peer.host, peer.port) for peer in self._settings.peers)

    def _is_named(self, node: NodeId) -> bool:
        """Check whether somebody else than a node itself names it."""
        return self._is_static(node) or (node in self._heard and self._heard[node].address in self._found)

    def observe(self, now: Instant) -> Observation:
        """Collect what this leader knows of the other nodes.

        Parameters
        ----------
        now : float
            The time in seconds.

        Returns
        -------
        Observation
            What decisions are based on.
        """
        configuration = self._core.configuration
        waiting = self._waiting(now)
        others = [node for node in configuration.members if node != self._core.id]
        seen = {node: self._seen(node, now, waiting=node in waiting) for node in (*others, *waiting)}
        named = frozenset(node for node in (*configuration.learners, *waiting) if self._is_named(node))
        return Observation(self._core.id, configuration.voters, configuration.learners, seen, waiting, named)

    def _look(self, now: Instant) -> None:
        """Note how the other nodes are."""
        self._note_heard(now)
        self._leaving = {node: at for node, at in self._leaving.items() if now - at < _LEAVING_LASTS}
        stood_still = self._standstill.look(now)
        if self._core.role is not Role.LEADER:
            return
        is_new = self._term != self._core.term
        if is_new or stood_still:
            # A new leader, and one that stood still itself, does not rely on what it saw before, perhaps long ago.
            self._term, self._watching_since = self._core.term, now
            self._presence = Presence()
            self._current_since.clear()
        if is_new:
            self._notes.clear()
        progress = self._core.progress(now)
        for node, known in progress.items():
            if known.heard_at >= self._looked_at:
                self._presence.spoke(node)
        self._looked_at = now
        self._current_since = {
            node: self._current_since.get(node, now) for node, known in progress.items() if known.is_current
        }

    # --- what is done ---------------------------------------------------------------------------------------

    def steer(self, now: Instant) -> None:
        """Make the next change, if this node leads and there is one to make.

        Parameters
        ----------
        now : float
            The time in seconds.
        """
        self._look(now)
        self.waits = self._settings.autopilot != "off" and self._core.role is Role.LEADER
        if self._settings.autopilot == "off" or not self._core.can_change_members:
            return
        seen = self.observe(now)
        learners = [seen.seen[node] for node in seen.learners if node in seen.seen]
        self.waits = bool(seen.waiting) or any(
            learner.has_answered and learner.kept_up < 2 * self._rules.stable_after for learner in learners
        )
        decision = decide(seen, self._rules)
        declined = decision.declined
        if decision.change is not None:
            refusal = self._begin(decision.change, now)
            if refusal is not None:
                declined = (f"{decision.change.reason}; not yet: {refusal}", *declined)
        self._notes.declines(declined, now)

    def let_leave(self, node: NodeId, now: Instant) -> Declined | None:
        """Remove a member that asks for it because it is about to stop, even when the autopilot is off.

        Parameters
        ----------
        node : int
            The member.
        now : float
            The time in seconds.

        Returns
        -------
        Declined or None
            The reason why it is not removed; None when its removal has begun.
        """
        self._look(now)
        self._leaving[node] = now
        why_not_now = self._core.why_no_change
        if why_not_now is not None:
            return Declined(why_not_now, for_now=True)
        seen = self.observe(now)
        change = leave(seen, node, self._rules)
        if isinstance(change, Change):
            refusal = self._begin(change, now)
            return None if refusal is None else Declined(refusal, for_now=True)
        if not change.for_now:
            self._notes.refused(f"{seen.named(node)} stops but stays a member: {change.reason}", now)
        return change

    def _begin(self, change: Change, now: Instant) -> str | None:
        """Begin a change; return the reason when it cannot begin."""
        names = self._names()
        members = {*change.voters, *change.learners}
        known = {node: names[node] for node in members if node in names}
        refusal = self._core.change_members(change.voters, change.learners, now, known)
        if refusal is None:
            self._notes.changed(change.reason, len(change.voters), now)
        return refusal
