"""Which package may import from which: the contracts of import-linter in `pyproject.toml`."""

import subprocess
import sys
from pathlib import Path


def problems(root: Path) -> list[str]:
    """List what import-linter says when a contract of the project is broken.

    Parameters
    ----------
    root : pathlib.Path
        The project, with the contracts in its `pyproject.toml`.

    Returns
    -------
    list of str
        All of its output at once, or nothing.
    """
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--no-logo"]
    done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return [done.stdout.strip()] if done.returncode else []
