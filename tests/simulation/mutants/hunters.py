"""Who looks for seeded bugs: the simulator with one of its profiles, or who runs the code that it does not run."""

from typing import Final

from tests.simulation.mutants.datagram_hunts import replays, strangers
from tests.simulation.mutants.disk_hunts import damage, power_cut
from tests.simulation.mutants.found import Found, Hunter
from tests.simulation.mutants.story_hunts import endings, impostor, older_and_removed, one_liar, standing_leader
from tests.simulation.profile import THEMES
from tests.simulation.simulation import Simulation

OTHERS: Final[dict[str, Hunter]] = {
    "damaged disk": damage,
    "endings": endings,
    "power cut": power_cut,
    "replays": replays,
    "strangers": strangers,
    "standing leader": standing_leader,
    "impostor": impostor,
    "one liar": one_liar,
    "older and removed": older_and_removed,
}


def hunter(name: str, *, rogue: bool = False) -> Hunter:
    """Find who looks, by name; in the simulator perhaps together with a member that has gone wrong."""
    return _simulator(name, rogue) if name in THEMES else OTHERS[name]


def _simulator(profile: str, rogue: bool) -> Hunter:
    def look(seed: int, _mutant: str) -> Found | None:
        result = Simulation(seed, profile, rogue=rogue).run()
        return Found(seed, result.violation, result.trace) if result.violation else None

    return look
