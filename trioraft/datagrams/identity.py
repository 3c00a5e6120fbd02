"""Who a process is to others, and what all parts of its endpoint have in common."""

from collections import Counter
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from trioraft.datagrams.cookies import Cookies
from trioraft.messages import OptionalNodeId
from trioraft.versions import SPOKEN, Versions

NAME_MAX: Final = 255  # characters, as a Hello allows


class Identity(msgspec.Struct, frozen=True):
    """Who this process is.

    Attributes
    ----------
    node_id : int
        Its node id; 0 for a client or monitor.
    service : str
        The service name that all nodes of one cluster share; not empty.
    name : str
        Its name as people know it; :attr:`Endpoint.name` may change it later.
    versions : Versions
        The versions of the protocol that it speaks; :attr:`Endpoint.versions` may change them later.
    """

    node_id: OptionalNodeId
    service: str
    name: str
    versions: Versions = SPOKEN


class ThisProcess(NamedTuple):
    """The process that an endpoint speaks for, as every part of the endpoint needs it.

    Attributes
    ----------
    identity : Identity
        Who it is.
    id : bytes
        Its process id, 16 random bytes.
    cookies : Cookies
        Makes and checks its challenges and tokens.
    counters : Counter
        Counts datagrams, and why others were dropped.
    entropy : callable
        Returns as many random bytes as it is asked for.
    """

    identity: Identity
    id: bytes
    cookies: Cookies
    counters: Counter[str]
    entropy: Callable[[int], bytes]
