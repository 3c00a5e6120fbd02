"""Formation: how nodes without a cluster form one, and only one.

A formation is a random id and a fixed list of members. A node promises one formation at a time, on disk. A formation
*stands* when every member has promised it.

Why nodes of one service never form two clusters that share a member:

1. A member promises F only while it holds no other promise, and holds it until F has ended or stands.
2. F ends by a *durable refusal* only: a member that has not promised F writes "never F" to its disk before it says
   so. From then on F cannot stand, because that member will never promise it. So a member that hears the refusal may
   drop its own promise of F; it writes "never F" too, and tells the other members.
3. A member of a formed cluster refuses every other formation; that it is a member is on disk, and that is its
   durable refusal.
4. Suppose F and G stand and share the member M. M promised both of them, and one of them, say F, first. It promised
   G only after it had dropped F, hence after a durable refusal of F. Hence F does not stand, against the supposition.

Two formations without a common member can both stand only if neither side sees the other. So ``BOOTSTRAP_EXPECT``
must be more than half of the nodes that are started.

Every member that has promised F asks all others for their promise, so a formation does not depend on the node that
proposed it; and whoever asks has promised. A member that hears another node speak with F as its cluster id knows that
F stands: that node is another member, or a leader of the cluster took it in. One thing cannot be known. When a member
is lost for good before the others heard of it, nobody can tell whether it had promised. Then the other members go on
forming, and name the missing one. ``abandon-formation`` is the way out: an operator vouches that the missing member
is lost, and that no other member has heard of its promise. The operator must, because members that abandon F refuse
it although they had promised it.

A node without a cluster that hears of one waits to be taken in. From then on it forms no cluster of its own, not even
after a restart after which it hears nobody; when that cluster is gone for good, the node's data directory must be
removed. The leader adds the node to the configuration, and then speaks to it. That makes the node a member, unless it
has promised a formation. Such a formation must end first, and does, when one of its members has become a member
elsewhere.

A node proposes a formation only after a volatile round in which all its members saw each other (`FormationView`).
Otherwise ten nodes that start at once, on a network that loses messages, would refuse each other's proposals again
and again. A node also waits until every address that was found has had time to answer (`Formation.held`). Otherwise,
on a busy machine, a replica that is added to a cluster of one, with ``BOOTSTRAP_EXPECT=1`` like the first, would form
another cluster.

In a round every node speaks to every other. So rounds are the further apart the more nodes there are: fifty nodes
that start on one machine would else be busy with nothing but each other's messages, and never form a cluster.
"""

import random
from typing import Final

import msgspec

from trioraft.clock import NEVER
from trioraft.consensus.events import Event, ForeignCluster, FormationEnded
from trioraft.consensus.hard import FormationState
from trioraft.consensus.ledger import Ledger
from trioraft.consensus.timing import Timing
from trioraft.messages import (
    LARGEST_ID,
    MEMBERS_MAX,
    FormationMessage,
    FormationRequest,
    FormationResponse,
    FormationView,
    Id,
    Instant,
    NodeId,
    OptionalId,
    Seconds,
    format_id,
)

# The most refusals that are kept. A node that keeps so many refuses no other formation: it leaves requests
# unanswered.
_NEVER_MAX: Final = 1000
# Rounds are at least so many seconds apart for each other node.
_FOR_EACH_PEER: Final = 0.01


class View(msgspec.Struct, frozen=True):
    """The nodes that another node without a cluster said it sees, and when it said so."""

    sees: frozenset[NodeId]
    expect: int
    at: Instant


