"""How long a cluster is without a leader after one has crashed, by the paper's own experiment (section 9.3).

Five servers whose logs differ, so that not everybody can win. The leader's regular heartbeats reach all at the same
time, which encourages split votes, and it crashes at a random moment before the next ones, half of a lower election
timeout later. What is measured ends when another node leads.

The real consensus core runs, by its own rules or by the paper's: then an election begins without a pre-vote, a vote
is refused to nobody because a leader was heard, no leader steps down for want of a quorum, and an election that
nobody won is followed by the next when another election timeout has passed.
"""

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Any, Final
from unittest import mock

from msgspec import Struct

from tests.driving import member_around
from tests.simulation.loop import Loop
from trioraft.clock import NEVER
from trioraft.consensus import Core, HardState, Role, Timing, election, quorum
from trioraft.consensus.events import BecameLeader
from trioraft.consensus.hard import FormationState
from trioraft.consensus.log import Log
from trioraft.consensus.state import Question, Round, State
from trioraft.messages import AppendEntriesRequest, Entry, EntryKind, PreVoteRequest, VoteRequest

SERVERS: Final = 5
# A request to all others takes 15 ms until the last has answered, as in the paper. What that is made of, the paper
# does not say: here a request is fast, and the write before an answer is a part of the answer's way. Seconds.
REQUEST: Final = (0.0015, 0.0025)
ANSWER: Final = (0.0095, 0.0135)
WRITE: Final = 0.0001
# Nobody waits longer than this for a leader, in seconds.
PATIENCE: Final = 30.0
_CLUSTER: Final = 0xC1
_REQUESTS: Final = (AppendEntriesRequest, PreVoteRequest, VoteRequest)


class Timeouts(Struct, frozen=True):
    """Between what an election timeout is drawn, in milliseconds."""

    lower: int
    upper: int

    def __str__(self) -> str:
        return f"{self.lower}–{self.upper} ms"

    @property
    def timing(self) -> Timing:
        """The durations; a heartbeat is sent twice in a lower election timeout."""
        return Timing(lower=self.lower / 1000, upper=self.upper / 1000, heartbeat=self.lower / 2000)


# --- the paper's rules --------------------------------------------------------------------------------------


def _start_at_once(s: State, now: float) -> None:
    election.start_election(s, now)


def _never_sticky(s: State, _now: float) -> bool:
    return s.role is Role.LEADER


def _round_of_an_election_timeout(s: State, now: float) -> Round:
    s.round = Round(
        deadline=now + s.random.uniform(s.timing.lower, s.timing.upper),
        unanswered={node: Question() for node in s.other_electors},
    )
    return s.round


def _again_when_time_is_up(s: State, now: float) -> None:
    if s.round is not None and s.round.deadline <= now:
        election.start_election(s, now)


def _nothing(*_: Any) -> None:
    pass


def _no_deadline(_s: State) -> float:
    return NEVER


@contextlib.contextmanager
def by_the_paper() -> Iterator[None]:
    """Let elections go by the rules of the paper for a while."""
    patches: list[tuple[object, str, Any]] = [
        (election, "start_pre_vote", _start_at_once),
        (election, "is_sticky", _never_sticky),
        (election, "start_round", _round_of_an_election_timeout),
        (election, "give_up_round", _again_when_time_is_up),
        (election, "retry_soon", _nothing),
        (quorum, "check_quorum", _nothing),
        (quorum, "quorum_deadline", _no_deadline),
    ]
    with contextlib.ExitStack() as stack:
        for target, name, replacement in patches:
            stack.enter_context(mock.patch.object(target, name, replacement))
        yield


RULES: Final[dict[str, Callable[[], contextlib.AbstractContextManager[None]]]] = {
    "paper": by_the_paper,
    "trioraft": contextlib.nullcontext,
}


# --- one crash ----------------------------------------------------------------------------------------------


