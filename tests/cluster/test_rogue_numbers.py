"""A member that has the key, and has gone wrong: what it says of terms, work and indexes ends no cluster."""

from collections.abc import Mapping
from pathlib import Path

import msgspec
import trio

from tests.cluster.harness import LOOPBACK, Cluster
from tests.cluster.test_backup import command
from trioraft.clock import boottime
from trioraft.consensus.ledger import Write
from trioraft.datagrams.endpoint import Domain, Endpoint, Identity, PeerConfirmed
from trioraft.datagrams.keys import KeyRing, generate_key
from trioraft.datagrams.socket import open_udp
from trioraft.messages import (
    AppendEntriesRequest,
    AppendEntriesResponse,
    Entry,
    EntryKind,
    InstallSnapshotRequest,
    Message,
    PreVoteResponse,
    VoteRequest,
    VoteResponse,
)
from trioraft.storage.database import SqliteDisk

HUGE = 2**62
ROGUE = 0x0BAD


def numbers_of(term: int) -> list[Message]:
    """Make what would be taken, but for a number."""
    return [
        AppendEntriesRequest(HUGE, 1, 6.0, 0, 0, 0),
        AppendEntriesRequest(term + 1, 1, 1e8, 0, 0, 0),
        AppendEntriesRequest(term + 1, HUGE, 6.0, 0, 0, 0),
        AppendEntriesRequest(term + 1, 1, 6.0, 0, 0, HUGE),
        AppendEntriesRequest(term + 1, 1, 6.0, 0, 0, 0, (Entry(HUGE, EntryKind.NO_OP),)),
        AppendEntriesResponse(HUGE, 0, 0.0, 0, last_choice=False),
        InstallSnapshotRequest(term + 1, HUGE, 1, 3, 0, 0, b"abc"),
        PreVoteResponse(HUGE, 1, granted=False),
        VoteRequest(HUGE, HUGE, HUGE - 1, transfer=True),
        VoteResponse(HUGE, granted=False, work=1e8, work_term=HUGE),
    ]


def rogue_dropped(counters: Mapping[str, int]) -> int:
    """Count how many messages were dropped for a number, or because only members may send them."""
    return counters.get("dropped_not_meant", 0) + counters.get("dropped_not_a_member", 0)


async def send_all(
    cluster: Cluster, key: str | None, cluster_id: int, messages: list[Message], rogue: int = ROGUE
) -> None:
    """Shake hands with each node as another member does, and say all that to it."""
    own = Identity(node_id=rogue, service="trioraft", name="rogue")
    endpoint = Endpoint(own, None if key is None else KeyRing.parse(key), cluster_id=cluster_id)
    udp = await open_udp(LOOPBACK, 0)
    met = 0
    for peer in cluster.client.nodes.values():
        endpoint.greet(peer.address, Domain.CONSENSUS, boottime())
    try:
        with trio.fail_after(10):
            while met < cluster.size:
                for datagram, to in endpoint.datagrams_to_send():
                    udp.send(datagram, to)
                await udp.wait_readable()
                for data, source in udp.receive():
                    event = endpoint.receive_datagram_untrusted(data, source, boottime())
                    if isinstance(event, PeerConfirmed):
                        met += 1
                        for message in messages:
                            endpoint.send(event.peer, message, boottime())
            for datagram, to in endpoint.datagrams_to_send():
                udp.send(datagram, to)
    finally:
        udp.close()


async def test_numbers_of_a_rogue_member_end_no_cluster_and_are_shown(tmp_path: Path) -> None:
    key = generate_key()
    async with Cluster(tmp_path, environment={"CLUSTER_KEY": key}) as cluster:
        leader = await cluster.wait_leader()
        term = leader.status.term
        assert leader.status.cluster_id is not None
        await send_all(cluster, key, int(leader.status.cluster_id, 16), numbers_of(term))
        with trio.fail_after(10):
            await cluster.client.put("after", "all")
        seen = await cluster.wait_for(
            lambda seen: all(rogue_dropped(node.status.counters) >= 9 for node in seen.nodes), 10
        )
        for node in seen.nodes:
            assert (node.status.term, node.status.leader) == (term, leader.status.id)
            [alert] = [alert for alert in node.status.alerts if "what no member can mean" in alert]
            assert f"rogue ({ROGUE:016x}) at 127.0.0.1:" in alert

        for i in range(cluster.size):  # nothing of it is on a disk either
            await cluster.kill(i)
        for i in range(cluster.size):
            await cluster.start(i)
        after = await cluster.wait_leader()
        assert term <= after.status.term < term + 10
        with trio.fail_after(20):
            async with cluster.client.lock("job", ttl=2) as lock:
                assert lock.fencing_token < HUGE


async def test_a_cluster_that_is_at_the_last_term_says_so_and_is_recovered(tmp_path: Path) -> None:
    """As an earlier release has left it, which believed one message."""
    async with Cluster(tmp_path) as cluster:
        await cluster.wait_leader()
        await cluster.client.put("key", "value")
        await cluster.same_state()
        for i in range(cluster.size):
            await cluster.kill(i)
        for i in range(cluster.size):
            disk = SqliteDisk(cluster.data_dir(i) / "0")
            disk.save_now(Write(1, msgspec.structs.replace(disk.hard, term=HUGE, work=1e8)))
            disk.close()
        for i in range(cluster.size):
            await cluster.start(i)
        await cluster.wait_for(
            lambda seen: all(any("When no terms are left" in a for a in node.status.alerts) for node in seen.nodes),
            15,
        )
        for i in range(cluster.size):
            await cluster.kill(i)
        done = await command("recover", "--data-dir", str(cluster.data_dir(0)), "--force-new-cluster", "--yes")
        assert done.returncode == 0, done.stderr
        assert f"terms below {HUGE}".encode() in done.stdout
        await cluster.start(0)
        await cluster.wait_leader(without=(1, 2))
        with trio.fail_after(20):
            found = await cluster.client.get("key")
        assert found is not None
        assert found.value == b"value"
