"""The limits of one client, and of one address, on sessions, leases and locks, and watches."""

import pytest
import trio
import trio.testing

from tests.unit.memory_client import KeyValueCluster, key_value_cluster, memory_client
from trioraft.asking import waiting
from trioraft.client.client import Client
from trioraft.errors import LimitError
from trioraft.kv.codec import encode_command, encode_result
from trioraft.kv.commands import LeaseGrant, Put
from trioraft.kv.holders import OF_ONE_CLIENT_MAX as LEASES_MAX
from trioraft.kv.holders import OF_ONE_SITE_MAX, LeaseHolders
from trioraft.kv.lock import hold_lock
from trioraft.kv.results import LeaseGrantResult, LeaseRevokeResult
from trioraft.kv.store import Change
from trioraft.messages import ClientResponse, OpenSession
from trioraft.node.room import Kind, Room
from trioraft.node.session_room import OF_ONE_CLIENT_MAX
from trioraft.replica.session_clock import SESSION_SECONDS
from trioraft.tally import Asker

ASKER = Asker.at("192.0.2.1", b"1")


def open_sessions(cluster: KeyValueCluster) -> int:
    return max(node._member.replica.session_count for node in cluster.nodes.values())


async def open_many(client: Client, number: int) -> list[ClientResponse]:
    """Let a client open many sessions at once, as none of this project does."""
    responses: list[ClientResponse] = []

    async def open_one() -> None:
        responses.append(await waiting.call(client._calls, OpenSession))

    async with trio.open_nursery() as nursery:
        for _ in range(number):
            nursery.start_soon(open_one)
    return responses


# --- sessions -----------------------------------------------------------------------------------------------


async def test_a_client_opens_few_sessions_and_another_one_writes_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with (
        key_value_cluster(3, 1) as cluster,
        memory_client(cluster.network, cluster.addresses) as one,
        memory_client(cluster.network, cluster.addresses, 1) as other,
    ):
        responses = await open_many(one, 200)
        refused = [response for response in responses if not response.done]
        assert len(refused) == 200 - OF_ONE_CLIENT_MAX
        assert {response.code for response in refused} == {"limit"}
        assert refused[0].detail.startswith(f"this client has {OF_ONE_CLIENT_MAX} open sessions, the most that one")
        with trio.fail_after(0.5):
            await other.put("a", "1")
        with pytest.raises(LimitError, match="no session could be opened: this client has"):
            await one.put("a", "2")
        await trio.sleep(SESSION_SECONDS + 20)
        assert open_sessions(cluster) == 1
        await one.put("a", "2")


async def test_a_client_that_opens_and_ends_sessions_is_not_refused(autojump_clock: trio.testing.MockClock) -> None:
    async with key_value_cluster(1, 2) as cluster, memory_client(cluster.network, cluster.addresses) as client:
        for number in range(3 * OF_ONE_CLIENT_MAX):
            await client.put("a", str(number))
            client.end_session()
            await trio.sleep(0.1)