class Formation:
    """One node's part in forming a cluster.

    Parameters
    ----------
    node : int
        The node's id.
    ledger : Ledger
        Takes the promises to be written, and the messages to be sent.
    timing : Timing
        The durations; the rounds of forming are at least a heartbeat interval apart.
    expect : int
        ``BOOTSTRAP_EXPECT``; 0 for a node that only ever joins.
    random_source : random.Random
        Draws formation ids and pauses.
    events : list of Event
        The list to which events for the program around the node are appended.
    """

    def __init__(
        self,
        node: NodeId,
        ledger: Ledger,
        timing: Timing,
        *,
        expect: int,
        random_source: random.Random,
        events: list[Event],
    ) -> None:
        self.id = node
        self.ledger = ledger
        self.timing = timing
        self.expect = expect
        self.random = random_source
        self.events = events
        self.peers: frozenset[NodeId] = frozenset()
        self.held = False  # whether a node may be there that has had no time to answer
        self.promises: set[NodeId] = set()  # members of the promised formation that are known to have promised it
        self.views: dict[NodeId, View] = {}
        self.beat_at = 0.0
        self.propose_after = 0.0
        self.clique: frozenset[NodeId] = frozenset()
        self.clique_since = NEVER

    @property
    def state(self) -> FormationState:
        """The promise, on disk or on its way there."""
        return self.ledger.hard.formation

    @property
    def heard_cluster(self) -> OptionalId:
        """The cluster of another node of this service, by which this node waits to be taken in; 0 for none."""
        return self.state.heard

    @property
    def formed(self) -> bool:
        """Whether this node is a member of a cluster."""
        return self.state.cluster != 0

    @property
    def missing(self) -> tuple[NodeId, ...]:
        """The members that are not known to have promised."""
        return tuple(m for m in self.state.members if m != self.id and m not in self.promises)

    @property
    def beat(self) -> Seconds:
        """The seconds from one round to the next."""
        return max(self.timing.heartbeat, _FOR_EACH_PEER * len(self.peers))

    def _write(self, state: FormationState) -> None:
        self.ledger.persist(msgspec.structs.replace(self.ledger.hard, formation=state))

    # --- the volatile round ---------------------------------------------------------------------------------

    def handle_timer(self, now: Instant) -> None:
        """Ask for promises; or send this node's view to the others, and propose a formation if one is due."""
        if self.formed or now < self.beat_at:
            return
        self.beat_at = now + self.beat
        if self.state.promised:
            self.ask_for_promises()
            return
        view = FormationView(sees=tuple(sorted(self.sees(now)))[:MEMBERS_MAX], expect=self.expect)
        for peer in self.peers:
            self.ledger.send(peer, view)
        if self.expect and not self.heard_cluster:
            self.consider_proposal(now)

    def next_deadline(self) -> Instant:
        """Compute when :meth:`handle_timer` must be called."""
        return NEVER if self.formed else self.beat_at

    def sees(self, now: Instant) -> frozenset[NodeId]:
        """List this node, and the nodes heard of lately that have neither cluster nor promise and would form one."""
        lately = now - 6 * self.beat
        fresh = {node for node, view in self.views.items() if view.at > lately and view.expect > 0}
        return frozenset(fresh | {self.id})

    def consider_proposal(self, now: Instant) -> None:
        """Propose a formation of all nodes that have seen each other for a while, if this node has the lowest id."""
        sees = self.sees(now)
        if len(sees) < self.expect:
            return  # whoever sees whom among them: that takes long to find for many nodes
        clique = mutual_view(self.id, sees, self.views)
        if clique != self.clique:
            self.clique, self.clique_since = clique, now
        # A node that not all of the others see may just be starting, and deserves a longer wait.
        patience = self.beat * (1 if clique == sees else 10)
        enough = len(clique) >= max(self.expect, *(self.views[node].expect for node in clique - {self.id}), 1)
        if (
            self.held
            or not enough
            or self.id != min(clique)
            or now < max(self.clique_since + patience, self.propose_after)
        ):
            return
        members = tuple(sorted(clique))[:MEMBERS_MAX]
        self.promise(self.random.randint(1, LARGEST_ID), members, now)

    # --- promises -------------------------------------------------------------------------------------------

    def promise(self, formation: Id, members: tuple[NodeId, ...], now: Instant) -> None:
        """Promise a formation, durably, and ask the others for theirs."""
        self._write(msgspec.structs.replace(self.state, promised=formation, members=members))
        self.promises = set()
        self.views.clear()
        self.ask_for_promises()
        self.stand_if_complete(now)

    def ask_for_promises(self) -> None:
        """Ask every member, even one that has promised: it may have learned meanwhile that the formation ended."""
        request = FormationRequest(formation=self.state.promised, members=self.state.members)
        for member in self.state.members:
            if member != self.id:
                self.ledger.send(member, request)

    def receive(self, sender: NodeId, cluster: OptionalId, message: FormationMessage | None, now: Instant) -> None:
        """Take in a message about forming, or (None) another sign of life, of a node of a cluster or of none (0)."""
        if self.formed:
            self.answer_as_member(sender, cluster, message)
            return
        if cluster:
            self.hear_of_cluster(sender, cluster, now)
        if self.formed or message is None:
            return
        if isinstance(message, FormationView):
            if not cluster:
                self.views[sender] = View(sees=frozenset(message.sees), expect=message.expect, at=now)
        elif isinstance(message, FormationRequest):
            self.handle_request(sender, message, now)
        else:
            self.handle_response(sender, message, now)

    def answer_as_member(self, sender: NodeId, cluster: OptionalId, message: FormationMessage | None) -> None:
        """Refuse every formation but the one that made this node's cluster; answer a view.

        The answer shows that there is a cluster. A view of another member is left unanswered: two members would
        answer each other for ever.
        """
        if isinstance(message, FormationRequest):
            own = message.formation == self.state.cluster
            self.ledger.send(sender, FormationResponse(formation=message.formation, promised=own))
        elif isinstance(message, FormationView) and not cluster:
            self.ledger.send(sender, FormationView(sees=(), expect=0))

    def hear_of_cluster(self, sender: NodeId, cluster: OptionalId, now: Instant) -> None:
        """Note that the promised formation stands, or that there is a cluster to wait for."""
        if cluster == self.state.promised:
            self.stand(now)
        elif cluster != self.heard_cluster:
            if self.state.promised or self.heard_cluster:
                self.events.append(ForeignCluster(node=sender, cluster=cluster))
            self._write(msgspec.structs.replace(self.state, heard=cluster))

    def join(self, cluster: OptionalId, now: Instant) -> None:
        """Become a member of the cluster whose leader has just spoken to this node, unless a promise binds it.

        A leader speaks only to the members of its configuration. From now on this node refuses every formation and
        every other cluster; its membership is on disk before it answers the leader.
        """
        if self.formed or self.state.promised or not cluster or cluster in self.state.never:
            return
        self._write(FormationState(cluster=cluster))

    def handle_request(self, sender: NodeId, request: FormationRequest, now: Instant) -> None:
        """Promise the formation that is asked for, or refuse it for ever."""
        if self.id not in request.members or sender not in request.members:
            return
        if request.formation == self.state.promised:
            if request.members == self.state.members:
                self.note_promise(sender, now)
                self.ledger.send(sender, FormationResponse(formation=request.formation, promised=True))
        elif request.formation in self.state.never or not self.may_promise(request):
            self.refuse(sender, request.formation, now)
        else:
            self.promise(request.formation, request.members, now)
            self.note_promise(sender, now)

    def may_promise(self, request: FormationRequest) -> bool:
        """Check whether this node is free to promise, forms clusters at all, and finds the formation large enough."""
        free = not self.state.promised and not self.heard_cluster
        return free and 0 < self.expect <= len(request.members)

    def refuse(self, sender: NodeId, formation: Id, now: Instant) -> None:
        """Refuse a formation, durably; leave the request unanswered when too many refusals are kept already."""
        if formation not in self.state.never:
            if len(self.state.never) >= _NEVER_MAX:
                return
            self._write(msgspec.structs.replace(self.state, never=(*self.state.never, formation)))
        self.ledger.send(sender, FormationResponse(formation=formation, promised=False))

    def handle_response(self, sender: NodeId, response: FormationResponse, now: Instant) -> None:
        """Count a promise, or drop the formation because a member refused it."""
        if response.formation != self.state.promised or sender not in self.state.members:
            return
        if response.promised:
            self.note_promise(sender, now)
        else:
            self.drop(f"node {format_id(sender)} refused it", now)

    def note_promise(self, sender: NodeId, now: Instant) -> None:
        """Remember that a member has promised."""
        self.promises.add(sender)
        self.stand_if_complete(now)

    def stand_if_complete(self, now: Instant) -> None:
        """Become a member once every member has promised the formation."""
        if self.state.promised and not self.missing:
            self.stand(now)

    def stand(self, now: Instant) -> None:
        """Become a member of the cluster that the promised formation made, and tell all its members."""
        state = self.state
        self._write(FormationState(cluster=state.promised, members=state.members))
        for member in state.members:
            if member != self.id:
                self.ledger.send(member, FormationResponse(formation=state.promised, promised=True))

    def drop(self, reason: str, now: Instant) -> None:
        """Drop the promised formation, which has ended; never promise it again, and tell its other members."""
        state = self.state
        # Where no refusal more can be kept, that of the member that refused first is enough: it is never forgotten.
        noted = (*state.never, state.promised) if len(state.never) < _NEVER_MAX else state.never
        self._write(FormationState(never=noted, heard=state.heard))
        for member in state.members:
            if member != self.id:
                self.ledger.send(member, FormationResponse(formation=state.promised, promised=False))
        self.events.append(FormationEnded(formation=state.promised, reason=reason))
        self.propose_after = now + self.random.uniform(1, 3) * self.beat
        self.clique = frozenset()

    def abandon(self, formation: Id, now: Instant) -> str | None:
        """Abandon the promised formation on an operator's word; return the reason if that is impossible."""
        if self.formed:
            return "this node is a member of a cluster"
        if formation in self.state.never:
            return None  # another member has said that it ended, or the operator asks again
        if formation != self.state.promised:
            return "this node has not promised that formation"
        if len(self.state.never) >= _NEVER_MAX:
            return "this node keeps as many refusals as it can; remove its data directory instead"
        self.drop("it was abandoned", now)
        return None


def mutual_view(node: NodeId, sees: frozenset[NodeId], views: dict[NodeId, View]) -> frozenset[NodeId]:
    """Find a set of nodes that all see each other, `node` among them.

    The nodes that see the fewest of the others are left out, one by one. That finds all nodes when all see each
    other, and a useful set when a few do not.

    Parameters
    ----------
    node : int
        This node.
    sees : frozenset of int
        The nodes that it sees, itself included.
    views : dict of int to View
        The nodes that each of the others sees.

    Returns
    -------
    frozenset of int
        Nodes of which each sees every other.
    """
    clique = set(sees)

    def seen_by(other: int) -> frozenset[NodeId]:
        return sees if other == node else views[other].sees

    mutual = {one: {two for two in seen_by(one) & clique if one in seen_by(two)} for one in clique}
    while True:
        worst = min(clique - {node}, key=lambda one: (len(mutual[one]), -one), default=node)
        if len(mutual[worst]) == len(mutual[node]) == len(clique):
            return frozenset(clique)
        clique.discard(worst)
        for others in mutual.values():
            others.discard(worst)
