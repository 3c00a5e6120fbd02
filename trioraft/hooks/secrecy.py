"""What keeps a key from the scripts and commands that a process with one runs, as the same user.

They are not given it in their environment. They could still read the environment with which that process was
started, and its memory, in ``/proc``, so the process is made *not dumpable*: only root may look at it then. That has
its price: there are no core dumps, ``py-spy`` and debuggers need root, and files in ``/proc/self`` belong to root.

A process that is itself work of a script stays as it is. It has to be found by the marker in its environment, so that
it is ended with the work (:mod:`trioraft.hooks.supervisor`), and what it knows it has from the script.
"""

from collections.abc import Mapping
from typing import Final

# The variables that give away a key, or where it is.
SECRETS: Final = ("CLUSTER_KEY", "CLUSTER_KEY_FILE")

_PR_SET_DUMPABLE: Final = 4


def without_keys(environ: Mapping[str, str]) -> dict[str, str]:
    """Give what a script or command may have of an environment.

    Parameters
    ----------
    environ : mapping
        The environment.

    Returns
    -------
    dict of str to str
        All but the variables with keys.
    """
    return {name: value for name, value in environ.items() if name not in SECRETS}


def hide_keys(environ: Mapping[str, str]) -> None:
    """Keep others of this user from looking into this process, if it has a key and is not the work of a script.

    Parameters
    ----------
    environ : mapping
        The environment that it was started with.
    """
    if not any(environ.get(name) for name in SECRETS):
        return
    import ctypes  # noqa: PLC0415 - it takes time, as what is next does, and most commands have no key

    from trioraft.hooks.supervisor import MARKER  # noqa: PLC0415

    if not environ.get(MARKER):
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
