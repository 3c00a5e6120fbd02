"""The world around a node: a clock, chance, a socket, a disk, DNS, a process launcher.

Tests replace these parts; everything else in a node is the same in production and under trio's mocked clock.
"""

import os
import random
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, Self

from trioraft.clock import boottime
from trioraft.datagrams.socket import DatagramSocket, open_udp
from trioraft.dns.discovery import Answer, Discovery
from trioraft.hooks.hooks import Launcher, SupervisorLauncher
from trioraft.messages import Instant
from trioraft.settings.settings import NodeSettings
from trioraft.storage.database import Disk, open_disk
from trioraft.versions import SPOKEN, Versions


class Resolver(Protocol):
    """Finds addresses, again and again."""

    async def run(self, report: Callable[[Answer], None]) -> None:
        """Look up for ever, and report each answer."""

    async def reverse_name(self, host: str) -> str | None:
        """Find the name that DNS gives to a numeric address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The parts of a node that tests replace.

    Attributes
    ----------
    clock : callable
        Returns the time in seconds; it never goes back, and goes on while the host is suspended.
    watchdog_clock : callable or None
        The same in any thread; None for no watchdog of leader work.
    random : random.Random
        Draws election timeouts and pauses.
    entropy : callable
        Returns unpredictable bytes.
    host_name : str
        The machine's name.
    open_disk : callable
        Opens the database with the identity, the hard state and the log.
    open_socket : callable
        Opens a datagram socket at a host and port.
    open_discovery : callable
        Makes the resolver that finds the addresses of other nodes.
    launcher : Launcher
        Starts the process that runs scripts.
    versions : Versions
        The versions of the protocol that the node speaks.
    """

    clock: Callable[[], Instant]
    watchdog_clock: Callable[[], Instant] | None
    random: random.Random
    entropy: Callable[[int], bytes]
    host_name: str
    open_disk: Callable[[NodeSettings], Disk]
    open_socket: Callable[[str, int], Awaitable[DatagramSocket]]
    open_discovery: Callable[[NodeSettings], Resolver]
    launcher: Launcher
    versions: Versions = SPOKEN

    @classmethod
    def real(cls) -> Self:
        """Return the real world: that of this machine.

        Returns
        -------
        World
            CLOCK_BOOTTIME, a UDP socket, SQLite, DNS, and processes.
        """
        return cls(
            clock=boottime,
            watchdog_clock=boottime,
            random=random.Random(),  # noqa: S311 - a follower draws for each heartbeat, and no secret depends on it
            entropy=os.urandom,
            host_name=socket.gethostname(),
            open_disk=lambda settings: open_disk(settings.data_dir, settings.durability),
            open_socket=open_udp,
            open_discovery=_discovery_of,
            launcher=SupervisorLauncher(),
        )


def _discovery_of(settings: NodeSettings) -> Discovery:
    return Discovery(
        settings.dns_name,
        settings.peers,
        settings.bind_port,
        settings.dns_servers,
        interval=settings.discovery_interval,
    )
