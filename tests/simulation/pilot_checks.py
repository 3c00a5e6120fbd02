"""What must hold of the changes of an autopilot: who is removed, who votes, and who the members are in the end."""

from typing import TYPE_CHECKING, Final

from tests.simulation.trace import name
from trioraft.consensus.configuration import Configuration
from trioraft.members.autopilot import INTRODUCED_MAX

if TYPE_CHECKING:
    from tests.simulation.host import Process
    from tests.simulation.service import Service

# What the rates of clocks, and how often it is looked, may do to a duration.
_TOLERANCE: Final = 0.02


class PilotChecks:
    """Judges what leaders append, by what is true."""

    def __init__(self, service: "Service") -> None:
        self.service = service
        self.world = service.world

    # --- each change ----------------------------------------------------------------------------------------

    def changed(self, process: "Process", was: Configuration, now: Configuration) -> None:
        """Check the first entry of a change."""
        wanted = {*now.voters, *now.learners}
        if was.old_voters or ((was.voters, was.learners) == (now.voters, now.learners)):
            return  # a later entry of a change, or one of the version
        pilot = process.pilot
        assert pilot is not None
        self._count(was, now)
        for node in wanted - {*was.members}:
            if self.service.is_ghost(node):
                self.world.count["ghosts that joined"] += 1
            elif self.world.host_of(node) is None and node not in self.world.checks.lost:
                self._fail(process, f"lets {name(node)} join, which is no replica of the service")
        for node in {*was.members} - wanted:
            if node != pilot.leaving:
                self._check_gone(process, node)
        ghosts = sum(self.service.is_ghost(node) for node in now.learners)
        if ghosts > INTRODUCED_MAX:
            self._fail(process, f"has {ghosts} learners that somebody made up")
        if any(map(self.service.is_ghost, now.voters)):
            self._fail(process, f"lets nodes vote that somebody made up: {now.voters}")
        if now.voters != was.voters:
            self._check_voters(process, was, now)

    def _fail(self, process: "Process", what: str) -> None:
        self.world.checks.fail(f"the autopilot of {name(process.host.node)} {what}")

    def _count(self, was: Configuration, now: Configuration) -> None:
        count, members = self.world.count, {*now.voters, *now.learners}
        count["autopilot: members added"] += len(members - {*was.members})
        count["autopilot: members removed"] += len({*was.members} - members)
        count["autopilot: voters added"] += len({*now.voters} - {*was.voters})
        count["autopilot: voters that learn on"] += len({*was.voters} & {*now.learners})

    def _check_gone(self, process: "Process", node: int) -> None:
        """Check that nobody is removed who is there: has spoken to the leader lately, or was in DNS all the time."""
        world, pilot, dead_after = self.world, process.pilot, self.world.profile.dead_after
        assert pilot is not None
        if pilot.said.get(node, 0.0) > world.loop.now - 0.5 * dead_after:
            self._fail(process, f"removes {name(node)}, which has spoken to it lately")
        if node not in self.service.listing:
            return
        address, since = self.service.listing[node]
        if pilot.knows_otherwise(node, address):
            world.count["autopilot: removed after a move that the leader missed"] += 1
        elif since < world.loop.now - dead_after * (1 + _TOLERANCE):
            self._fail(process, f"removes {name(node)}, which has been in DNS for {world.loop.now - since:.3f} s")

    def _check_voters(self, process: "Process", was: Configuration, now: Configuration) -> None:
        """Check how many voters there are, and that a quorum of them is there."""
        profile, count = self.world.profile, len(now.voters)
        if count < min(profile.min_voters, len(was.voters)):
            self._fail(
                process, f"leaves {count} of {len(was.voters)} voters, and {profile.min_voters} are the fewest"
            )
        if count > max(profile.max_voters, len(was.voters)):
            self._fail(process, f"makes {count} voters of {len(was.voters)}, and {profile.max_voters} are the most")
        pilot = process.pilot
        assert pilot is not None
        lately = self.world.loop.now - process.timing.lower * (1 + _TOLERANCE)
        answered = [node for node in now.voters if pilot.answered.get(node, 0.0) > lately]
        if 2 * len({process.host.node, *answered} & {*now.voters}) <= count and pilot.led_since < lately:
            self._fail(process, f"wants the voters {now.voters}, of which only {answered} have answered it lately")

    # --- the end --------------------------------------------------------------------------------------------

    def trouble(self, configuration: Configuration) -> str:
        """Tell how the members differ from the replicas that there are, or the voters from the rules."""
        profile = self.world.profile
        there = {host.node for host in self.world.hosts if host.is_there}
        voters, members = {*configuration.voters}, {*configuration.members}
        if there - members:
            return f"the replicas {sorted(there - members)} are no members"
        gone = members - there
        if gone <= voters and len(voters) <= profile.min_voters and there <= voters:
            gone -= voters  # nobody can take their place
        if gone:
            return f"the members {sorted(gone)} are gone"
        best = min(len(members), profile.max_voters)
        best -= 1 - best % 2
        most = max(profile.max_voters, profile.min_voters)
        helps = len(voters) % 2 or len(voters) <= max(2, profile.min_voters)
        if len(voters) < best or (len(voters) > best and (len(voters) > most or not helps)):
            return f"{len(voters)} of {len(members)} members vote"
        return ""