async def test_a_leader_learns_whose_the_sessions_are_that_another_one_opened(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with key_value_cluster(3, 3) as cluster, memory_client(cluster.network, cluster.addresses) as client:
        await client.put("a", "1")
        before = cluster.nodes[await cluster.leader()]
        await before.step_aside("test")
        with trio.fail_after(30):
            while (leader := cluster.nodes[await cluster.leader()]) is before:
                await trio.sleep(0.1)
        await client.put("a", "2")
        assert leader._requests._sessions._tally.total == 1


async def test_where_all_sessions_are_open_the_silent_ones_without_a_command_make_room(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("trioraft.replica.sessions.SESSIONS_MAX", "trioraft.node.session_room.SESSIONS_MAX"):
        monkeypatch.setattr(place, OF_ONE_CLIENT_MAX)
    monkeypatch.setattr("trioraft.node.session_room.SITE_SHARE", 1)
    async with key_value_cluster(3, 4) as cluster, memory_client(cluster.network, cluster.addresses) as one:
        await one.put("a", "1")
        await open_many(one, OF_ONE_CLIENT_MAX - 1)
        assert open_sessions(cluster) == OF_ONE_CLIENT_MAX
        await trio.sleep(6)
        for number in range(1, 6):
            # Each has another address; that of the first has its most.
            monkeypatch.setattr("trioraft.tally._site", lambda host, number=number: str(number))
            async with memory_client(cluster.network, cluster.addresses, number) as other:
                with trio.fail_after(3):  # it has to find the leader first
                    await other.put("b", str(number))
        await one.put("a", "2")
        assert open_sessions(cluster) <= OF_ONE_CLIENT_MAX


# --- addresses ----------------------------------------------------------------------------------------------


def test_many_clients_behind_one_address_have_much_and_leave_half_to_others() -> None:
    room = Room()
    proxy = [Asker.at("192.0.2.1", b"%d" % number) for number in range(40)]
    for number in range(Kind.WAIT.most // 2):
        room.enter(proxy[number % 40], Kind.WAIT)
        assert room.why_none(proxy[number % 40], Kind.WAIT) == ("", False)
    room.enter(proxy[0], Kind.WAIT)
    limit, is_own = room.why_none(proxy[0], Kind.WAIT)
    assert limit.startswith("the clients at 192.0.2.1 have 5000 watches under way at this node, the most for one")
    assert not is_own, "it may come again when others have ended"
    room.leave(proxy[0], Kind.WAIT)
    for who, kind in ((Asker.at("192.0.2.2", b"other"), Kind.WAIT), (proxy[0], Kind.OTHER)):
        room.enter(who, kind)
        assert room.why_none(who, kind) == ("", False)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("::1", "2001:db8::1", False),
        ("", "127.0.0.1", False),
    ],
)
def test_an_ipv6_address_counts_by_its_first_half(one: str, other: str, *, same: bool) -> None:
    assert (Asker.at(one, b"").site == Asker.at(other, b"").site) is same


# --- leases and locks ---------------------------------------------------------------------------------------


def grant(holders: LeaseHolders, who: Asker, lease: int) -> bool:
    command = encode_command(LeaseGrant(10))
    if holders.begin_share(who, command)[0]:
        return False
    holders.end_share(who, command, encode_result(LeaseGrantResult(2, lease, 10)))
    return True


def test_leases_are_counted_until_they_end() -> None:
    holders = LeaseHolders()
    leases = iter(range(1, 10**6))
    assert sum(grant(holders, ASKER, next(leases)) for _ in range(LEASES_MAX + 5)) == LEASES_MAX
    assert sum(grant(holders, ASKER._replace(process=b"2"), next(leases)) for _ in range(9000)) == (
        OF_ONE_SITE_MAX - LEASES_MAX
    )
    assert grant(holders, Asker.at("192.0.2.2", b"3"), next(leases))
    holders.follow(Change(3, ended=(1, 2, 10**7)))
    assert [grant(holders, ASKER, next(leases)) for _ in range(3)] == [True, True, False]
    holders.follow(Change(3, restored=True))
    assert holders._tally.total == 0
    assert grant(holders, ASKER, next(leases))


def test_only_leases_that_are_granted_are_counted() -> None:
    holders = LeaseHolders()
    command = encode_command(LeaseGrant(10))
    for result in (b"", encode_result(LeaseRevokeResult(2, 0))):
        assert holders.begin_share(ASKER, command) == ("", False)
        holders.end_share(ASKER, command, result)
        assert holders._tally.total == 0
    for other in (encode_command(Put(b"a", b"b")), b"", b"\x05", b"\xff\xff"):
        assert holders.begin_share(ASKER, other) == ("", False)
        assert holders._tally.total == 0


@pytest.mark.parametrize("command", [b"\x98\x03\x05\x0a\x00", b"\x83\x18\x05\x0a\x00", b"\x99\x00\x03\x05\x0a\x00"])
def test_a_grant_counts_however_it_is_written(command: bytes) -> None:
    holders = LeaseHolders()
    holders.begin_share(ASKER, command)
    assert holders._tally.total == 1


async def test_a_client_with_many_leases_keeps_nobody_from_locking(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trioraft.kv.holders.OF_ONE_CLIENT_MAX", 5)
    async with (
        key_value_cluster(3, 5) as cluster,
        memory_client(cluster.network, cluster.addresses) as one,
        memory_client(cluster.network, cluster.addresses, 1) as other,
    ):
        granted = [await one.lease_grant(60) for _ in range(5)]
        with pytest.raises(LimitError, match="this client has 5 leases, one for each lock, the most"):
            await one.lease_grant(60)
        with pytest.raises(LimitError, match="this client has 5 leases"):
            async with hold_lock(one, "job", 3, clock=trio.current_time):
                pass
        async with hold_lock(other, "job", 3, clock=trio.current_time):
            pass
        await one.lease_revoke(granted[0].id)
        async with hold_lock(one, "job", 3, clock=trio.current_time):
            pass
