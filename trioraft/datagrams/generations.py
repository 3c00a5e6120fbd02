"""Which generation of keys a client greets a node with, for as long as there are nodes that know only the first."""

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
    """Greets with a key of the first generation where there is one, until the node says that it knows the second.

    The other way round each greeting would be an alert of a node of the release before, about an unknown key.

    Parameters
    ----------
    keys : KeyRing or None
        The keys; without any, domains are those of the first generation.
    """

    def __init__(self, keys: KeyRing | None) -> None:
        self._keys = keys
        # what was asked for in a domain of the first generation
        self._wanted: dict[Domain, Domain] = {}
        # who knows the second one, and how many greetings were not answered since
        self._newer: OrderedDict[Address, int] = OrderedDict()

    def domain_to_greet(self, address: Address, wanted: Domain) -> Domain:
        """Choose the domain of a greeting.

        Parameters
        ----------
        address : Address
            Whom it goes to.
        wanted : Domain
            What the session shall be good for.

        Returns
        -------
        Domain
            That domain, or the one that stands for it.
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
        """Tell in which domain a node is to be greeted that has answered in one of the first generation.

        Parameters
        ----------
        origin : Origin
            Where its answer came from.
        hello : Hello
            The answer.

        Returns
        -------
        Domain or None
            The domain; None where the present one has to do.
        """
        wanted = self._wanted.get(origin.domain)
        if self._keys is None or wanted is None or hello.highest < SIGNS_FROM or not self._keys.has(wanted):
            return None
        self.confirm(origin)
        return wanted

    def confirm(self, origin: Origin) -> None:
        """Note that somebody knows the second generation.

        Parameters
        ----------
        origin : Origin
            Where its answer came from.
        """
        self._newer[origin.address] = 0
        self._newer.move_to_end(origin.address)
        if len(self._newer) > _ADDRESSES_MAX:
            self._newer.popitem(last=False)
