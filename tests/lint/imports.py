"""The imports between packages, which must keep the contracts of import-linter in `pyproject.toml`."""

import subprocess
import sys
from pathlib import Path


def problems(root: Path) -> list[str]:
    """Report the imports that break a contract.

    Parameters
    ----------
    root : pathlib.Path
        The project, with the contracts in its `pyproject.toml`.

    Returns
    -------
    list of str
        The report of import-linter as one text; empty where all contracts are kept.
    """
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--no-logo"]
    done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return [done.stdout.strip()] if done.returncode else []
