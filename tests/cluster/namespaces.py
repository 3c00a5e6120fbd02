"""Nodes in network namespaces of their own, on links that can go down, with addresses that can change.

Each node's link is a TUN device: a packet that the node sends is read here, and written to the device of the node
that it is for, as well or badly as :class:`~tests.cluster.relay.BadNetwork` has it. One more device is this machine's
own, by which clients in this process and nodes reach each other; their packets are left alone. All see each other at
their own addresses, so who moves is seen somewhere else.

Devices are gone when this process is, however it ends; namespaces are deleted when the block is left.
"""

import errno
import fcntl
import os
import random
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import IPv4Address, IPv4Network
from itertools import islice
from pathlib import Path
from typing import Final

import trio

from tests.cluster.harness import Place
from tests.cluster.relay import BadNetwork

PORT: Final = 7300  # everybody has an address of their own, so all can have the same port
# For measurements only, never routed (RFC 2544); each run takes one of these.
_NETWORKS: Final = tuple(IPv4Network("198.18.0.0/15").subnets(new_prefix=24))
_TUN_FILE: Final = "/dev/net/tun"
# Linux's numbers, for which Python has no names: make a device of IP packets, without anything before them.
_TUNSETIFF: Final = 0x400454CA
_IFF_TUN_NO_PI: Final = 0x1001


class NamespaceError(Exception):
    """A namespace cannot be made here, or a link in one not be changed."""


def why_not() -> str:
    """Say why there can be no namespaces here, whatever is installed; empty where there can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "not root on Linux"
    return "" if Path(_TUN_FILE).exists() else f"there is no {_TUN_FILE}"


async def _ip(*arguments: str) -> None:
    """Run ``ip``, out of reach of a Ctrl-C that is meant for this process."""
    try:
        done = await trio.run_process(
            ["ip", *arguments], capture_stdout=True, capture_stderr=True, check=False, start_new_session=True
        )
    except FileNotFoundError as error:
        raise NamespaceError("there is no ip; install iproute2") from error
    if done.returncode != 0:
        reason = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise NamespaceError(f"ip {' '.join(arguments)}: {reason}")


def _open_device(name: str) -> int:
    """Make a TUN device; OSError with EBUSY where there is one of that name."""
    device = os.open(_TUN_FILE, os.O_RDWR | os.O_NONBLOCK)
    try:
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH", name.encode(), _IFF_TUN_NO_PI))
    except BaseException:
        os.close(device)
        raise
    return device


def _take_network() -> tuple[int, int]:
    """Find a network that no other run uses, and make this machine's device in it, whose name keeps others off."""
    for number in random.sample(range(len(_NETWORKS)), len(_NETWORKS)):
        try:
            return number, _open_device(f"trioraft{number}")
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise NamespaceError(f"cannot make a device with {_TUN_FILE}: {error.strerror}") from error
    raise NamespaceError("all networks in 198.18.0.0/15 are taken")


def _read(device: int) -> bytes | None:
    try:
        return os.read(device, 65536)
    except BlockingIOError:
        return None


