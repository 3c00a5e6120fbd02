"""What must hold, checked where it can be broken: at each message that leaves, write, election and start of work.

The checks know everything (true time, all disks, all that ever left), which no node does. They never look at
what a node intends, only at what others could see of it; the one exception is a leader's belief in its lease.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NoReturn

from tests.simulation.disk import Disk
from tests.simulation.ending_checks import EndingChecks
from tests.simulation.log_checks import LogChecks
from tests.simulation.member_checks import MemberChecks
from tests.simulation.store_checks import StoreChecks
from tests.simulation.trace import name
from trioraft.consensus import HardState, lease
from trioraft.consensus.log import Log
from trioraft.consensus.state import State
from trioraft.messages import (
    AppendEntriesRequest,
    AppendEntriesResponse,
    FormationRequest,
    FormationResponse,
    LeadershipEnded,
    PreVoteRequest,
    PreVoteResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)

if TYPE_CHECKING:
    from tests.simulation.host import Host, Process
    from tests.simulation.simulation import Simulation

# What rounding may do to a sum of times.
_EPSILON: Final = 1e-6


class ViolationError(Exception):
    """Something that must hold does not."""


class Checks:
    """All that was ever seen of one cluster's nodes."""

    def __init__(self, world: "Simulation") -> None:
        self.world = world
        self.log = LogChecks(self)
        self.changes = MemberChecks(self)
        self.store = StoreChecks(self)
        self.endings = EndingChecks(self)
        self.told_term: dict[int, int] = {}  # the newest term that each node has spoken of
        self.votes: dict[tuple[int, int], int] = {}  # (node, term): whom it voted for
        self.leaders: dict[int, int] = {}  # term: who won it
        self.newest_term = 0  # in which a leader was elected
        self.offers: dict[int, set[int]] = {}  # term: to whom its leader offered the leadership
        self.promises: dict[int, dict[int, float]] = {}  # node: term of a leader: until when, on the node's clock
        self.homes: dict[int, Host] = {}  # where a node is, or was
        self.trusts_clocks = "clock leap" not in world.profile.rates
        self.running: dict[int, Host] = {}  # token: where this leader work runs
        self.frozen: set[int] = set()  # tokens of work that stood still with its whole machine
        self.newest_token = 0
        self.tokens: dict[int, int] = {}  # token: whose
        self.cluster = 0
        self.members: tuple[int, ...] = ()
        self.proposed: set[int] = set()  # formations that a node promised
        self.refused: set[int] = set()  # formations that a node said it would never promise
        self.never: set[tuple[int, int]] = set()  # (node, formation): who said so
        self.lost: dict[int, HardState] = {}  # what was on disks that were lost
        self.settled = False  # whether all is well, so that the leader must stay
        self._of_message: Final[dict[type, Callable[[Process, int, Any], None]]] = {
            AppendEntriesRequest: self._heartbeat_leaves,
            AppendEntriesResponse: self._answer_leaves,
            PreVoteRequest: self._pre_vote_request_leaves,
            PreVoteResponse: self._pre_vote_leaves,
            VoteRequest: self._vote_request_leaves,
            VoteResponse: self._vote_leaves,
            TimeoutNow: self._offer_leaves,
            LeadershipEnded: self._ending_leaves,
            FormationRequest: self._formation_request_leaves,
            FormationResponse: self._formation_response_leaves,
        }

    def fail(self, what: str) -> NoReturn:
        """Report a violation."""
        raise ViolationError(what)

    # --- messages that leave --------------------------------------------------------------------------------

    def leaving(self, process: "Process", to: int, message: object) -> None:
        """Check a message that leaves a node."""
        check = self._of_message.get(type(message))
        if check is not None:
            check(process, to, message)

    def _speaks_of(self, process: "Process", term: int) -> None:
        """Check that a node never goes back in its terms, and has on disk the one that it speaks of."""
        node = process.host.node
        if term < self.told_term.get(node, 0):
            self.fail(f"{name(node)} speaks of term {term} after it spoke of term {self.told_term[node]}")
        if term > process.host.disk.hard.term:
            self.fail(f"{name(node)} speaks of term {term}, and term {process.host.disk.hard.term} is on its disk")
        self.told_term[node] = term

    def _heartbeat_leaves(self, process: "Process", _to: int, message: AppendEntriesRequest) -> None:
        node = process.host.node
        self._speaks_of(process, message.term)
        if self.leaders.get(message.term) != node:
            self.fail(f"{name(node)} sends heartbeats of term {message.term}, which it did not win")
        if message.commit_index > len(self.log.committed):
            self.fail(f"{name(node)} says that entry {message.commit_index} is committed")
        if message.work == 0:
            self._says_work_has_ended(process, message.term)

    def _answer_leaves(self, process: "Process", to: int, message: AppendEntriesResponse) -> None:
        if message.term >= self.told_term.get(process.host.node, 0):  # an acknowledgement may have waited for long
            self._speaks_of(process, message.term)
        self.log.answer_leaves(process, to, message)
        received = process.receipts.pop((message.term, message.sequence), None)
        if message.promise == 0 or received is None:
            return
        host = process.host
        until = received + message.promise
        # After a restart the node keeps the promise that is on its disk, counted from then.
        if host.local(self.world.loop.now) + host.disk.hard.promise < until - _EPSILON:
            self.fail(
                f"{name(host.node)} promises {message.promise} s, and {host.disk.hard.promise} s are on its disk"
            )
        if host.disk.hard.work_term < message.term:
            self.fail(f"{name(host.node)} acknowledges a claim of term {message.term} that is not on its disk")
        if self.leaders.get(message.term) != to:
            self.fail(f"{name(host.node)} promises {name(to)}, which did not win term {message.term}")
        known = self.promises.setdefault(host.node, {})
        self.homes[host.node] = host
        if message.term not in known:
            for old in [term for term, end in known.items() if end < received]:
                del known[old]
        known[message.term] = max(known.get(message.term, 0.0), until)

    def _pre_vote_request_leaves(self, process: "Process", _to: int, message: PreVoteRequest) -> None:
        self._speaks_of(process, message.term - 1)

    def _pre_vote_leaves(self, process: "Process", _to: int, message: PreVoteResponse) -> None:
        self._speaks_of(process, message.term)

    def _vote_request_leaves(self, process: "Process", _to: int, message: VoteRequest) -> None:
        node = process.host.node
        self._speaks_of(process, message.term)
        if message.transfer and node not in self.offers.get(message.term - 1, ()):
            self.fail(f"{name(node)} bypasses promises in term {message.term} without an offer of the leader before")
        self._votes(process, message.term, node)

    def _vote_leaves(self, process: "Process", to: int, message: VoteResponse) -> None:
        self._speaks_of(process, message.term)
        if message.granted:
            self._votes(process, message.term, to)

    def _votes(self, process: "Process", term: int, candidate: int) -> None:
        """Check that a vote is the only one in its term, is on disk, and breaks no promise."""
        node = process.host.node
        disk = process.host.disk.hard
        if self.votes.setdefault((node, term), candidate) != candidate:
            self.fail(f"{name(node)} votes for {name(candidate)} in term {term} after another vote in it")
        if disk.term == term and disk.voted_for != candidate:
            self.fail(f"{name(node)} votes for {name(candidate)} in term {term}, which is not on its disk")
        if candidate in self.offers.get(term - 1, ()) or not self.trusts_clocks:
            return
        now = process.clock()
        for leading, until in self.promises.get(node, {}).items():
            holds = leading < term and not self.endings.is_known(node, leading)
            if holds and self.leaders[leading] != candidate and now < until - _EPSILON:
                self.fail(
                    f"{name(node)} votes for {name(candidate)} in term {term}, "
                    f"and promised the leader of term {leading} not to for another {until - now:.6f} s"
                )

    def _offer_leaves(self, process: "Process", to: int, message: TimeoutNow) -> None:
        self._speaks_of(process, message.term)
        if message.term not in self.offers:
            self.world.count["transfers"] += 1
        self.offers.setdefault(message.term, set()).add(to)
        if message.work == 0:
            self._says_work_has_ended(process, message.term)

    def _ending_leaves(self, process: "Process", _to: int, message: LeadershipEnded) -> None:
        self.endings.leaves(process, message)
        if message.work_ended:
            self._says_work_has_ended(process, message.term)

    def _says_work_has_ended(self, process: "Process", term: int) -> None:
        if not self.trusts_clocks:
            return
        for token, where in self.running.items():
            if token <= term and token not in self.frozen:
                self.fail(
                    f"{name(process.host.node)} says that work has ended, and {token} runs on {name(where.node)}"
                )

    # --- formation ------------------------------------------------------------------------------------------

    def _formation_request_leaves(self, process: "Process", _to: int, message: FormationRequest) -> None:
        self._says_promised(process, message.formation)

    def _formation_response_leaves(self, process: "Process", _to: int, message: FormationResponse) -> None:
        if message.promised:
            self._says_promised(process, message.formation)
            return
        node = process.host.node
        formation = process.host.disk.hard.formation
        if message.formation not in formation.never and formation.cluster in {0, message.formation}:
            self.fail(f"{name(node)} refuses a formation, and that is not on its disk")
        self.never.add((node, message.formation))
        self.refused.add(message.formation)
        if message.formation == self.cluster:
            self.fail(f"{name(node)} refuses the formation that stands")

    def _says_promised(self, process: "Process", promised: int) -> None:
        node = process.host.node
        formation = process.host.disk.hard.formation
        self.proposed.add(promised)
        if (node, promised) in self.never:
            self.fail(f"{name(node)} promises a formation that it said it would never promise")
        if promised not in {formation.promised, formation.cluster} and promised not in formation.never:
            self.fail(f"{name(node)} says that it promised a formation, and that is not on its disk")

    def formed(self, process: "Process", cluster: int, members: tuple[int, ...]) -> None:
        """Check that there is one cluster, which all its members promised durably."""
        if self.cluster not in {0, cluster}:
            self.fail(f"{name(process.host.node)} is a member of a second cluster")
        if self.members not in {(), members}:
            self.fail(f"{name(process.host.node)} knows other members of the cluster")
        if cluster in self.refused:
            self.fail(f"{name(process.host.node)} is a member of a cluster whose formation was refused")
        if not self.cluster:
            self.world.count["formations"] += 1
        self.cluster, self.members = cluster, members
        self.changes.formed(members)
        for member in members:
            if cluster not in self._promised_on_disk(member):
                self.fail(
                    f"{name(process.host.node)} takes the formation for standing; {name(member)} did not promise"
                )

    def joined(self, process: "Process", cluster: int) -> None:
        """Check that a node joins the one cluster, and is free to."""
        if cluster != self.cluster:
            self.fail(f"{name(process.host.node)} joins another cluster than the one there is")
        if process.host.disk.hard.formation.promised:
            self.fail(f"{name(process.host.node)} joins a cluster although it has promised a formation")
        self.world.count["nodes joined"] += 1

    def _promised_on_disk(self, node: int) -> tuple[int, int]:
        host = self.world.host_of(node)
        hard = self.lost[node] if host is None else host.disk.hard
        return hard.formation.promised, hard.formation.cluster

    def wiped(self, host: "Host", hard: HardState, log: Disk | Log) -> None:
        """Remember what was on a disk that is lost, or with ``DURABILITY=memory`` in the process."""
        self.lost[host.node] = hard
        self.log.lost[host.node] = log

    # --- the disk -------------------------------------------------------------------------------------------

    def on_disk(self, host: "Host", old: HardState, hard: HardState) -> None:
        """Check that what a disk holds never goes back."""
        if hard.term < old.term or hard.work_term < old.work_term:
            self.fail(f"what {name(host.node)} has on disk goes back")
        covered = host.local(self.world.loop.now) + hard.promise
        if hard.promise < old.promise and any(
            until > covered + _EPSILON and not self.endings.is_known(host.node, term)
            for term, until in self.promises.get(host.node, {}).items()
        ):
            self.fail(f"{name(host.node)} keeps a promise of {hard.promise} s only, and has given a longer one")
        if hard.term == old.term and old.voted_for not in {0, hard.voted_for}:
            self.fail(f"{name(host.node)} changes its vote in term {hard.term} on disk")
        was, now = old.formation, hard.formation
        if now.cluster and not was.cluster and was.promised not in {0, now.cluster}:
            self.fail(f"{name(host.node)} joins a cluster although it has promised a formation")
        if old.removed > hard.removed:
            self.fail(f"{name(host.node)} forgets that it was removed")
        if was.cluster and was != now:
            self.fail(f"{name(host.node)} leaves its cluster")
        if was.promised and was.promised not in {now.promised, now.cluster, *now.never}:
            self.fail(f"{name(host.node)} forgets a formation that it promised")

    def term_changes(self, process: "Process") -> None:
        """Check that a process never goes back in its terms."""
        if process.core.term < process.term:
            self.fail(f"{name(process.host.node)} goes back from term {process.term} to {process.core.term}")
        process.term = process.core.term

    # --- leaders and their leases ---------------------------------------------------------------------------

    def elected(self, process: "Process", term: int) -> None:
        """Check an election: one leader in a term, by a quorum of votes that left, while no lease runs."""
        node = process.host.node
        self.world.count["elections"] += 1
        if self.settled:
            self.fail(f"{name(node)} is elected in term {term} although all is well")
        if self.leaders.setdefault(term, node) != node:
            self.fail(f"{name(node)} wins term {term}, which {name(self.leaders[term])} won")
        disk = process.host.disk.hard
        state = process.core.state
        assert state is not None
        votes = [voter for (voter, voted_in), who in self.votes.items() if voted_in == term and who == node] + [node]
        enough = self.changes.is_quorum(self.changes.in_force(state), votes)
        if not enough or (disk.term, disk.voted_for) != (term, node):
            self.fail(f"{name(node)} wins term {term} with the votes of {votes} only")
        self.log.elected(process, state)
        if process.pilot is not None:
            process.pilot.elected()
        self.newest_term = max(self.newest_term, term)
        self.endings.elected(process, term)
        for host in self.world.hosts:
            other = host.process
            if other is not None and other.core.state is not None:
                self.leading(other, other.core.state)

    def leading(self, process: "Process", state: State) -> None:
        """Check that a leader does not believe in a lease when another one has been elected after it."""
        if state.term < self.newest_term and state.role == "leader" and self.trusts_clocks:
            left = lease.lease_end(state) - process.clock()
            if left > _EPSILON:
                self.fail(
                    f"{name(process.host.node)} believes in its lease of term {state.term} for another {left:.6f} s, "
                    f"and {name(self.leaders[self.newest_term])} was elected in term {self.newest_term}"
                )

    def is_promised(self, process: "Process") -> bool:
        """Tell whether at this moment, by their own clocks, a quorum votes for nobody but a leader."""
        term, now, state = process.core.term, self.world.loop.now, process.core.state
        assert state is not None  # it leads
        promising = {
            node
            for node, until in self.promises.items()
            if term in until and until[term] >= self.homes[node].local(now) - _EPSILON
        }
        return self.changes.is_quorum(self.changes.in_force(state), {process.host.node, *promising})

    # --- leader work ----------------------------------------------------------------------------------------

    def work_started(self, host: "Host", token: int) -> None:
        """Check that no other work runs, and that tokens only grow."""
        self.world.count["pieces of leader work"] += 1
        if self.tokens.setdefault(token, host.node) != host.node or token in self.running:
            self.fail(f"work on {name(host.node)} has token {token}, which {name(self.tokens[token])} had")
        for other, where in self.running.items():
            if other not in self.frozen and self.trusts_clocks:
                self.fail(f"work {token} starts on {name(host.node)} while {other} runs on {name(where.node)}")
        if token <= self.newest_token and self.trusts_clocks:
            self.fail(f"work on {name(host.node)} has token {token}, and {self.newest_token} was there before")
        self.newest_token = token
        self.running[token] = host

    def work_ended(self, host: "Host") -> None:
        """Note that work has ended."""
        self.running.pop(host.supervisor.token, None)
        self.frozen.discard(host.supervisor.token)

    def work_frozen(self, host: "Host") -> None:
        """Note that from now on only its token keeps this work from doing harm."""
        if host.supervisor.token:
            self.frozen.add(host.supervisor.token)
