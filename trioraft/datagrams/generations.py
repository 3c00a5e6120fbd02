"""The generation of keys that a client greets a node with, while there are nodes that know only the first."""

from collections import OrderedDict
from typing import Final

from trioraft.address import Address
from trioraft.datagrams.keys import KeyRing
from trioraft.datagrams.sealing import Domain
from trioraft.datagrams.sender import UNANSWERED_GREETINGS_MAX, Origin
from trioraft.messages import Hello
from trioraft.versions import SIGNS_FROM

_ADDRESSES_MAX: Final = 2048


class Generations:
    """Chooses the first generation, where the client has a key of it, until the node says that it knows the second.

    The other way round, each greeting would make a node of the release before raise an alert about an unknown key.

    Parameters
    ----------
    keys : KeyRing or None
        The keys of the client; None where nothing is sealed, which leaves the domains of the first generation.
    """

    def __init__(self, keys: KeyRing | None) -> None:
        self._keys = keys
        # The domain that was asked for, by the one of the first generation that stands for it.
        self._wanted: dict[Domain, Domain] = {}
        # The addresses of nodes that know the second generation, and how many greetings each has left unanswered
        # since.
        self._newer: OrderedDict[Address, int] = OrderedDict()

    def domain_to_greet(self, address: Address, wanted: Domain) -> Domain:
        """Choose the domain of a greeting.

        Parameters
        ----------
        address : Address
            The address that it goes to.
        wanted : Domain
            The domain that the session should have.

        Returns
        -------
        Domain
            That domain, or the one of the first generation that stands for it.
        """
        former = wanted.first_generation
        if self._keys is None:
            return former
        if former is wanted or not self._keys.has(former):
            return wanted
        self._wanted[former] = wanted
        if not self._keys.has(wanted) or address not in self._newer:
            return former
        self._newer[address] += 1
        if self._newer[address] <= UNANSWERED_GREETINGS_MAX:
            return wanted
        del self._newer[address]
        return former

    def newer_domain(self, origin: Origin, hello: Hello) -> Domain | None:
        """Choose the domain in which to greet a node again that has answered in one of the first generation.

        Parameters
        ----------
        origin : Origin
            The datagram that its answer came in.
        hello : Hello
            The answer.

        Returns
        -------
        Domain or None
            The domain; None where the present one stays.
        """
        wanted = self._wanted.get(origin.domain)
        if self._keys is None or wanted is None or hello.highest < SIGNS_FROM or not self._keys.has(wanted):
            return None
        self.confirm(origin)
        return wanted

    def confirm(self, origin: Origin) -> None:
        """Note that a node knows the second generation.

        Parameters
        ----------
        origin : Origin
            The datagram that its answer came in.
        """
        self._newer[origin.address] = 0
        self._newer.move_to_end(origin.address)
        if len(self._newer) > _ADDRESSES_MAX:
            self._newer.popitem(last=False)
