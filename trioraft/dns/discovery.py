"""Where nodes may be: DNS names and static peers, asked for again and again.

Addresses found here are only places to knock at; who is there is learned by a handshake. Each :class:`Answer` has
what *this* look-up found. Whoever receives it keeps the addresses found before for as long as an answer is not
complete, so that a DNS server that fails, lies or disappears takes nothing away from a running cluster.
"""

import ipaddress
import re
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import trio

from trioraft.address import Address, PeerName
from trioraft.dns.resolver import Found, Resolver, Service, UnresolvedError

_LIMIT: Final = 5.0  # seconds that a look-up may take, however long the interval is
_FIRST_PAUSE: Final = 0.25  # seconds; at the start of a cluster records appear one after the other
_SERVICES_MAX: Final = 100
_QUESTIONS_MAX: Final = 20  # asked at the same time
_SYSTEM_LOOKUPS_MAX: Final = 8


@dataclass(frozen=True, slots=True)
class Answer:
    """What one look-up found.

    Attributes
    ----------
    addresses : frozenset of Address
        The addresses, this look-up's only.
    complete : bool
        Whether every question got its answer, so that an address that is missing is gone.
    problems : tuple of str
        One line for each thing that went wrong; the same line as long as the cause is the same.
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
        """Note whether a source has had its say when the time is up."""
        self.pending.add(source)
        try:
            yield
        except UnresolvedError as error:
            self.fail(source, str(error))
        self.pending.discard(source)

    def answer(self) -> Answer:
        return Answer(frozenset(self.addresses), self.complete, tuple(sorted(self.problems)))


class Discovery:
    """Looks for nodes.

    Parameters
    ----------
    name : str
        The service's name in DNS: its A and AAAA records, or its SRV records when it begins with ``_``. Empty
        when DNS is not to be asked.
    peers : iterable of PeerName
        Static peers. Host names among them are looked up as the system does (``/etc/hosts``, then DNS); with
        `dns_servers` those are asked, except for ``localhost``.
    default_port : int
        The UDP port of addresses from A and AAAA records.
    dns_servers : iterable of Address, optional
        Servers to ask instead of the system's; they are asked for names as they are, without a search list.
    interval : float, optional
        Seconds between look-ups. One takes no longer than this, nor than 5 s.
    resolv_conf : str, optional
        Where the system's servers and search list are written; read again for each look-up.
    """

    def __init__(
        self,
        name: str,
        peers: Iterable[PeerName],
        default_port: int,
        dns_servers: Iterable[Address] = (),
        interval: float = 2.0,
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
        self._questions = trio.CapacityLimiter(_QUESTIONS_MAX)
        # The C library's look-up cannot be interrupted: its thread is left behind when time is up. A limit of its
        # own keeps such threads from taking the places of those that write to the disk.
        self._system_lookups = trio.CapacityLimiter(_SYSTEM_LOOKUPS_MAX)

    async def run(self, report: Callable[[Answer], None]) -> None:
        """Look again and again; the first times in quick succession.

        Parameters
        ----------
        report : callable
            Called with each answer.
        """
        pause = min(_FIRST_PAUSE, self._interval)
        while True:
            next_time = trio.current_time() + pause
            report(await self.look_up())
            await trio.sleep_until(next_time)
            pause = min(2 * pause, self._interval)

    async def look_up(self) -> Answer:
        """Look once. Nothing that DNS does makes this raise.

        Returns
        -------
        Answer
            What was found within the time.
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
            The name, such as ``project-node-1.network``; None when there is none. A loopback address has none,
            unless DNS servers were given: the system would only call it ``localhost``.
        """
        if not self._dns_servers and ipaddress.ip_address(host).is_loopback:
            return None
        try:
            with trio.move_on_after(self._limit):
                return await self._resolver().reverse_name(host)
        except UnresolvedError:
            return None
        return None

    def _resolver(self) -> Resolver:
        # It gives up a little before the look-up does, so that what one question got is not lost with another.
        return Resolver(self._dns_servers, self._resolv_conf, 0.9 * self._limit)

    async def _look_up_name(self, look_up: _LookUp) -> None:
        source = f"DNS name {self._name}"
        with look_up.settles(source):
            try:
                resolver = self._resolver()
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

    async def _look_up_services(self, look_up: _LookUp, source: str, resolver: Resolver) -> None:
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

    async def _look_up_service(self, look_up: _LookUp, source: str, resolver: Resolver, service: Service) -> None:
        source = f"{source}: {service.target}"
        with look_up.settles(source):
            async with self._questions:
                found = await resolver.addresses(service.target)
            look_up.fail_if(source, found)
            for host in found.records:
                look_up.add(source, host, service.port)

    def _judge(self, look_up: _LookUp, source: str, found: Found) -> None:
        if found.absent and self._peers:
            look_up.complete = False  # static peers do without DNS: no name in it is no problem
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
                    found = await self._resolver().addresses(peer.host)
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


def _is_numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def display_name(text: str, service: str) -> str:
    """Shorten a name from PTR, or a host name, to what people call the node.

    Parameters
    ----------
    text : str
        The name: ``project-node-1.network`` (Compose), ``stack_node.1.k3j….network`` (Swarm),
        ``trioraft-0.headless.default.svc.cluster.local`` (Kubernetes), or any other.
    service : str
        The service's name in DNS.

    Returns
    -------
    str
        ``node-1``, ``node.1``, ``trioraft-0``; else the first part of the name. An address stays as it is.
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