class Links(BadNetwork):
    """The links of some nodes; made by :func:`open_links`.

    Attributes
    ----------
    size : int
        How many nodes.
    hosts : list of str
        Where each node is now.
    """

    def __init__(self, size: int, seed: int) -> None:
        super().__init__(seed)
        self.size = size
        self.hosts: list[str] = []
        self._spare: list[str] = []  # addresses that nobody has now
        self._owners: dict[bytes, int] = {}  # by address; this machine comes after the nodes
        self._namespaces: list[str] = []
        self._devices: list[int] = []  # in the same order
        self._moving = trio.Lock()
        self._stack = AsyncExitStack()

    async def open(self) -> None:
        number, here = _take_network()
        self._stack.callback(os.close, here)
        first, *hosts = map(str, islice(_NETWORKS[number].hosts(), 2 * self.size + 1))
        name = f"trioraft{number}"
        await _ip("addr", "add", f"{first}/24", "dev", name)
        await _ip("link", "set", name, "up")
        self.hosts, self._spare = hosts[: self.size], hosts[self.size :]
        for i in range(self.size):
            await self._open_link(i, f"{name}-{os.getpid()}-{i + 1}", f"{name}.{i + 1}")
        self._devices.append(here)
        self._owners = {IPv4Address(host).packed: i for i, host in enumerate([*self.hosts, first])}

    async def _open_link(self, i: int, namespace: str, name: str) -> None:
        await _ip("netns", "add", namespace)
        self._stack.push_async_callback(_ip, "netns", "delete", namespace)
        self._namespaces.append(namespace)
        device = _open_device(name)
        self._stack.callback(os.close, device)
        self._devices.append(device)
        await _ip("link", "set", name, "netns", namespace, "name", "eth0")
        await self._ip_of(i, "link", "set", "lo", "up")
        await self._ip_of(i, "addr", "add", f"{self.hosts[i]}/24", "dev", "eth0")
        await self._ip_of(i, "link", "set", "eth0", "up")

    async def _ip_of(self, i: int, *arguments: str) -> None:
        await _ip("-n", self._namespaces[i], *arguments)

    def place(self, i: int) -> Place:
        """Tell where a node is to be started: as in a container, it listens at whatever address it has."""
        return Place(self.hosts[i], "::", ("ip", "netns", "exec", self._namespaces[i]))

    @asynccontextmanager
    async def down(self, i: int) -> AsyncIterator[None]:
        """Have a node without a link for as long as the block lasts: what it sends fails, and nothing arrives."""
        await self._ip_of(i, "link", "set", "eth0", "down")
        try:
            yield
        finally:
            with trio.CancelScope(shield=True):
                await self._ip_of(i, "link", "set", "eth0", "up")

    async def move(self, i: int, source: random.Random) -> None:
        """Move a node, which may be running, to another address, which may be one that another node had before."""
        async with self._moving:
            old, new = self.hosts[i], self._spare.pop(source.randrange(len(self._spare)))
            await self._ip_of(i, "-4", "addr", "flush", "dev", "eth0")
            del self._owners[IPv4Address(old).packed]
            self.hosts[i], self._owners[IPv4Address(new).packed] = new, i
            await self._ip_of(i, "addr", "add", f"{new}/24", "dev", "eth0")
            self._spare.append(old)

    # --- packets --------------------------------------------------------------------------------------------

    def run(self, nursery: trio.Nursery) -> None:
        for i in range(len(self._devices)):
            nursery.start_soon(self._relay, i, nursery)

    async def _relay(self, i: int, nursery: trio.Nursery) -> None:
        device, here = self._devices[i], self.size
        while True:
            await trio.lowlevel.wait_readable(device)
            while (packet := _read(device)) is not None:
                if packet[0] >> 4 != 4:
                    continue  # each system looks for routers of IPv6 by itself
                j = self._owners.get(packet[16:20])  # the destination, in a header of IPv4
                if j is None:
                    self.lost += 1
                elif here in {i, j}:
                    self.inject(i, j, packet)
                else:
                    self.carry(i, j, packet, nursery)

    def inject(self, i: int, j: int, data: bytes) -> bool:
        """Let a packet from node i arrive at node j; false when its link is down."""
        try:
            os.write(self._devices[j], data)
        except OSError:
            return False
        return True

    async def close(self) -> None:
        await self._stack.aclose()


@asynccontextmanager
async def open_links(size: int, seed: int) -> AsyncIterator[Links]:
    """Have namespaces and links for so many nodes for as long as the block lasts.

    Raises
    ------
    NamespaceError
        That cannot be done here.
    """
    if reason := why_not():
        raise NamespaceError(reason)
    links = Links(size, seed)
    try:
        with trio.CancelScope(shield=True):
            await links.open()
        async with trio.open_nursery() as nursery:
            links.run(nursery)
            yield links
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            await links.close()
