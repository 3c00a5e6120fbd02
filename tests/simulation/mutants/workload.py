"""The workload of a power cut by a process that has a seeded bug: ``… NAME DIRECTORY SEED COUNT DURABILITY``."""

import sys

from tests.power_cut.workload import main
from tests.simulation.mutants.outside import OUTSIDE

if __name__ == "__main__":
    (mutant,) = [mutant for mutant in OUTSIDE if mutant.name == sys.argv[1]]
    with mutant.applied():
        main(sys.argv[2:])
