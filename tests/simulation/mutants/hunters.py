"""Who looks for seeded bugs: the simulator with one of its profiles, or who runs the code that it does not run."""

from typing import Final

from tests.simulation.mutants.datagram_hunts import replays, strangers
from tests.simulation.mutants.disk_hunts import damage, power_cut
from tests.simulation.mutants.found import Found, Hunter
from tests.simulation.profile import THEMES
from tests.simulation.simulation import Simulation

OTHERS: Final[dict[str, Hunter]] = {
    "damaged disk": damage,
    "power cut": power_cut,
    "replays": replays,
    "strangers": strangers,
}


def hunter(name: str) -> Hunter:
    """Find who looks, by name."""
    return _simulator(name) if name in THEMES else OTHERS[name]


def _simulator(profile: str) -> Hunter:
    def look(seed: int, _mutant: str) -> Found | None:
        result = Simulation(seed, profile).run()
        return Found(seed, result.violation, result.trace) if result.violation else None

    return look
