"""Questions to DNS servers: one name, any record types, the search list, and what failures mean.

dnspython implements the protocol. A question is asked with EDNS first, because 40 replicas do not fit into a plain
UDP answer; a truncated answer is asked for again over TCP; a server that does not know EDNS is asked without it.
Nothing is cached, because Docker gives its records a time to live of 600 s although they change at once.
"""

from collections.abc import Iterable
from typing import Any, Final

import dns.asyncbackend
import dns.asyncresolver
import dns.exception
import dns.message
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver
import dns.reversename
import trio

from trioraft.address import Address
from trioraft.dns.answers import Found, Service, UnresolvedError
from trioraft.messages import Seconds

_EDNS_PAYLOAD: Final = 1232  # bytes; fits any path unfragmented (dnsflagday.net/2020)
_SHORTEST_ATTEMPT: Final = 0.1  # seconds
_DNSPYTHON_LIFETIME: Final = 60.0  # seconds; never reached
_RDataType = dns.rdatatype.RdataType


class Resolver:
    """Asks the DNS servers of the system, or given ones. It is made for one look-up, inside a trio run.

    Parameters
    ----------
    servers : iterable of Address
        The servers; where there are none, those of `resolv_conf` are asked, with its search list.
    resolv_conf : str
        A file in the format of resolv.conf(5).
    limit : float
        How long all questions may take from now on.

    Raises
    ------
    UnresolvedError
        If there are no servers to ask.
    """

    def __init__(self, servers: Iterable[Address], resolv_conf: str, limit: Seconds) -> None:
        servers = tuple(servers)
        self._limit = limit
        self._deadline = trio.current_time() + limit
        self._backend = dns.asyncbackend.get_backend("trio")
        self._plain = self._open(servers, resolv_conf)
        self._edns = self._open(servers, resolv_conf)
        self._edns.use_edns(0, 0, _EDNS_PAYLOAD)
        self._servers = ", ".join(map(str, servers or self._plain.nameservers))

    def _open(self, servers: tuple[Address, ...], resolv_conf: str) -> dns.asyncresolver.Resolver:
        try:
            resolver = dns.asyncresolver.Resolver(configure=False)
            if servers:
                resolver.nameservers = [dns.nameserver.Do53Nameserver(host, port) for host, port in servers]
                resolver.domain = dns.name.root
            else:
                resolver.read_resolv_conf(resolv_conf)
        except (dns.exception.DNSException, OSError, ValueError) as error:
            reason = f"no DNS server is known: {resolv_conf}: {error}; set DNS_SERVERS or PEERS"
            raise UnresolvedError(reason) from error
        # There is time for four rounds, so that a lost datagram, a dead first server and a server without EDNS all
        # leave time for an answer.
        resolver.timeout = max(_SHORTEST_ATTEMPT, self._limit / 4 / len(resolver.nameservers))
        return resolver

    def candidates(self, name: str) -> list[dns.name.Name]:
        """List the absolute names that a name may stand for, in the order of resolv.conf(5).

        Parameters
        ----------
        name : str
            A name; one with a dot at its end stands only for itself.

        Returns
        -------
        list of dns.name.Name
            A name with at least ``ndots`` dots comes first as it is, then with the search list; any other name the
            other way round.
        """
        absolute = dns.name.from_text(name)
        if name.endswith("."):
            return [absolute]
        suffixes = self._plain.search
        if not suffixes and self._plain.domain != dns.name.root:
            suffixes = [self._plain.domain]
        relative = dns.name.from_text(name, None)
        searched = []
        for suffix in suffixes:
            try:
                searched.append(relative.concatenate(suffix))
            except dns.name.NameTooLong:
                continue
        ndots = 1 if self._plain.ndots is None else self._plain.ndots
        return [absolute, *searched] if name.count(".") >= ndots else [*searched, absolute]

    async def addresses(self, name: str) -> Found:
        """Ask for the A and AAAA records of a name.

        Parameters
        ----------
        name : str
            The name; the search list is tried for a relative one.

        Returns
        -------
        Found
            Numeric addresses.
        """
        found = await self._search(name, (_RDataType.A, _RDataType.AAAA))
        return Found(tuple(record.address for record in found.records), found.problems, found.absent)

    async def services(self, name: str) -> Found:
        """Ask for the SRV records of a name.

        Parameters
        ----------
        name : str
            The name; the search list is tried for a relative one.

        Returns
        -------
        Found
            :class:`Service` tuples, the preferred ones first.
        """
        found = await self._search(name, (_RDataType.SRV,))
        preferred = sorted(
            found.records, key=lambda record: (record.priority, -record.weight, record.target, record.port)
        )
        services = tuple(Service(record.target.to_text(), record.port) for record in preferred)
        return Found(services, found.problems, found.absent)

    async def reverse_name(self, host: str) -> str | None:
        """Ask for the name of an address (PTR).

        Parameters
        ----------
        host : str
            A numeric address.

        Returns
        -------
        str or None
            The alphabetically first name, without the dot at its end; None when there is none.
        """
        name = dns.reversename.from_address(host.partition("%")[0])
        try:
            records = await self._ask(name, _RDataType.PTR)
        except UnresolvedError:
            return None
        return min((record.target.to_text(omit_final_dot=True) for record in records), default=None)

    async def _search(self, name: str, types: tuple[_RDataType, ...]) -> Found:
        """Ask for one candidate after the other until one has records, as the C library does."""
        problems: list[str] = []
        exists = False
        for candidate in self.candidates(name):
            records: list[Any] = []
            errors: list[UnresolvedError] = []
            async with trio.open_nursery() as nursery:
                for rdtype in types:
                    nursery.start_soon(self._gather, candidate, rdtype, records, errors)
            problems += sorted(str(error) for error in errors if not error.absent)
            if records:
                return Found(tuple(records), tuple(str(error) for error in errors if not error.absent))
            exists |= len(errors) < len(types)
            if any(error.silent for error in errors):
                break
        if problems:
            return Found((), tuple(dict.fromkeys(problems)))
        wanted = " or ".join(_RDataType.to_text(rdtype) for rdtype in types)
        return Found((), (f"has no {wanted} record" if exists else "does not exist",), absent=True)

    async def _gather(
        self,
        name: dns.name.Name,
        rdtype: _RDataType,
        records: list[Any],
        errors: list[UnresolvedError],
    ) -> None:
        try:
            records += await self._ask(name, rdtype)
        except UnresolvedError as error:
            errors.append(error)

    async def _ask(self, name: dns.name.Name, rdtype: _RDataType) -> list[Any]:
        """Ask one question, with EDNS and if necessary without it."""
        try:
            return await self._ask_once(self._edns, name, rdtype, 0.6 * self._time_left())
        except UnresolvedError as error:
            if error.absent:
                raise
        return await self._ask_once(self._plain, name, rdtype, self._time_left())

    def _time_left(self) -> Seconds:
        return max(self._deadline - trio.current_time(), _SHORTEST_ATTEMPT)

    async def _ask_once(
        self, resolver: dns.asyncresolver.Resolver, name: dns.name.Name, rdtype: _RDataType, lifetime: Seconds
    ) -> list[Any]:
        try:
            # The limit of dnspython reads the wall clock, and its pauses between attempts exceed that limit.
            with trio.fail_after(lifetime):
                answer = await resolver.resolve(
                    name,
                    rdtype,
                    raise_on_no_answer=False,
                    lifetime=_DNSPYTHON_LIFETIME,
                    search=False,
                    backend=self._backend,
                )
        except dns.resolver.NXDOMAIN as error:
            raise UnresolvedError("does not exist", absent=True) from error
        except dns.resolver.NoNameservers as error:
            raise UnresolvedError(f"{self._servers}: {_reason(error)}") from error
        except (trio.TooSlowError, dns.exception.Timeout) as error:
            raise UnresolvedError(f"no answer from {self._servers}", silent=True) from error
        return list(answer.rrset or ())


def _reason(error: dns.resolver.NoNameservers) -> str:
    """Word why all servers were given up."""
    reasons = set()
    for _, _, _, cause, _ in error.kwargs["errors"]:
        if isinstance(cause, str):
            reasons.add(cause)  # a response code, such as SERVFAIL
        elif isinstance(cause, OSError):
            reasons.add(cause.strerror or type(cause).__name__)
        elif not isinstance(cause, (dns.exception.Timeout, dns.message.Truncated)):
            reasons.add("malformed answer")
    return ", ".join(sorted(reasons)) or "truncated answer"
