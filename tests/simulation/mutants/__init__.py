"""Seeded bugs, each put into the real code for a while: the simulator must find every one of them.

``python -m tests.simulation.mutants`` hunts all of them and prints what found them, and with which seed; with
``--write`` it also writes the table ``tests/simulation/MUTANTS.md``. The simulator does not run the real disk
and real datagrams; tests of those look for the bugs in them (``hunters``).

``mutant``       what a seeded bug is
``elections``, ``work``, ``endings``, ``formations``, ``log``, ``rounds``, ``reads``, ``asking``, ``batches``,
``members``, ``pilots``, ``rolling``, ``rogues``, ``store``, ``outside``   the bugs
``hunters``      who looks for them
``table``        what came of the hunt
"""

from typing import Final

from tests.simulation.mutants.asking import ASKING
from tests.simulation.mutants.batches import BATCHES
from tests.simulation.mutants.elections import ELECTIONS
from tests.simulation.mutants.endings import ENDINGS
from tests.simulation.mutants.formations import FORMATIONS
from tests.simulation.mutants.log import LOG
from tests.simulation.mutants.members import MEMBERS
from tests.simulation.mutants.mutant import Mutant
from tests.simulation.mutants.outside import OUTSIDE
from tests.simulation.mutants.pilots import PILOTS
from tests.simulation.mutants.reads import READS
from tests.simulation.mutants.rogues import ROGUES
from tests.simulation.mutants.rolling import ROLLING
from tests.simulation.mutants.rounds import ROUNDS
from tests.simulation.mutants.store import STORE
from tests.simulation.mutants.work import WORK

MUTANTS: Final[tuple[Mutant, ...]] = (
    *ELECTIONS,
    *WORK,
    *ENDINGS,
    *FORMATIONS,
    *LOG,
    *ROUNDS,
    *READS,
    *MEMBERS,
    *PILOTS,
    *ROLLING,
    *ROGUES,
    *ASKING,
    *BATCHES,
    *STORE,
    *OUTSIDE,
)
