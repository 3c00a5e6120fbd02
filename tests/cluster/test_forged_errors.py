"""Errors of the network that are forged, at a cluster under full load: they depose nobody.

The forger sees all packets, can send from any address, and does what the real one could not: it quotes datagrams that
a node has sent to its leader. All that it gets wrong is the time, the sender, or what the error is.
"""

import os
import random
import struct
from collections import deque
from contextlib import suppress
from ipaddress import IPv4Address
from itertools import count
from pathlib import Path
from typing import Final

import pytest
import trio

from tests.cluster.harness import Cluster
from tests.cluster.namespaces import PORT, Links, open_links, why_not
from trioraft import KeyValueError, NoAnswerError, ProposalError

SECONDS: Final = float(os.environ.get("TRIORAFT_FORGED_SECONDS", "8"))
_SIZE: Final = 3
_PATIENCE: Final = 30.0
_VOLLEY_EVERY: Final = 0.01
_WRITERS: Final = 32
# What a host that refuses quotes at most, with all headers; and the type and the codes of ICMP.
_QUOTED_MAX: Final = 548
_UNREACHABLE: Final = 3
_PORT, _HOST, _PROHIBITED = 3, 1, 13

pytestmark = pytest.mark.skipif(bool(why_not()), reason=f"no network namespaces: {why_not()}")


def checksum(data: bytes) -> int:
    """Compute the checksum of the Internet (RFC 1071)."""
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def error(source: str, target: str, code: int, quoted: bytes) -> bytes:
    """Make the packet of an error "destination unreachable" from one host to another."""
    body = struct.pack("!BBHI", _UNREACHABLE, code, 0, 0) + quoted[:_QUOTED_MAX]
    body = body[:2] + struct.pack("!H", checksum(body)) + body[4:]
    addresses = IPv4Address(source).packed + IPv4Address(target).packed
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, 1, 0) + addresses
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + body


class Forger:
    """Sees what the followers send to the leader, and forges errors about it; loses a datagram now and then."""

    def __init__(self, links: Links, leader: int) -> None:
        self.forged = self.lost = 0
        self._links, self._leader = links, leader
        self._carry = links.carry
        self._followers = [i for i in range(_SIZE) if i != leader]
        self._newest: dict[int, bytes] = {}
        self._old: dict[int, deque[bytes]] = {i: deque(maxlen=50) for i in self._followers}
        self._loses = False
        self._chance = random.Random(1)
        links.carry = self._see  # type: ignore[method-assign]  # whatever passes

    def _see(self, i: int, j: int, data: bytes, nursery: trio.Nursery) -> None:
        if j == self._leader and data[9] == 17:
            self._newest[i] = data
        elif i == self._leader and j in self._newest:
            self._old[j].append(self._newest.pop(j))
            if self._loses:
                self._loses = False
                self.lost += 1
                return
        self._carry(i, j, data, nursery)

    def _forge(self, follower: int) -> list[bytes]:
        hosts = self._links.hosts
        here, leader, third = hosts[follower], hosts[self._leader], hosts[3 - follower - self._leader]
        forged = []
        if self._old[follower]:
            old = self._chance.choice(self._old[follower])
            wrong = old[:28] + self._chance.randbytes(len(old) - 28)
            forged += [error(leader, here, _PORT, old), error(leader, here, _PORT, wrong)]
        newest = self._newest.get(follower)
        if newest is not None:
            forged += [error(leader, here, code, newest) for code in (_HOST, _PROHIBITED)]
            forged.append(error(third, here, _PORT, newest))
        return forged

    async def run(self) -> None:
        for turn in count():
            for follower in self._followers:
                for packet in self._forge(follower):
                    self.forged += self._links.inject(self._leader, follower, packet)
            self._loses = self._loses or turn % 100 == 50
            await trio.sleep(_VOLLEY_EVERY)


async def _write(cluster: Cluster, number: int, written: list[int]) -> None:
    for turn in count():
        with suppress(KeyValueError, ProposalError, NoAnswerError):
            await cluster.client.put(f"key-{number}", str(turn))
            written[0] += 1


async def test_forged_errors_depose_no_leader(tmp_path: Path) -> None:
    async with open_links(_SIZE, seed=1) as links:
        places = [links.place(i) for i in range(_SIZE)]
        async with Cluster(tmp_path, _SIZE, ports=[PORT] * _SIZE, places=places) as cluster:
            await cluster.wait_leader(_PATIENCE)
            before = await cluster.wait_for(
                lambda seen: all(node.status.cluster_version >= 6 for node in seen.nodes) and seen.leader is not None,
                _PATIENCE,
            )
            leader = before.leader
            assert leader is not None
            term = leader.status.term
            forger, written = Forger(links, cluster.index(leader)), [0]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(forger.run)
                for number in range(_WRITERS):
                    nursery.start_soon(_write, cluster, number, written)
                await trio.sleep(SECONDS)
                nursery.cancel_scope.cancel()
            still = await cluster.wait_leader(_PATIENCE)
            assert (still.status.id, still.status.term) == (leader.status.id, term)
            after = await cluster.statuses(5)
            counters = [node.status.counters for node in after.nodes]
            assert sum(each.get("dropped_port_errors", 0) for each in counters) > 10 * SECONDS, "they arrive"
            assert sum(each.get("port_errors", 0) for each in counters) == 0
            print(f"{forger.forged} forged errors, {forger.lost} datagrams lost, {written[0]} puts, no election")


async def test_across_hosts_a_killed_leader_is_followed_by_another_before_any_timeout(tmp_path: Path) -> None:
    timeouts = {"ELECTION_TIMEOUT_LOWER_MILLIS": "3000", "ELECTION_TIMEOUT_UPPER_MILLIS": "5000"}
    async with open_links(_SIZE, seed=1) as links:
        places = [links.place(i) for i in range(_SIZE)]
        async with Cluster(tmp_path, _SIZE, timeouts, ports=[PORT] * _SIZE, places=places) as cluster:
            leader = cluster.index(await cluster.wait_leader(_PATIENCE))
            await cluster.wait_for(
                lambda seen: all(node.status.cluster_version >= 6 for node in seen.nodes), _PATIENCE
            )
            await trio.sleep(3.2)  # the promises of the older version exclude hints
            killed_at = trio.current_time()
            await cluster.kill(leader)
            await cluster.wait_leader(_PATIENCE, without=[leader])
            assert trio.current_time() - killed_at < 2.5
