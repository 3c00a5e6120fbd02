"""What a forked copy of this process must not keep: a port, a lock and a line to a supervisor have one owner.

Before Python 3.14 :mod:`multiprocessing` forks on Linux. Its child would hold the node's port and the lock of its
directory for as long as it lives; after a crash of the node nobody could start it again, and a supervisor would not
see that the node is gone.
"""

import os
from typing import Protocol
from weakref import WeakSet


class Descriptor(Protocol):
    """An open file or socket."""

    def fileno(self) -> int:
        """Return its number; negative, or a ValueError, when it is closed."""


_OWN: WeakSet[Descriptor] = WeakSet()


def keep_from_forks(descriptor: Descriptor) -> None:
    """Keep a file or socket from the copies of this process that are forked later.

    Parameters
    ----------
    descriptor : Descriptor
        The open file or socket. In a copy its number stands for ``/dev/null``, so that code there which still closes
        it harms nobody.
    """
    _OWN.add(descriptor)


def _let_go() -> None:
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for descriptor in list(_OWN):
        try:
            number = descriptor.fileno()
        except ValueError:  # a closed file
            continue
        if number >= 0:
            os.dup2(null, number, inheritable=False)
    os.close(null)
    _OWN.clear()


os.register_at_fork(after_in_child=_let_go)
