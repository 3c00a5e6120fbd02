"""Virtual DNS: what it says of the service, to each machine at its time; the truth, or something else."""

from bisect import bisect_right
from typing import TYPE_CHECKING, Final

from tests.simulation.profile import LIES
from tests.simulation.trace import name
from trioraft.address import Address
from trioraft.dns.discovery import Answer

if TYPE_CHECKING:
    from tests.simulation.host import Host
    from tests.simulation.service import Service

# How old an answer may be at most, in parts of the time after which a member is gone. Older ones would break what the
# autopilot relies on.
_STALE_MAX: Final = 0.5


class Dns:
    """The servers and caches between the service and its replicas."""

    def __init__(self, service: "Service") -> None:
        self.service = service
        self.world = service.world
        # machine: what it is told, until when, and whose address is left out where some are
        self.tells: dict[int, tuple[str, float, Address | None]] = {}
        self._times = [0.0]
        self._truths: list[frozenset[Address]] = [frozenset()]

    def changed(self, truth: frozenset[Address]) -> None:
        """Note which addresses there are from now on."""
        if truth != self._truths[-1]:
            self._times.append(self.world.loop.now)
            self._truths.append(truth)

    def _truth_at(self, when: float) -> list[Address]:
        return sorted(self._truths[max(0, bisect_right(self._times, when) - 1)])

    def mislead(self, hosts: "list[Host]", what: str, seconds: float, without: Address | None = None) -> None:
        """Let some machines be told the same kind of thing for a while; where addresses are left out, this one."""
        self.world.turn(f"DNS at {', '.join(name(host.node) for host in hosts)}: {what} for {seconds:.3f} s")
        for host in hosts:
            self.tells[host.index] = what, self.world.loop.now + seconds, without

    def answer(self, host: "Host") -> Answer:
        """Answer a look-up of a machine."""
        what, until, without = self.tells.get(host.index, ("", 0.0, None))
        if self.world.faults.over:
            what = ""
        elif until < self.world.loop.now:
            what, without = self._some_lie(), None
        if what:
            self.world.count[f"DNS: {what}"] += 1
        return self._told(what, without)

    def _some_lie(self) -> str:
        """Draw what is told to who is told nothing else; most often the truth."""
        chance = self.world.random.random
        return next((lie for lie, odds in self.world.profile.dns.items() if chance() < odds), "")

    def _told(self, what: str, without: Address | None) -> Answer:
        now = self.world.loop.now
        truth = self._truth_at(now)
        # Who has no cluster yet waits for that of which it hears first, so it does not hear of another one.
        others = self.service.other_addresses if self.world.checks.cluster else []
        match what:
            case "failure":
                return Answer(frozenset(), complete=False, problems=("no server answers",))
            case "no such name":
                return Answer(frozenset(), complete=False, problems=("no such name",))
            case "truncated":
                missing = without or self.world.random.choice([*truth, None])
                return Answer(frozenset(truth) - {missing}, complete=False, problems=("truncated",))
            case "stale":
                return Answer(
                    frozenset(self._truth_at(now - _STALE_MAX * self.world.profile.dead_after)), complete=True
                )
            case "foreign":
                return Answer(frozenset(others), complete=True)
            case "mixed":
                return Answer(frozenset([*truth, *others]), complete=True)
        return Answer(frozenset(truth), complete=True)

    def draw(self) -> str:
        """Draw what somebody is told."""
        return self.world.random.choice(LIES)
