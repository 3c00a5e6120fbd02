"""What consensus alone costs a leader and a follower, in this tree and in another one, in turns.

    git worktree add /tmp/before 9332d7f
    python -m tests.benchmarks.core /tmp/before --rounds 5 --nodes 3 7 51

Members in one process, on virtual time: no socket, no disk, no bytes but those of encoded messages, which a node
makes once for all receivers. Two processes, one of each tree, measure the same in turns. Prints a table: medians of
µs of processor time, and how many messages a leader encodes; and this tree as a multiple of the other one.

Every datagram is a turn of its own, which is the dearest way there is, but for the rows "of 64 at a time": there a
node takes all that has come by then, as it does under load.
"""

import argparse
import heapq
import json
import os
import random
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
DELAY: Final = 0.0002  # of a message, in virtual seconds
HEARTBEATS: Final = 40
COMMITS: Final = 300
AT_A_TIME: Final = 64
DATA: Final = b"x" * 64


# --- what is measured: this part runs in either tree ------------------------------------------------------------


class Cluster:
    """Members, and the messages between them."""

    def __init__(self, nodes: int, *, drains: bool) -> None:
        from trioraft.consensus import Core, HardState, Role, Timing  # noqa: PLC0415 - of the tree that is measured
        from trioraft.consensus.hard import FormationState  # noqa: PLC0415 - of the tree that is measured
        from trioraft.consensus.log import Log  # noqa: PLC0415 - of the tree that is measured
        from trioraft.datagrams.endpoint import encode_message  # noqa: PLC0415 - of the tree that is measured
        from trioraft.node.member import Member  # noqa: PLC0415 - of the tree that is measured
        from trioraft.node.proposals import nothing_required  # noqa: PLC0415 - of the tree that is measured
        from trioraft.node.replicated import Replicated  # noqa: PLC0415 - of the tree that is measured
        from trioraft.replica.machine import NothingToReplicate  # noqa: PLC0415 - of the tree that is measured
        from trioraft.replica.sessions import Replica  # noqa: PLC0415 - of the tree that is measured

        self.now = 1000.0
        self._drains = drains
        self._leads = Role.LEADER
        self._encode = encode_message
        self._post: list[tuple[float, int, int, int, Any]] = []
        self._count = 0
        self.cpu: dict[int, float] = defaultdict(float)
        self.encoded: dict[int, int] = defaultdict(int)
        self.wake_at: dict[int, float] = {}
        hard = HardState(formation=FormationState(cluster=7, members=tuple(range(1, nodes + 1))))
        self.members: dict[int, Any] = {}
        for node in range(1, nodes + 1):
            first = 0.001 if node == 1 else 10.0  # the first one leads
            core = Core(
                node,
                hard,
                Log(),
                Timing(lower=0.15, upper=0.3, heartbeat=0.05),
                log_waits=False,
                expect=nodes,
                random_source=random.Random(node),
                now=self.now,
            )
            assert core.state is not None
            core.state.election_deadline = self.now + first
            parts = Replicated.of(
                core, Replica(NothingToReplicate()), self.clock, first_read=1, require=nothing_required
            )
            self.members[node] = Member(parts)
            self.turn(node)
        while self.leader is None:
            self.step()

    def clock(self) -> float:
        """Return the virtual time."""
        return self.now

    @property
    def leader(self) -> Any:
        """The core of the first node, once it leads."""
        core = self.members[1].core
        return core if core.role is self._leads else None

    def turn(self, node: int) -> None:
        """Take turns of a member for as long as it wants them."""
        member = self.members[node]
        for _ in range(100):
            turn = member.turn(self.now)
            for receivers, message in turn.send:
                self._encode(message)
                self.encoded[node] += 1
                for to in receivers:
                    self._count += 1
                    heapq.heappush(self._post, (self.now + DELAY, self._count, to, node, message))
            if turn.write is not None:
                member.persisted(turn.write.number, self.now)
            member.apply(turn.apply)
            self.wake_at[node] = turn.wake_at
            if not member.wants_turn:
                return

    def step(self) -> None:
        """Move on to what comes next: a message, or a timer."""
        node = min(self.wake_at, key=self.wake_at.__getitem__) if not self._post else 0
        if node:
            self.now = max(self.now, self.wake_at[node])
            began = time.process_time()
            self.members[node].handle_timer(self.now)
            self.turn(node)
            self.cpu[node] += time.process_time() - began
            return
        at, _, to, sender, message = heapq.heappop(self._post)
        self.now = max(self.now, at)
        batch = [(sender, message)]
        if self._drains:
            others = [one for one in self._post if one[2] == to and one[0] <= self.now]
            if others:
                self._post = [one for one in self._post if one[2] != to or one[0] > self.now]
                heapq.heapify(self._post)
                batch += [(one[3], one[4]) for one in sorted(others)]
        began = time.process_time()
        for one, said in batch:
            self.members[to].take(one, 7, said, self.now)
        self.turn(to)
        self.cpu[to] += time.process_time() - began

    def live(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self._post or min(self.wake_at.values()) <= end:
            self.step()

    def commit(self, entries: int) -> None:
        """Have the leader propose entries, one by one, and wait until they are committed."""
        from trioraft.messages import EntryKind  # noqa: PLC0415 - of the tree that is measured

        began = time.process_time()
        for _ in range(entries):
            assert self.leader.propose(EntryKind.COMMAND, DATA, self.now) is not None
        self.turn(1)
        self.cpu[1] += time.process_time() - began
        while self._post:
            self.step()

    def forget(self) -> None:
        """Begin to count anew."""
        self.cpu.clear()
        self.encoded.clear()


def measure(sizes: list[int]) -> dict[str, float]:
    """Measure everything once."""
    found: dict[str, float] = {}
    for nodes in sizes:
        cluster = Cluster(nodes, drains=False)
        cluster.live(0.5)
        few = max(3, min(HEARTBEATS, 4000 // nodes))
        _note(found, cluster, f"{nodes} nodes: heartbeat", few, lambda c, n: c.live(0.05 * n))
        commits = max(3, min(COMMITS, 10_000 // nodes))
        _note(found, cluster, f"{nodes} nodes: commit of one", commits, lambda c, n: [c.commit(1) for _ in range(n)])
        cluster = Cluster(nodes, drains=True)
        cluster.live(0.5)
        times = max(1, commits // 8)
        _note(
            found,
            cluster,
            f"{nodes} nodes: commit of {AT_A_TIME} at a time",
            times * AT_A_TIME,
            lambda c, n: [c.commit(AT_A_TIME) for _ in range(n // AT_A_TIME)],
        )
    return found


def _note(found: dict[str, float], cluster: Cluster, what: str, count: int, do: Any) -> None:
    cluster.forget()
    do(cluster, count)
    others = [cluster.cpu[node] for node in cluster.members if node != 1]
    found[f"{what}, leader"] = 1e6 * cluster.cpu[1] / count
    found[f"{what}, follower"] = 1e6 * sum(others) / len(others) / count
    found[f"{what}, encoded by the leader"] = cluster.encoded[1] / count


# --- comparing --------------------------------------------------------------------------------------------------


def _ask(tree: Path, sizes: list[int]) -> dict[str, float]:
    got = subprocess.run(
        [sys.executable, __file__, "--worker", "--nodes", *map(str, sizes)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree), "PYTHONSAFEPATH": "1"},
    )
    found: dict[str, float] = json.loads(got.stdout)
    return found


def compare(other: Path, rounds: int, sizes: list[int]) -> None:
    """Measure in both trees in turns, and print a table."""
    trees = {"this": ROOT, "other": other}
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in trees}
    for _ in range(rounds):
        for name, tree in trees.items():
            rows[name].append(_ask(tree, sizes))
    print(f"{'':56}{'other':>10}{'this':>10}{'ratio':>8}")
    for what in rows["this"][0]:
        this, before = (median(row[what] for row in rows[name]) for name in ("this", "other"))
        print(f"{what:56}{before:10.2f}{this:10.2f}{this / before if before else 0:8.2f}")


def main() -> None:
    """Read the arguments, and compare; or measure once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", nargs="?", type=Path, help="another tree; by default only this one is measured")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--nodes", type=int, nargs="+", default=[3, 7, 51], help="how many members, one size or more")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(measure(options.nodes)))
    else:
        compare((options.other or ROOT).resolve(), options.rounds, options.nodes)


if __name__ == "__main__":
    main()
