"""What must hold of the log (Raft, figure 3), of what was acknowledged, and of what was read."""

from bisect import bisect_left
from typing import TYPE_CHECKING

from tests.simulation.disk import Disk
from tests.simulation.trace import name
from trioraft.consensus.events import ReadReady
from trioraft.consensus.ledger import Write
from trioraft.consensus.log import Log
from trioraft.consensus.state import State
from trioraft.messages import AppendEntriesResponse, Entry, EntryKind
from trioraft.replica.sessions import Result
from trioraft.replica.settings import ClusterSettings, ReadMode

if TYPE_CHECKING:
    from tests.simulation.checks import Checks
    from tests.simulation.host import Host, Process


class LogChecks:
    """All that was ever written, committed and acknowledged."""

    def __init__(self, checks: "Checks") -> None:
        self.checks = checks
        self.fail = checks.fail
        self.committed: list[Entry] = []
        self.committed_in: list[int] = []  # the terms in which that happened
        self.seen: dict[
            tuple[int, int], tuple[int | None, Entry]
        ] = {}  # (index, term): the term before, and the entry
        self.digests: dict[int, int] = {}  # index: the state after it
        self.carried: dict[bytes, tuple[int, bytes]] = {}  # command: where it was carried out, and its result
        self.never_carried: set[bytes] = set()  # commands of which a client knows that
        self.lost: dict[int, Disk | Log] = {}  # node: the log that it had when it was lost
        self.newest_shown = 0  # the newest entry that was acknowledged, or that a read has shown
        self.by_quorum_from = 0  # the newest acknowledged change of the settings that lets reads ask a quorum

    # --- the five properties of figure 3 --------------------------------------------------------------------

    def write(self, host: "Host", write: Write) -> None:
        """Check, before a write is done, that it cuts nothing off that is committed."""
        disk, committed = host.disk, self.committed
        first = write.snapshot.index + 1 if write.restarts and write.snapshot is not None else write.first_index
        if first and first <= disk.last_index:
            new = {index: entry.term for index, entry in enumerate(write.entries, write.first_index)}
            for index in range(max(first, disk.base_index + 1), min(disk.last_index, len(committed)) + 1):
                term = committed[index - 1].term
                if disk.term_at(index) == term != new.get(index):
                    self.fail(f"{name(host.node)} cuts off entry {index} of term {term}, which is committed")

    def written(self, host: "Host", write: Write) -> None:
        """Check that logs match, wherever they have an entry of the same index and term."""
        before = host.disk.term_at(write.first_index - 1)
        for index, entry in enumerate(write.entries, write.first_index):
            known = self.seen.setdefault((index, entry.term), (before, entry))
            if known[1] is not entry and known[1] != entry:
                self.fail(f"{name(host.node)} has another entry {index} of term {entry.term} than there was before")
            if known[0] != before:
                self.fail(f"{name(host.node)} has another term before entry {index} than there was before")
            before = entry.term

    def leading(self, process: "Process", state: State) -> None:
        """Check that a leader only appends."""
        term, index, last = process.led
        log = state.log
        if term == state.term and (log.last_index < index or log.term_at(index) not in {last, None}):
            self.fail(f"{name(process.host.node)} leads term {term} and changes its own log")
        if term != state.term or log.last_index > index:
            self.checks.changes.grown(process, state, index if term == state.term else 0)
        process.led = (state.term, log.last_index, log.last_term)

    def elected(self, process: "Process", state: State) -> None:
        """Check that a new leader has all that was committed in earlier terms; its own may be over already."""
        index = bisect_left(self.committed_in, state.term)
        if index > state.log.base_index and state.log.term_at(index) != self.committed[index - 1].term:
            self.fail(f"{name(process.host.node)} wins term {state.term} without entry {index}, which is committed")

    def committing(self, process: "Process", state: State) -> None:
        """Check what a node takes for committed: the same as all others, and first of all on a quorum of disks."""
        if state.commit_index < process.committed:
            self.fail(f"{name(process.host.node)} goes back with its commit index")
        if not state.applied_index <= state.commit_index <= state.log.last_index:
            self.fail(f"{name(process.host.node)} applies what is not committed, or commits what it does not have")
        first = max(process.committed, state.log.base_index) + 1
        process.committed = state.commit_index
        for index, entry in enumerate(state.log.entries(first, state.commit_index), first):
            if index > len(self.committed):
                self._first_committed(process, index, entry)
            elif self.committed[index - 1] != entry:
                self.fail(f"{name(process.host.node)} commits another entry {index} than there was before")
        if state.commit_index > len(self.committed):
            self.fail(f"{name(process.host.node)} has a snapshot of what nobody has committed")

    def _first_committed(self, process: "Process", index: int, entry: Entry) -> None:
        if index != len(self.committed) + 1:
            self.fail(f"{name(process.host.node)} commits entry {index} before the one before it")
        self.committed.append(entry)
        self.committed_in.append(max(process.core.term, self.committed_in[-1] if self.committed_in else 0))
        world, changes = self.checks.world, self.checks.changes
        changes.committed(entry)
        if entry.term < process.core.term:
            world.faults.tempt(process.host)
            world.faults.silence(process.host)
        assert process.core.state is not None
        holding = [host.node for host in world.hosts if host.holds(index, entry.term)]
        # who has said that it has an entry, and was lost before the leader heard it
        holding += [node for node, log in self.lost.items() if log.term_at(index) == entry.term]
        if not changes.is_quorum(changes.in_force(process.core.state), holding):
            self.fail(f"{name(process.host.node)} commits entry {index}, which {holding} have, and nobody else")

    def applying(self, process: "Process", index: int, before: int) -> None:
        """Check that a node applies one entry after the other, each once."""
        if index != before + 1:
            self.fail(f"{name(process.host.node)} applies entry {index} after entry {before}")

    def state_is(self, process: "Process", index: int, digest: int) -> None:
        """Check that all replicas have the same state after an entry."""
        if self.digests.setdefault(index, digest) != digest:
            self.fail(f"{name(process.host.node)} has another state after entry {index} than there was before")

    # --- what is acknowledged, to the leader and to clients -------------------------------------------------

    def answer_leaves(self, process: "Process", to: int, message: AppendEntriesResponse) -> None:
        """Check that a follower has on its disk what it acknowledges, and that it is the leader's."""
        disk, matched = process.host.disk, message.matched
        if message.term != disk.hard.term or message.rejected:
            return
        if matched > process.host.log.last_index:
            self.fail(f"{name(process.host.node)} acknowledges entry {matched}, which it does not have")
        host = self.checks.world.host_of(to)
        leader = host.process.core.state if host is not None and host.process is not None else None
        if leader is None or leader.role != "leader" or leader.term != message.term:
            return
        terms = {process.host.log.term_at(matched), leader.log.term_at(matched)} - {None}
        if matched > leader.log.last_index or len(terms) > 1:
            self.fail(f"{name(process.host.node)} acknowledges entry {matched}, which is not the leader's")

    def carried_out(self, index: int, command: bytes, result: bytes) -> None:
        """Check that a command is carried out once."""
        if command in self.never_carried:
            self.fail(f"entry {index} carries out {command[:20]!r}, which was given up for good")
        if self.carried.setdefault(command, (index, result)) != (index, result):
            self.fail(f"entry {index} carries out a command that entry {self.carried[command][0]} has carried out")

    def never(self, command: bytes) -> None:
        """Note that a client knows of a command that it was not carried out, and never will be."""
        self.never_carried.add(command)
        if command in self.carried:
            self.fail(
                f"entry {self.carried[command][0]} has carried out {command[:20]!r}, and its client was told no"
            )

    def acknowledged(self, index: int, entry: Entry, result: Result) -> None:
        """Note that a client was told of success: from now on this must never be lost."""
        if self.committed[index - 1] != entry:
            self.fail(f"entry {index} is acknowledged and not committed")
        if not result.refused:
            self.newest_shown = max(self.newest_shown, index)
            if entry.kind is EntryKind.SETTINGS and ClusterSettings().changed(result.data).reads is ReadMode.QUORUM:
                self.by_quorum_from = max(self.by_quorum_from, index)
        self.checks.world.count["commands acknowledged"] += 1

    def read(self, process: "Process", index: int, newest: int) -> None:
        """Check that a read shows all that was acknowledged or read before it was asked for."""
        self.checks.world.count["reads"] += 1
        if index < newest:
            where = name(process.host.node)
            self.fail(f"a read on {where} shows {index}, and {newest} had been acknowledged or read before")
        self.newest_shown = max(self.newest_shown, index)

    def confirmed(self, process: "Process", event: ReadReady) -> None:
        """Check that a leader goes by the lease only while it has it, and the settings say so."""
        if not event.by_lease:
            return
        where = name(process.host.node)
        self.checks.world.count["reads by lease"] += 1
        replica = process.keeper.replica
        if self.checks.newest_term > process.core.term:
            self.fail(f"a read on {where} goes by a lease, and another leader has been elected")
        if not self.checks.is_promised(process):
            self.fail(f"a read on {where} goes by a lease, and it has ended: no quorum promises it now")
        if replica.settings.reads is not ReadMode.LEASE or replica.applied_index < self.by_quorum_from:
            self.fail(f"a read on {where} goes by the lease, and the settings say that a quorum is asked")
