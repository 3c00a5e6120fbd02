"""A client that asks a leader for a read at about the moment when its lease ends: where a lease is worth least."""

from typing import TYPE_CHECKING

from trioraft.consensus import Role, lease

if TYPE_CHECKING:
    from tests.simulation.host import Process
    from tests.simulation.simulation import Simulation


class LateReader:
    """Follows the lease that ends first; each renewal moves the moment on, and most often there is one."""

    def __init__(self, world: "Simulation") -> None:
        self.world = world
        self.unit = world.profile.unit

    def look(self) -> None:
        """Find the lease that ends first, and arrange to ask then, or a little before or after."""
        world = self.world
        if world.workload.over:
            return
        ends = [
            (end, host.node, host.process)
            for host in world.hosts
            if host.process is not None and (end := self._end(host.process)) > world.loop.now
        ]
        if ends:
            end, _, process = min(ends)
            at = max(world.loop.now, end + self.unit * world.random.uniform(-0.003, 0.012))
            world.loop.at(at, self._ask, process, end)
        else:
            world.loop.at(world.loop.now + 0.2 * self.unit, self.look)

    def _ask(self, process: "Process", end: float) -> None:
        host = process.host
        if host.process is process and not process.paused and abs(self._end(process) - end) < 1e-9:
            process.keeper.read(lambda _: None)
        self.look()

    @staticmethod
    def _end(process: "Process") -> float:
        """Tell when, in true time, a leader's lease ends."""
        state = process.core.state
        return process.host.true(lease.lease_end(state)) if state is not None and state.role is Role.LEADER else 0.0
