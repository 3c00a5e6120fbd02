"""Evidence that no process has a node's port any more: which errors of the network are believed.

The kernel of a host answers a datagram to a port that no process has with an ICMP error, and that error quotes the
datagram. Anybody can send such errors, under any address. So an error is believed only where

* it says that the *port* is unreachable. That a host or a network cannot be reached says nothing about the process;
* it comes from the address that the datagram was sent to. A router or a firewall on the way knows nothing of it;
* it quotes, whole and byte for byte, a datagram that this process has sent to that address since it last heard from
  the node. What the node says after that cancels the evidence.

A forger has to know such a datagram. A sealed one has a tag of 16 bytes that depends on a key, and nobody can guess
it. An unsealed one has a token of 8 random bytes, which the node and this process alone know. Somebody who reads what
passes between the two can quote either; but that one can keep the two from hearing each other as well, and in a
cluster without keys can speak for the leader. Even then an election takes such errors at a quorum of the voters
(:mod:`trioraft.consensus.hints`).

No two sealed datagrams are the same, because each has a counter. Of unsealed ones only probes count, which have a
random number. So a late error about an earlier datagram is not taken for one about the same bytes sent again.

An error may quote less than the whole: Linux quotes 576 bytes of IPv4 with all headers, which leaves 520 of the
datagram, and other systems 8 bytes behind the header of IP. A part is not believed, even where it is long: whoever
needs evidence sends a probe, which is smaller than that.
"""

from collections import deque
from typing import Final, NamedTuple

from trioraft.address import Address
from trioraft.datagrams.headers import Datagram
from trioraft.messages import OptionalNodeId

# The most datagrams that are remembered; a node that answers nothing is sent few.
_REMEMBERED: Final = 16
_NOBODY: Final = -1


class PortError(NamedTuple):
    """An error that says that a port is unreachable, from anybody.

    Attributes
    ----------
    address : Address
        Where the datagram was sent that the error quotes, as it says.
    offender : str
        The numeric address of the host that the error seems to come from.
    quote : bytes
        As much of the datagram as it quotes.
    """

    address: Address
    offender: str
    quote: bytes


class Evidence:
    """Remembers what was sent to one node since it was last heard.

    Attributes
    ----------
    node : int
        The node; -1 for none.
    unheard : deque of (bytes, Address)
        The datagrams that were sent to it, and where to: the datagrams themselves, so that this costs no copy.
    """

    def __init__(self) -> None:
        self.node = _NOBODY
        self.unheard: deque[Datagram] = deque(maxlen=_REMEMBERED)

    def watch(self, node: OptionalNodeId) -> None:
        """Remember what is sent to another node from now on; 0 for none."""
        self.node = node or _NOBODY
        self.unheard.clear()

    def proves_gone(self, error: PortError) -> bool:
        """Check whether an error is evidence that the node's port is gone.

        Parameters
        ----------
        error : PortError
            The error.

        Returns
        -------
        bool
            Whether it may be believed.
        """
        return error.offender == error.address.host and (error.quote, error.address) in self.unheard
