"""What must hold where the log is in memory (``DURABILITY=memory``): what gathers for the disk, and for how long."""

import copy
from typing import TYPE_CHECKING, Final

from tests.simulation.trace import name
from trioraft.consensus.ledger import GATHERED_BYTES, GATHERED_SECONDS
from trioraft.consensus.log import Log, entry_bytes

if TYPE_CHECKING:
    from tests.simulation.disk import Disk
    from tests.simulation.host import Process

# What rounding may do to a deadline.
_EPSILON: Final = 1e-6


class Gathering:
    """What one process has not handed to its disk, although that is idle."""

    def __init__(self, process: "Process") -> None:
        self._process = process
        self._since: float | None = None  # since when there are such entries

    def look(self) -> None:
        """Check, after a turn, that nothing but entries gathers, not too many of them, and not for long."""
        process = self._process
        host, state, fail = process.host, process.core.state, process.world.checks.fail
        if state is None or state.ledger.durable < state.ledger.handed_out:
            self._since = None
            return
        if state.ledger.hard != host.disk.hard:
            fail(f"{name(host.node)} has another hard state than its disk, which is idle")
        if _is_all_of(host.disk, state.log):
            self._since = None
            return
        now = process.clock()
        self._since = now if self._since is None else self._since
        due = self._since + GATHERED_SECONDS + _EPSILON
        if due < max(now, process.wake_at):
            fail(f"{name(host.node)} does not come back in time for entries that its disk lacks")
        lacking = state.log.entries(max(host.disk.last_index, state.log.base_index) + 1, state.log.last_index)
        if sum(map(entry_bytes, lacking)) > GATHERED_BYTES:
            fail(f"{name(host.node)} keeps too much of its log from its disk")

    def stop(self) -> None:
        """Check that the disk would have all if the process stopped now, and not by a crash."""
        process = self._process
        state = process.core.state
        if state is None or process.paused or process.turning:
            return
        process.core.close()
        disk = copy.copy(process.host.disk)
        disk.entries = [*disk.entries]
        for write in (process.host.writing, process.member.turn(process.clock()).write):
            if write is not None:
                disk.put(write)
        if disk.hard != state.ledger.hard or not _is_all_of(disk, state.log):
            process.world.checks.fail(f"{name(process.host.node)} stops, and its disk lacks some of what it has")


def _is_all_of(disk: "Disk", log: Log) -> bool:
    return (disk.last_index, disk.term_at(disk.last_index)) == (log.last_index, log.last_term)
