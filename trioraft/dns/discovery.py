"""Discovery of the addresses where nodes may be, by DNS names and static peers that are looked up again and again.

An address that is found here is only a place to knock at; a handshake shows who is there. Each :class:`Answer`
contains what *one* look-up found. Its receiver keeps the addresses found before for as long as an answer is not
complete, so that a DNS server that fails, lies or disappears takes nothing away from a running cluster.
"""

import ipaddress
import re
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from trioraft.address import Address, PeerName
from trioraft.dns.answers import Found, Service, UnresolvedError
from trioraft.messages import Seconds

if TYPE_CHECKING:
    from trioraft.dns.resolver import Resolver

_LIMIT: Final = 5.0  # the most seconds that a look-up may take, however long the interval is
_FIRST_PAUSE: Final = 0.25  # seconds; records appear one after the other when a cluster starts
_SERVICES_MAX: Final = 100
_QUESTIONS_MAX: Final = 20  # at the same time
_SYSTEM_LOOKUPS_MAX: Final = 8


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of one look-up.

    Attributes
    ----------
    addresses : frozenset of Address
        The addresses that this look-up found.
    complete : bool
        Whether every question was answered, so that an address that is missing is gone.
    problems : tuple of str
        A line for each problem, which stays the same as long as its cause does.
    """

    addresses: frozenset[Address]
    complete: bool
    problems: tuple[str, ...] = ()


@dataclass(slots=True)
class _LookUp:
    """A look-up under way."""

    addresses: set[Address] = field(default_factory=set)
    complete: bool = True
    problems: set[str] = field(default_factory=set)
    pending: set[str] = field(default_factory=set)

    def add(self, source: str, host: str, port: int) -> None:
        ip = ipaddress.ip_address(host)
        if ip.is_unspecified or ip.is_multicast or host == "255.255.255.255":
            self.problems.add(f"{source}: {host} is no host's address; ignored")
        else:
            self.addresses.add(Address.of(host, port))

    def fail(self, source: str, *reasons: str) -> None:
        self.complete = False
        self.problems.update(f"{source}: {reason}" for reason in reasons)

    def fail_if(self, source: str, found: Found) -> None:
        if found.problems:
            self.fail(source, *found.problems)

    @contextmanager
    def settles(self, source: str) -> Iterator[None]:
        """Note a source until it has answered or failed, so that the silent ones are known when the time is up."""
        self.pending.add(source)
        try:
            yield
        except UnresolvedError as error:
            self.fail(source, str(error))
        self.pending.discard(source)

    def answer(self) -> Answer:
        return Answer(frozenset(self.addresses), self.complete, tuple(sorted(self.problems)))


class Discovery:
    """Looks for the nodes of a service.

    Parameters
    ----------
    name : str
        The name of the service in DNS, which stands for its A and AAAA records, or for its SRV records when it begins
        with ``_``. Empty when DNS is not to be asked.
    peers : iterable of PeerName
        Static peers. Host names among them are looked up as the system does it (``/etc/hosts``, then DNS); where
        `dns_servers` are given, these are asked instead, except for ``localhost``.
    default_port : int
        The UDP port of addresses from A and AAAA records.
    dns_servers : iterable of Address, optional
        Servers to ask instead of the system's. They are asked for names as they are, without a search list.
    interval : float, optional
        Seconds between look-ups. A look-up takes no longer than this, and no longer than 5 s.
    resolv_conf : str, optional
        The file with the system's servers and search list, which is read for each look-up.
    """

    def __init__(
        self,
        name: str,
        peers: Iterable[PeerName],
        default_port: int,
        dns_servers: Iterable[Address] = (),
        interval: Seconds = 2.0,
        *,
        resolv_conf: str = "/etc/resolv.conf",
    ) -> None:
        self._name = name
        self._peers = tuple(peers)
        self._default_port = default_port
        self._dns_servers = tuple(dns_servers)
        self._interval = interval
        self._limit = min(interval, _LIMIT)
        self._resolv_conf = resolv_conf
        self._resolver_type: type[Resolver] | None = None
        self._questions = trio.CapacityLimiter(_QUESTIONS_MAX)
        # The look-up of the C library cannot be interrupted, and its thread is left behind when the time is up. A
        # limit of their own keeps such threads from taking the places of those that write to the disk.
        self._system_lookups = trio.CapacityLimiter(_SYSTEM_LOOKUPS_MAX)

    async def run(self, report: Callable[[Answer], None]) -> None:
        """Look again and again, at first in quick succession; only once where nothing has to be looked up.

        Parameters
        ----------
        report : callable
            Called with each answer.
        """
        pause = min(_FIRST_PAUSE, self._interval)
        while True:
            next_time = trio.current_time() + pause
            report(await self.look_up())
            if not self._name and all(_is_numeric(peer.host) for peer in self._peers):
                await trio.sleep_forever()
            await trio.sleep_until(next_time)
            pause = min(2 * pause, self._interval)

    async def look_up(self) -> Answer:
        """Look once. Nothing that DNS does makes this method raise.

        Returns
        -------
        Answer
            What was found in time.
        """
        look_up = _LookUp()
        with trio.move_on_after(self._limit):
            async with trio.open_nursery() as nursery:
                for peer in self._peers:
                    nursery.start_soon(self._look_up_peer, look_up, peer)
                if self._name:
                    nursery.start_soon(self._look_up_name, look_up)
        for source in look_up.pending:
            look_up.fail(source, "no answer in time")
        return look_up.answer()

    async def reverse_name(self, host: str) -> str | None:
        """Ask DNS for the name of an address.

        Parameters
        ----------
        host : str
            A numeric address.

        Returns
        -------
        str or None
            The name, such as ``project-node-1.network``; None when there is none. A loopback address has none unless
            DNS servers were given, since the system would only call it ``localhost``.
        """
        if not self._dns_servers and ipaddress.ip_address(host).is_loopback:
            return None
        try:
            with trio.move_on_after(self._limit):
                resolver = await self._resolver()
                return await resolver.reverse_name(host)
        except UnresolvedError:
            return None
        return None

    async def _resolver(self) -> "Resolver":
        if self._resolver_type is None:
            self._resolver_type = await trio.to_thread.run_sync(_load_resolver)
        # The resolver gives up a little before the look-up does, so that one silent question does not lose what the
        # others found.
        return self._resolver_type(self._dns_servers, self._resolv_conf, 0.9 * self._limit)

    async def _look_up_name(self, look_up: _LookUp) -> None:
        source = f"DNS name {self._name}"
        with look_up.settles(source):
            try:
                resolver = await self._resolver()
            except UnresolvedError as error:
                self._judge(look_up, source, Found((), (str(error),), absent=True))
                return
            if self._name.startswith("_"):
                await self._look_up_services(look_up, source, resolver)
                return
            found = await resolver.addresses(self._name)
            self._judge(look_up, source, found)
            for host in found.records:
                look_up.add(source, host, self._default_port)

    async def _look_up_services(self, look_up: _LookUp, source: str, resolver: "Resolver") -> None:
        found = await resolver.services(self._name)
        self._judge(look_up, source, found)
        services: list[Service] = [service for service in found.records if service.port and service.target != "."]
        if len(services) < len(found.records):
            look_up.problems.add(f"{source}: ignored SRV records without a target or a port")
        if len(services) > _SERVICES_MAX:
            look_up.fail(source, f"more than {_SERVICES_MAX} SRV records; ignored the rest")
        async with trio.open_nursery() as nursery:
            for service in services[:_SERVICES_MAX]:
                nursery.start_soon(self._look_up_service, look_up, source, resolver, service)

    async def _look_up_service(self, look_up: _LookUp, source: str, resolver: "Resolver", service: Service) -> None:
        source = f"{source}: {service.target}"
        with look_up.settles(source):
            async with self._questions:
                found = await resolver.addresses(service.target)
            look_up.fail_if(source, found)
            for host in found.records:
                look_up.add(source, host, service.port)

    def _judge(self, look_up: _LookUp, source: str, found: Found) -> None:
        if found.absent and self._peers:
            look_up.complete = False  # with static peers, a name that DNS does not know is no problem
        else:
            look_up.fail_if(source, found)

    async def _look_up_peer(self, look_up: _LookUp, peer: PeerName) -> None:
        source = f"peer {peer}"
        if _is_numeric(peer.host):
            look_up.add(source, *peer)
            return
        with look_up.settles(source):
            if self._dns_servers and peer.host != "localhost":
                async with self._questions:
                    resolver = await self._resolver()
                    found = await resolver.addresses(peer.host)
                look_up.fail_if(source, found)
                hosts = found.records
            else:
                hosts = await self._ask_system(peer)
            for host in hosts:
                look_up.add(source, host, peer.port)

    async def _ask_system(self, peer: PeerName) -> tuple[str, ...]:
        ask = partial(socket.getaddrinfo, peer.host, peer.port, type=socket.SOCK_DGRAM)
        try:
            infos = await trio.to_thread.run_sync(ask, abandon_on_cancel=True, limiter=self._system_lookups)
        except OSError as error:
            raise UnresolvedError(error.strerror or "cannot be looked up") from error
        except UnicodeError as error:
            raise UnresolvedError("is no host name") from error
        return tuple(str(info[4][0]) for info in infos)


def _load_resolver() -> "type[Resolver]":
    """Load dnspython, which takes 4 MB and a tenth of a second; static addresses need none of it."""
    from trioraft.dns.resolver import Resolver  # noqa: PLC0415

    return Resolver


def _is_numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def display_name(text: str, service: str) -> str:
    """Shorten a host name, or a name from PTR, to what people call the node.

    Parameters
    ----------
    text : str
        The name: ``project-node-1.network`` (Compose), ``stack_node.1.k3j….network`` (Swarm),
        ``trioraft-0.headless.default.svc.cluster.local`` (Kubernetes), or any other name.
    service : str
        The service's name in DNS.

    Returns
    -------
    str
        For these ``node-1``, ``node.1`` and ``trioraft-0``; for any other name its first part. An address stays as it
        is.
    """
    if not text or _is_numeric(text):
        return text
    labels = text.split(".")
    service_label = next((part for part in service.split(".") if part != "tasks" and not part.startswith("_")), "")
    if service_label:
        own = rf"(?:.*[-_])?({re.escape(service_label)}"
        if compose := re.fullmatch(rf"{own}[-_][0-9]+)", labels[0]):
            return compose[1]
        if len(labels) > 2 and labels[1].isdecimal() and (swarm := re.fullmatch(rf"{own})", labels[0])):
            return f"{swarm[1]}.{labels[1]}"
    return labels[0]
