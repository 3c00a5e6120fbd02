"""Which configuration is in force where, found from the entries alone, and what must hold of changes."""

from bisect import insort
from collections import deque
from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from tests.simulation.trace import name
from trioraft.consensus.configuration import Configuration, decode_configuration
from trioraft.consensus.state import State
from trioraft.messages import Entry, EntryKind

if TYPE_CHECKING:
    from tests.simulation.checks import Checks
    from tests.simulation.host import Process

# What rounding and the clocks may do to a lower election timeout.
_TOLERANCE: Final = 1.02


class MemberChecks:
    """All configurations that a leader ever appended."""

    def __init__(self, checks: "Checks") -> None:
        self.checks = checks
        self.fail = checks.fail
        self.appended: list[tuple[int, int]] = []  # index and term of each such entry, in order
        self.configurations: dict[tuple[int, int], Configuration] = {}
        self.ever: set[int] = set()  # who was a member by a configuration that was committed
        self.lengths: dict[tuple[int, int], deque[tuple[float, int]]] = {}  # (leader, term): how its log grew

    def formed(self, members: tuple[int, ...]) -> None:
        """Note the first members."""
        self.ever.update(members)

    def committed(self, entry: Entry) -> None:
        """Note an entry that is committed."""
        if entry.kind is EntryKind.CONFIGURATION:
            self.ever.update(self._read(entry).members)
            self.checks.world.count["configurations committed"] += 1

    def _read(self, entry: Entry) -> Configuration:
        configuration = decode_configuration(entry.data)
        if configuration is None:
            self.fail(f"a leader has appended {entry.data!r}, which is no configuration")
        return configuration

    # --- what a leader appends ------------------------------------------------------------------------------

    def grown(self, process: "Process", state: State, before: int) -> None:
        """Look at what a leader has appended since its log ended with an index."""
        log = state.log
        first = max(before, log.base_index) + 1
        for index, entry in enumerate(log.entries(first, log.last_index), first):
            if entry.kind is EntryKind.CONFIGURATION and (index, entry.term) not in self.configurations:
                since, was = self._newest(state, below=index)
                insort(self.appended, (index, entry.term))
                self.configurations[index, entry.term] = self._read(entry)
                if since > len(self.checks.log.committed):
                    self.fail(f"{name(process.host.node)} appends a configuration before the last one is committed")
                self._changed(process, was, self._read(entry))
        lengths = self.lengths.setdefault((state.id, state.term), deque(maxlen=1000))
        lengths.append((process.clock(), log.last_index))

    def _changed(self, process: "Process", was: Configuration, now: Configuration) -> None:
        """Check that voters change by joint configurations only, and that new ones have kept up."""
        self.checks.world.count["configurations appended"] += 1
        step = (was.voters, was.old_voters), (now.voters, now.old_voters)
        if step[0] != step[1] and now.old_voters != was.voters and (now.old_voters or now.voters != was.voters):
            self.fail(f"{name(process.host.node)} changes the voters from {step[0]} to {step[1]} at once")
        if now.version < was.version:
            self.fail(f"{name(process.host.node)} lowers the version of the cluster")
        if was.old_voters and now.old_voters:
            self.fail(f"{name(process.host.node)} begins a change while another one is under way")
        if self.checks.world.service is not None:
            self.checks.world.service.checks.changed(process, was, now)
        since = process.clock() - process.timing.lower * _TOLERANCE  # by its own clock, which may have stood still
        lengths = self.lengths.get((process.host.node, process.core.term), deque())
        needed = max((length for at, length in lengths if at < since), default=0)
        for node in set(now.voters) - set(was.voters):
            host = self.checks.world.host_of(node)
            has = (self.checks.log.lost[node] if host is None else host.log).last_index
            if has < needed:
                self.fail(f"{name(node)} becomes a voter with {has} of {needed} entries")

    # --- which is in force ----------------------------------------------------------------------------------

    def in_force(self, state: State) -> Configuration:
        """Find the newest configuration in a node's log."""
        return self._newest(state, state.log.last_index + 1)[1]

    def _newest(self, state: State, below: int) -> tuple[int, Configuration]:
        """Find the newest configuration in a node's log before an index, and where it is."""
        committed = self.checks.log.committed
        for index, term in reversed(self.appended):
            if index >= below:
                continue
            covered = index < state.log.base_index and index <= len(committed) and committed[index - 1].term == term
            if covered or state.log.term_at(index) == term:
                return index, self.configurations[index, term]
        return 0, Configuration(self.checks.members)

    def newest_committed(self) -> Configuration:
        """Give the newest configuration that is committed."""
        committed = self.checks.log.committed
        for index, term in reversed(self.appended):
            if index <= len(committed) and committed[index - 1].term == term:
                return self.configurations[index, term]
        return Configuration(self.checks.members)

    def perhaps_in_force(self) -> list[Configuration]:
        """Give the newest configuration that is committed, and all that may still be."""
        last = len(self.checks.log.committed)
        later = [self.configurations[place] for place in self.appended if place[0] > last]
        return [self.newest_committed(), *later]

    @staticmethod
    def is_quorum(configuration: Configuration, nodes: Collection[int]) -> bool:
        """Tell whether nodes are a majority of the voters, and of the old ones while there are some."""
        both = [voters for voters in (configuration.voters, configuration.old_voters) if voters]
        return all(2 * len(set(voters) & set(nodes)) > len(voters) for voters in both)
