"""The client: whom it finds, what it notices, and how it gets a command carried out."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio

from tests.unit.node_double import SERVICE, NodeDouble, make_status, open_doubles
from trioraft.address import Address
from trioraft.client import nodes
from trioraft.client.client import Client, NoAnswerError, open_client
from trioraft.client.status import ClusterStatus, ObservedNode, printable
from trioraft.datagrams.client_loop import ClientLoop
from trioraft.datagrams.endpoint import Domain, Endpoint, Event, Identity, Received
from trioraft.datagrams.keys import KeyRing, derive_key, generate_key
from trioraft.datagrams.socket import UdpSocket, open_udp
from trioraft.dns.discovery import Answer
from trioraft.messages import (
    ClientRequest,
    ClientResponse,
    NodeStatus,
    Refusal,
    Status,
    StatusRequest,
    Transfer,
    format_id,
)
from trioraft.settings.settings import ClientSettings, PeerName, SettingsError

LEADER = make_status(2, role="leader", leader=format_id(2))
FOLLOWER = make_status(1, leader=format_id(2))


def settings_for(*addresses: Address, app_name: str = SERVICE, keys: KeyRing | None = None) -> ClientSettings:
    return ClientSettings(app_name=app_name, peers=tuple(PeerName(*a) for a in addresses), keys=keys)


async def until(condition: Callable[[], Any], seconds: float = 5.0) -> float:
    """Wait for a condition, and return how long that took."""
    started = trio.current_time()
    with trio.fail_after(seconds):
        while not condition():
            await trio.sleep(0.005)
    return trio.current_time() - started


@asynccontextmanager
async def doubles_and_client(
    *statuses: NodeStatus, app_name: str = SERVICE, also: tuple[Address, ...] = ()
) -> AsyncIterator[tuple[Client, tuple[NodeDouble, ...]]]:
    async with open_doubles(*statuses) as doubles:
        addresses = (*(double.address for double in doubles), *also)
        async with open_client(settings_for(*addresses, app_name=app_name)) as client:
            yield client, doubles


async def closed_address() -> Address:
    """Return an address at which there is no process."""
    socket = await open_udp("127.0.0.1", 0)
    socket.close()
    return socket.address


class CommandDouble:
    """A node that tells its status, and answers commands as a test wants it."""

    def __init__(self, status: NodeStatus, socket: UdpSocket) -> None:
        self.status = status
        self.address = socket.address
        self.requests: list[ClientRequest] = []
        self.answer: Callable[[ClientRequest], ClientResponse | None] = lambda request: None
        self._endpoint = Endpoint(Identity(int(status.id, 16), SERVICE, status.name), None)
        self.loop = ClientLoop(socket, self._endpoint, self._handle)

    def _handle(self, event: Event, now: float) -> None:
        match event:
            case Received(peer=peer, message=StatusRequest()):
                self._endpoint.send(peer, Status(self.status), now)
            case Received(peer=peer, message=ClientRequest() as request):
                self.requests.append(request)
                if (response := self.answer(request)) is not None:
                    self._endpoint.send(peer, response, now)


@asynccontextmanager
async def commanded(*statuses: NodeStatus) -> AsyncIterator[tuple[Client, tuple[CommandDouble, ...]]]:
    async with trio.open_nursery() as nursery:
        doubles = tuple([CommandDouble(status, await open_udp("127.0.0.1", 0)) for status in statuses])
        for double in doubles:
            nursery.start_soon(double.loop.run)
        async with open_client(settings_for(*(d.address for d in doubles)), Domain.CLIENT) as client:
            yield client, doubles
        nursery.cancel_scope.cancel()


def done(request: ClientRequest) -> ClientResponse:
    return ClientResponse(request.request, done=True, detail="done")


def elsewhere(request: ClientRequest, leader: int) -> ClientResponse:
    return ClientResponse(request.request, done=False, detail="not I", leader=leader, code=Refusal.NOT_LEADER, term=5)


# --- finding ------------------------------------------------------------------------------------------------


async def test_one_known_node_is_enough_to_see_the_others() -> None:
    async with open_doubles(FOLLOWER, LEADER) as (known, other):
        known.status = msgspec.structs.replace(FOLLOWER, peers=(str(other.address), "no address", "::1"))
        async with open_client(settings_for(known.address)) as client:
            cluster = await client.statuses(2)
    assert [node.status.id for node in cluster.nodes] == [FOLLOWER.id, LEADER.id]
    assert cluster.leader is not None
    assert cluster.leader.address == other.address
    assert cluster.silent == ()


async def test_statuses_come_as_soon_as_all_have_answered() -> None:
    async with doubles_and_client(FOLLOWER, LEADER) as (client, _):
        started = trio.current_time()
        cluster = await client.statuses(5)
        took = trio.current_time() - started
    assert len(cluster.nodes) == 2
    assert took < 1


async def test_an_address_without_a_node_is_reported_and_a_silent_node_is_unreachable() -> None:
    nobody = await closed_address()
    async with doubles_and_client(FOLLOWER, LEADER, also=(nobody,)) as (client, (_, leader)):
        first = await client.statuses(0.5)
        leader.is_silent = True
        second = await client.statuses(0.5)
    assert first.silent == second.silent == (nobody,)
    assert [node.reachable for node in first.nodes] == [True, True]
    assert [node.reachable for node in second.nodes] == [True, False]
    assert first.leader is not None
    assert second.leader is None


async def test_a_client_without_a_service_name_finds_the_service() -> None:
    async with doubles_and_client(FOLLOWER, app_name="") as (client, _):
        cluster = await client.statuses(3)
    assert [node.status.service for node in cluster.nodes] == [SERVICE]


async def test_a_client_of_another_service_learns_at_once_what_it_met_and_where() -> None:
    async with doubles_and_client(FOLLOWER, app_name="other") as (client, (double,)):
        with trio.fail_after(5):
            cluster = await client.statuses(60)
        text = client.why_silent()
    met = f"at {double.address} is a node of service '{SERVICE}', and this is a client of service 'other'"
    assert (cluster.nodes, cluster.silent) == ((), ())
    assert text.startswith(f"no node of service 'other' was found: {met}")
    assert [line.partition(":")[0] for line in cluster.foreign] == [met.partition(":")[0]]
    assert client.problems == cluster.foreign


async def test_nodes_of_another_service_are_distinguished_from_silent_ones() -> None:
    stranger = make_status(2, service="shop")
    async with doubles_and_client(FOLLOWER, stranger, app_name=SERVICE) as (client, (_, other)):
        with trio.fail_after(5):
            cluster = await client.statuses(60)
    assert [node.status.id for node in cluster.nodes] == [FOLLOWER.id]
    assert cluster.silent == ()
    (line,) = cluster.foreign
    assert f"at {other.address} is a node of service 'shop'" in line


async def test_a_status_key_is_refused_for_commands_at_once() -> None:
    keys = KeyRing.parse(derive_key(generate_key(), "status"))
    with pytest.raises(SettingsError, match=r"CLUSTER_KEY.*client"):
        async with open_client(settings_for(Address("127.0.0.1", 7300), keys=keys), Domain.CLIENT):
            pytest.fail("it was opened")


# --- observing ----------------------------------------------------------------------------------------------


@asynccontextmanager
async def observing(refresh: float, *statuses: NodeStatus) -> AsyncIterator[tuple[Client, tuple[NodeDouble, ...]]]:
    async with doubles_and_client(*statuses) as (client, doubles):
        await client.observe(refresh)
        await until(lambda: len(client.nodes) == len(statuses))
        yield client, doubles


async def test_a_change_is_pushed_long_before_the_next_refresh() -> None:
    async with observing(20.0, FOLLOWER) as (client, (double,)):
        seen = client.version
        double.tell(role="candidate", term=5)
        with trio.fail_after(2):
            await client.changed(seen)
        assert client.nodes[FOLLOWER.id].status.role == "candidate"
        assert client.cluster().term == 5


async def test_a_silent_node_is_unreachable_within_two_refreshes_and_back_when_heard() -> None:
    refresh = 0.3
    async with observing(refresh, FOLLOWER) as (client, (double,)):
        await trio.sleep(4 * refresh)
        assert client.nodes[FOLLOWER.id].reachable, "it was asked again and has answered"
        double.is_silent = True
        took = await until(lambda: not client.nodes[FOLLOWER.id].reachable)
        assert took < 2 * refresh + 0.2
        double.is_silent = False
        await until(lambda: client.nodes[FOLLOWER.id].reachable)


async def test_changes_that_nobody_waited_for_are_not_missed() -> None:
    async with observing(20.0, FOLLOWER) as (client, (double,)):
        seen = client.version
        double.tell(term=6)
        await until(lambda: client.nodes[FOLLOWER.id].status.term == 6)
        with trio.fail_after(0.5):
            assert await client.changed(seen) > seen


async def test_another_node_at_an_address_takes_the_place_of_the_first() -> None:
    socket = await open_udp("127.0.0.1", 0)
    async with open_client(settings_for(socket.address)) as client:
        await client.observe(0.2)
        for status in (FOLLOWER, make_status(9)):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(CommandDouble(status, socket).loop.run)
                await until(lambda wanted=status.id: set(client.nodes) == {wanted}, 10)  # type: ignore[misc]
                nursery.cancel_scope.cancel()
    socket.close()


async def test_another_node_is_found_where_one_was_that_has_moved() -> None:
    first, second = await open_udp("127.0.0.1", 0), await open_udp("127.0.0.1", 0)
    other = make_status(9)
    async with observing(0.2, LEADER) as (client, (leader,)), trio.open_nursery() as nursery:
        leader.tell(peers=(str(first.address),))
        async with trio.open_nursery() as before:
            before.start_soon(CommandDouble(FOLLOWER, first).loop.run)
            await until(lambda: FOLLOWER.id in client.nodes)
            before.cancel_scope.cancel()
        nursery.start_soon(CommandDouble(FOLLOWER, second).loop.run)
        leader.tell(peers=(str(second.address),))
        await until(lambda: client.nodes[FOLLOWER.id].address == second.address)
        nursery.start_soon(CommandDouble(other, first).loop.run)
        leader.tell(peers=(str(first.address), str(second.address)))
        await until(lambda: other.id in client.nodes)
        assert client.nodes[other.id].address == first.address
        await trio.sleep(0.5)
        assert {node.status.id for node in client.cluster().nodes if node.reachable} == {
            LEADER.id,
            FOLLOWER.id,
            other.id,
        }
        nursery.cancel_scope.cancel()
    first.close()
    second.close()


@pytest.mark.parametrize("named", [True, False])
async def test_a_node_is_found_where_it_was_before(named: bool) -> None:
    first, second = await open_udp("127.0.0.1", 0), await open_udp("127.0.0.1", 0)

    async def runs_at(socket: UdpSocket) -> None:
        async with trio.open_nursery() as there:
            there.start_soon(CommandDouble(FOLLOWER, socket).loop.run)
            await until(lambda: (found := client.nodes.get(FOLLOWER.id)) and found.address == socket.address, 12)
            there.cancel_scope.cancel()

    async with observing(0.2, LEADER) as (client, (leader,)):
        for socket in (first, second):
            leader.tell(peers=(str(socket.address),))
            await runs_at(socket)
        if named:  # by a node that does not lead and names the leader; until then the other one still is where it was
            client.meet(int(FOLLOWER.id, 16), str(first.address))
        await runs_at(first)
    first.close()
    second.close()


async def test_a_node_that_is_not_found_any_more_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "FORGET_SECONDS", 0.5)
    async with open_doubles(FOLLOWER, LEADER) as (known, other):
        known.status = msgspec.structs.replace(FOLLOWER, peers=(str(other.address),))
        async with open_client(settings_for(known.address)) as client:
            await client.observe(0.1)
            await until(lambda: len(client.nodes) == 2)
            known.status = FOLLOWER  # names it no longer
            other.is_silent = True
            await until(lambda: set(client.nodes) == {FOLLOWER.id})
            known.is_silent = True
            await until(lambda: not client.nodes[FOLLOWER.id].reachable)
            await trio.sleep(1)
            assert set(client.nodes) == {FOLLOWER.id}, "one that is still found is unreachable, not forgotten"


# --- commands -----------------------------------------------------------------------------------------------


async def test_a_command_goes_to_the_leader() -> None:
    async with commanded(FOLLOWER, LEADER) as (client, (follower, leader)):
        leader.answer = done
        follower.answer = lambda request: elsewhere(request, leader=2)
        assert (await client.command(None, Transfer(), 5)).done
        assert [request.command for request in leader.requests] == [Transfer()]
        asked = len(follower.requests)
        await client.command(None, Transfer(), 5)
        assert len(follower.requests) == asked, "the leader is known by now"


async def test_a_lost_request_is_sent_again_under_its_number() -> None:
    async with commanded(LEADER) as (client, (leader,)):
        leader.answer = lambda request: done(request) if len(leader.requests) == 3 else None
        await client.command(None, Transfer(), 5)
        leader.answer = done
        await client.command(None, Transfer(), 5)
    first, *_, last = [request.request for request in leader.requests]
    assert [request.request for request in leader.requests[:3]] == [first] * 3
    assert last != first


async def test_a_new_leader_is_followed() -> None:
    async with commanded(LEADER, make_status(3)) as (client, (old, new)):
        old.answer = lambda request: elsewhere(request, leader=3)
        new.answer = done
        await client.statuses()
        assert (await client.command(None, Transfer(), 5)).done
        assert len(old.requests) == len(new.requests) == 1


async def test_a_leader_that_hands_over_answers_itself_and_its_successor_is_not_asked_too() -> None:
    async with commanded(LEADER, make_status(3)) as (client, (old, new)):

        def hand_over(request: ClientRequest) -> ClientResponse | None:
            old.status = msgspec.structs.replace(old.status, role="follower", term=5, leader=new.status.id)
            new.status = msgspec.structs.replace(new.status, role="leader", term=5, leader=new.status.id)
            leader = client.cluster().leader
            return done(request) if leader is not None and leader.address == new.address else None

        old.answer, new.answer = hand_over, done
        assert (await client.command(None, Transfer(), 5)).done
        assert len(old.requests) > 1
        assert new.requests == []


async def test_a_refusal_of_the_leader_is_final() -> None:
    async with commanded(FOLLOWER, LEADER) as (client, (_, leader)):
        leader.answer = lambda request: ClientResponse(request.request, done=False, detail="no such node")
        response = await client.command(None, Transfer(7), 5)
    assert (response.done, response.detail) == (False, "no such node")
    assert len(leader.requests) == 1


async def test_a_command_for_one_node_is_not_taken_elsewhere() -> None:
    async with commanded(FOLLOWER, LEADER) as (client, (follower, leader)):
        follower.answer = lambda request: ClientResponse(request.request, done=False, detail="no", leader=2)
        response = await client.command(FOLLOWER.id, Transfer(), 5)
    assert response.detail == "no"
    assert leader.requests == []


@pytest.mark.parametrize(
    ("statuses", "reason"),
    [
        ((), "no node was found"),
        ((make_status(1),), "there is no leader"),
        ((FOLLOWER,), "node node-1 at 127.0.0.1:.* does not lead; the leader is node 0000000000000002 at an address"),
        ((LEADER,), "the leader did not answer"),
    ],
)
async def test_a_command_that_nobody_answers_fails_in_time(statuses: tuple[NodeStatus, ...], reason: str) -> None:
    async with commanded(*statuses) as (client, _):
        started = trio.current_time()
        with pytest.raises(NoAnswerError, match=reason):
            await client.command(None, Transfer(), 0.6)
        assert trio.current_time() - started < 2


# --- what is shown ------------------------------------------------------------------------------------------


def node(number: int, *, reachable: bool = True, **facts: Any) -> ObservedNode:
    return ObservedNode(make_status(number, **facts), Address("127.0.0.1", 7300 + number), 0.0, reachable)


def test_the_leader_is_the_reachable_one_in_the_highest_term() -> None:
    old, new = node(1, role="leader", term=4), node(2, role="leader", term=5)
    paused = node(3, role="leader", term=6, reachable=False)
    assert ClusterStatus((old, new, paused)).leader is new
    assert ClusterStatus((paused, node(4))).leader is None
    assert ClusterStatus((old, new, paused)).term == 5


def test_a_foreign_cluster_does_not_count() -> None:
    foreign = node(9, cluster_id="00000000000000ff", term=70)
    cluster = ClusterStatus((node(1), node(2), foreign))
    assert (cluster.cluster_id, cluster.term) == ("00000000000000c1", 4)


def test_each_of_two_clusters_has_its_own_leader_and_term() -> None:
    ours = [node(1, role="leader", leader=format_id(1)), node(2), node(3)]
    theirs = [node(number, cluster_id="00000000000000ff", term=70) for number in (8, 9)]
    theirs[0] = node(8, cluster_id="00000000000000ff", term=70, role="leader", leader=format_id(8))
    whole = ClusterStatus((*ours, *theirs))
    assert [(each.cluster_id, each.leader, each.term) for each in whole.clusters] == [
        ("00000000000000c1", ours[0], 4),
        ("00000000000000ff", theirs[0], 70),
    ]
    assert (whole.leader, whole.term) == (ours[0], 4)
    told = whole.to_json()
    assert [(each["leader"], each["term"]) for each in told["clusters"]] == [(format_id(1), 4), (format_id(8), 70)]
    without = ClusterStatus((node(2), node(3), *theirs))
    assert without.leader is theirs[0], "of two with as many nodes the one that is led"


def test_the_document_has_what_is_documented() -> None:
    document = ClusterStatus((node(1, role="leader", leader=format_id(1)),)).to_json()
    assert list(document) == [
        *("cluster_id", "leader", "term", "survives", "survives_text", "members", "nodes", "clusters")
    ]
    assert document["leader"] == format_id(1)
    (shown,) = document["nodes"]
    documented = {"id", "name", "address", "role", "term", "leader", "pid", "uptime_seconds", "reachable", "hook"}
    assert documented <= set(shown)
    assert shown["address"] == "127.0.0.1:7301"
    assert shown["hook"]["state"] == "none"


def test_nothing_from_the_network_steers_a_terminal() -> None:
    assert printable("node\x1b[2J-1\n\u202e") == "node?[2J-1??"


async def test_addresses_that_nodes_name_do_not_keep_out_those_that_are_listed() -> None:
    async with open_client(settings_for(Address("127.0.0.1", 9))) as client:
        named = [Address(f"127.0.{number // 250}.{number % 250 + 1}", 9) for number in range(1000)]
        client._list(named, trio.current_time())
        listed = Address("127.1.1.1", 9)
        client._discovered(Answer(frozenset({listed}), complete=True))
        assert listed in client._targets
        assert len(client._targets) == 256
