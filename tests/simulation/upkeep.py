"""Who looks after the cluster: changes its members, replaces lost ones, and brings removed ones back as others."""

from typing import TYPE_CHECKING

from tests.simulation.trace import name
from trioraft.consensus import HardState
from trioraft.consensus.hard import FormationState

if TYPE_CHECKING:
    from tests.simulation.faults import Faults
    from tests.simulation.host import Host, Process


class Operator:
    """Changes members, by chance or because one is lost."""

    def __init__(self, faults: "Faults") -> None:
        self.faults = faults
        self.world = faults.world
        self.unit = faults.unit

    def change(self, _: "Host") -> bool:
        """Have a leader change the members to others, drawn by chance."""
        leader = self.faults.leader()
        if leader is None or any(self.world.is_lost(node) for node in leader.core.configuration.members):
            return False  # it must not happen that those who are lost become too many
        return self._change_to(leader, *self._other_members(leader))

    def _change_to(self, leader: "Process", voters: list[int], learners: list[int]) -> bool:
        refusal = leader.core.change_members(voters, learners, leader.clock())
        self.world.turn(f"{name(leader.host.node)} shall have {voters} and learners {learners}: {refusal or 'yes'}")
        leader.settle()
        if refusal is None:
            self.faults.tempt(leader.host)
        return refusal is None

    def _other_members(self, leader: "Process") -> tuple[list[int], list[int]]:
        """Draw new members: somebody comes, or is promoted, or goes, or anything at once."""
        random = self.world.random
        configuration = leader.core.configuration
        voters, learners = list(configuration.voters), list(configuration.learners)
        newcomers = self._newcomers(leader)
        dice = random.random()
        if newcomers and dice < 0.3:
            learners += random.sample(newcomers, random.randint(1, len(newcomers)))
        elif learners and dice < 0.6:
            voters += random.sample(learners, random.randint(1, len(learners)))
        elif dice < 0.8 and len(voters) > 1:
            voters.remove(random.choice(voters))
        else:
            everybody = voters + learners
            voters = random.sample(everybody, random.randint(1, len(everybody)))
            learners = [node for node in everybody + newcomers if random.random() < 0.5]
        return voters, [node for node in learners if node not in voters]

    def _newcomers(self, leader: "Process") -> list[int]:
        known = {*leader.core.configuration.members, *self.world.checks.changes.ever}
        speaks = leader.core.version
        return [h.node for h in self.world.hosts if h.node not in known and h.versions.highest >= speaks]

    # --- removed nodes --------------------------------------------------------------------------------------

    def removed(self, process: "Process") -> None:
        """Let a node that was removed move its data aside some time, and come back as another."""
        if not self.faults.over:
            self.faults.after(self.faults.a_while(), self._renew, process.host, process.host.node)

    def _renew(self, host: "Host", node: int) -> None:
        if not self.faults.over and host.node == node and host.disk.hard.removed and not host.supervisor.token:
            host.wipe()
            host.disk.hard = HardState(formation=FormationState(heard=self.world.checks.cluster))
            self.faults.after(self.faults.a_while(), host.start)

    # --- lost nodes -----------------------------------------------------------------------------------------

    def may_lose(self, host: "Host") -> bool:
        """Tell whether a node may be lost for ever: all promises are about the loss of a minority.

        Before there is a cluster those that are expected must remain most of all there ever were; afterwards those
        that have no cluster must never be enough to form one.
        """
        world = self.world
        if not world.checks.cluster:
            return self.faults.wipes_left > 0 and not host.disk.hard.formation.cluster
        damaged = [h for h in world.hosts if h.disk.is_damaged or h is host]
        formations = [(h, h.disk.hard.formation) for h in world.hosts if h not in damaged]
        without = [h for h, formation in formations if not formation.cluster and not formation.heard]
        left = [h.node for h in world.hosts if h not in damaged]
        changes = world.checks.changes
        return len(damaged) + len(without) < world.profile.expect and all(
            changes.is_quorum(configuration, left) for configuration in changes.perhaps_in_force()
        )

    def replace_lost(self) -> None:
        """Put a new node into the place of one that is lost, as far as it goes now; and look again later."""
        world = self.world
        if self.faults.over:
            return
        self.faults.after(self.faults.a_while(), self.replace_lost)
        leader = self.faults.leader()
        if leader is not None and not leader.core.configuration.is_joint:
            configuration = leader.core.configuration
            lost = [node for node in configuration.members if self.world.is_lost(node)]
            newcomers = self._newcomers(leader)
            voters = [node for node in configuration.voters if node not in lost]
            learners = [node for node in configuration.learners if node not in lost]
            if lost and newcomers and voters:
                if self._change_to(leader, voters, [*learners, world.random.choice(newcomers)]):
                    world.count["lost members replaced"] += 1
            elif learners and len(voters) < len(world.checks.members):
                promoted = world.random.choice(learners)
                self._change_to(leader, [*voters, promoted], [node for node in learners if node != promoted])