class Server:
    """A core on a machine with an exact clock."""

    def __init__(self, trial: "Trial", node: int, timing: Timing) -> None:
        self.trial = trial
        self.node = node
        self.awake = node == SERVERS  # the first leader's timer runs before the others'
        members = tuple(range(1, SERVERS + 1))
        self.core = Core(
            node,
            HardState(term=1, formation=FormationState(cluster=_CLUSTER, members=members)),
            Log(0, 0, [Entry(term=1, kind=EntryKind.NO_OP)] * trial.lengths[node]),
            timing,
            expect=SERVERS,
            random_source=trial.loop.random,
            now=0.0,
        )
        self.member = member_around(self.core, lambda: trial.loop.now)
        self.timer_at = NEVER
        self.wake_at = NEVER

    def drive(self) -> None:
        """Carry out what the core wants."""
        loop = self.trial.loop
        while True:
            turn = self.member.turn(loop.now)
            if any(isinstance(event, BecameLeader) for event in turn.events):
                self.trial.led(self)
            for receivers, message in turn.send:
                for to in receivers:
                    self.trial.carry(self.node, to, message)
            if turn.write is not None:
                loop.at(loop.now + WRITE, self.written, turn.write.number)
            self.member.apply(turn.apply)
            if not self.member.wants_turn:
                break
        self.wake_at = turn.wake_at
        if self.awake and self.wake_at < self.timer_at:
            self.timer_at = max(self.wake_at, loop.now)
            loop.at(self.timer_at, self.timer)

    def written(self, number: int) -> None:
        """Tell the core that a write is done."""
        if self in self.trial.alive:
            self.member.persisted(number, self.trial.loop.now)
            self.drive()

    def timer(self) -> None:
        """Call the core's timer if it is due."""
        if self in self.trial.alive and self.timer_at <= self.trial.loop.now:
            self.timer_at = NEVER
            if self.wake_at <= self.trial.loop.now:
                self.member.handle_timer(self.trial.loop.now)
            self.drive()

    def receive(self, sender: int, message: Any) -> None:
        """Take a message from the network."""
        if self in self.trial.alive:
            self.member.take(sender, _CLUSTER, message, self.trial.loop.now)
            self.drive()


class Trial:
    """One crash of a leader, and what follows."""

    def __init__(self, timeouts: Timeouts, seed: str) -> None:
        self.loop = Loop(0)
        self.loop.random = random.Random(seed)
        shorter = list(range(1, SERVERS))
        self.loop.random.shuffle(shorter)
        self.lengths = dict(enumerate([*shorter, SERVERS], 1))
        self.servers = {node: Server(self, node, timeouts.timing) for node in self.lengths}
        self.alive = set(self.servers.values())
        self.leader: Server | None = None
        self.elected_at = NEVER

    def carry(self, sender: int, to: int, message: Any) -> None:
        """Carry a message; not entries, for the logs shall differ when the leader crashes."""
        if not (isinstance(message, AppendEntriesRequest) and message.entries):
            way = REQUEST if isinstance(message, _REQUESTS) else ANSWER
            self.loop.at(self.loop.now + self.loop.random.uniform(*way), self.servers[to].receive, sender, message)

    def led(self, server: Server) -> None:
        """Note that there is a leader."""
        self.leader = server
        self.elected_at = self.loop.now

    def run(self) -> float:
        """Give the downtime in seconds; infinity when it is longer than anybody waits, or no leader stays at all."""
        first = self.servers[SERVERS]
        first.drive()
        self._run_while(lambda: self.leader is None, 1.0)
        for server in self.servers.values():
            server.awake = True
            server.drive()
        self.loop.run(until=self.loop.now + 2 * first.core.timing.lower, events=10**9)
        if first.core.role is not Role.LEADER or self.leader is not first or first.core.state is None:
            return NEVER
        beat = first.core.state.heartbeat_at
        self.loop.run(until=beat + first.core.timing.heartbeat * self.loop.random.random(), events=10**9)
        crashed_at, self.leader = self.loop.now, None
        self.alive.discard(first)
        self._run_while(lambda: self.leader is None, PATIENCE)
        return self.elected_at - crashed_at if self.leader is not None else NEVER

    def _run_while(self, goes_on: Callable[[], bool], seconds: float) -> None:
        until = self.loop.now + seconds
        while goes_on() and self.loop.now < until:
            self.loop.run(until=until, events=self.loop.events + 1)


def downtimes(timeouts: Timeouts, rules: str, seeds: range) -> list[float]:
    """Crash a leader once for each seed.

    Parameters
    ----------
    timeouts : Timeouts
        Between what election timeouts are drawn.
    rules : str
        One of `RULES`.
    seeds : range
        The seeds.

    Returns
    -------
    list of float
        The downtimes in milliseconds, in order of the seeds; infinity for more than `PATIENCE`.
    """
    with RULES[rules]():
        return [1000 * Trial(timeouts, f"{timeouts} {rules} {seed}").run() for seed in seeds]
