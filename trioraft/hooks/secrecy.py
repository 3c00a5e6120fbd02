"""How a process that has a key hides it from the scripts and commands that it runs as the same user.

Their environment does not have the key. In ``/proc`` they could still read the memory of that process, and the
environment with which it was started, so the process is made *not dumpable*: only root may look at it then. That has
its price: there are no core dumps, ``py-spy`` and debuggers need root, and files in ``/proc/self`` belong to root.

A process that is itself part of a script's work stays dumpable. The supervisor must find it by the marker in its
environment, to end it with the work (:mod:`trioraft.hooks.supervisor`), and the script knows its key anyway.
"""

from collections.abc import Mapping
from typing import Final

# The variables that hold a key, or name its file.
SECRETS: Final = ("CLUSTER_KEY", "CLUSTER_KEY_FILE")

_PR_SET_DUMPABLE: Final = 4


def without_keys(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the part of an environment that a script or command may have.

    Parameters
    ----------
    environ : mapping
        The environment.

    Returns
    -------
    dict of str to str
        All variables but those with keys.
    """
    return {name: value for name, value in environ.items() if name not in SECRETS}


def hide_keys(environ: Mapping[str, str]) -> None:
    """Hide this process from others of the same user, if it has a key and is not part of a script's work.

    Parameters
    ----------
    environ : mapping
        The environment that it was started with.
    """
    if not any(environ.get(name) for name in SECRETS):
        return
    import ctypes  # noqa: PLC0415 - both imports take time, and most commands have no key

    from trioraft.hooks.supervisor import MARKER  # noqa: PLC0415

    if not environ.get(MARKER):
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
