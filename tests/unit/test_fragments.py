"""Messages that are larger than a datagram, between endpoints on networks of all kinds."""

import random
from typing import Any

import pytest

from tests.unit.endpoint_network import HEARTBEAT, KEY, ONE, TWO, A, B, Flight, both_modes
from tests.unit.slow_network import SlowNetwork
from trioraft.address import Address
from trioraft.datagrams import fragments, headers, wire
from trioraft.datagrams.endpoint import Domain, Endpoint, Peer, Received, encode_message
from trioraft.datagrams.fragments import SESSION_BYTES_MAX
from trioraft.datagrams.retransmission import GIVE_UP_SECONDS, WINDOW_MAX
from trioraft.messages import (
    AppendEntriesRequest,
    ClientRequest,
    ClientResponse,
    Entry,
    EntryKind,
    HookStatus,
    NodeStatus,
    Propose,
    Status,
)

CLIENT = Address("198.51.100.1", 4000)
MIB = 1024 * 1024


def entry(size: int, number: int = 0, seed: int = 1) -> AppendEntriesRequest:
    data = random.Random(seed).randbytes(size)
    return AppendEntriesRequest(7, number, 3.0, 12, 6, 12, (Entry(term=7, kind=EntryKind.COMMAND, data=data),))


def pair(keys: str | None = KEY, **kind: Any) -> tuple[SlowNetwork, Endpoint, Endpoint, Peer]:
    network = SlowNetwork()
    a, b = network.add(A, ONE, keys), network.add(B, TWO, keys)
    to_b, _ = network.shake_hands(A, B)
    network.flown.clear()
    for name, value in kind.items():
        setattr(network, name, value)
    return network, a, b, to_b


def received(network: SlowNetwork, endpoint: Endpoint) -> list[object]:
    return [event.message for who, event in network.events if who is endpoint and isinstance(event, Received)]


# --- what arrives -------------------------------------------------------------------------------------------


@both_modes
@pytest.mark.parametrize("size", [1100, 1200, 1201, 3000, 65507, 65508, MIB, 2 * MIB - 100])
def test_a_message_of_any_size_arrives_in_datagrams_of_the_path(keys: str | None, size: int) -> None:
    network, a, b, to_b = pair(keys)
    sizes: set[int] = set()

    def note_size(flight: Flight) -> bool:
        sizes.add(len(flight.data))
        return True

    network.passes = note_size
    a.send(to_b, entry(size), network.now)
    network.live(5, until=lambda: bool(received(network, b)))
    assert received(network, b) == [entry(size)]
    assert max(sizes) <= 1200
    network.live(5)
    assert a.next_deadline() == b.next_deadline() == float("inf")


@both_modes
def test_a_message_that_fits_goes_in_one_datagram(keys: str | None) -> None:
    network, a, b, to_b = pair(keys)
    fits = 1200 - headers.MESSAGE_OVERHEAD - len(encode_message(entry(1000))) + 1000
    a.send(to_b, entry(fits), network.now)
    assert network.live(1, until=lambda: bool(received(network, b))) == pytest.approx(network.delay)
    assert (network.carried, a.counters["fragmented"]) == (1, 0)
    a.use_path_bytes(lambda address: 9000)
    a.send(to_b, entry(8800), network.now)
    network.live(1)
    assert (network.carried, a.counters["fragmented"]) == (2, 0)


def test_small_messages_do_not_wait_for_large_ones() -> None:
    network, a, b, to_b = pair()
    a.send(to_b, entry(MIB), network.now)
    network.live(0.02)
    a.send(to_b, HEARTBEAT, network.now)
    assert network.live(1, until=lambda: bool(received(network, b))) == pytest.approx(network.delay)
    assert received(network, b) == [HEARTBEAT]


@pytest.mark.parametrize(
    ("loss", "within", "copies"), [(0.0, 0.2, 1.15), (0.1, 0.5, 1.4), (0.3, 1.0, 1.8), (0.5, 5.0, 3.0)]
)
def test_a_mebibyte_arrives_soon_whatever_is_lost(loss: float, within: float, copies: float) -> None:
    for seed in range(5):
        network, a, b, to_b = pair(loss=loss, chance=random.Random(seed))
        a.send(to_b, entry(MIB), network.now)
        seconds = network.live(30, until=lambda: bool(received(network, b)))  # noqa: B023 - called before it changes
        assert seconds < within
        assert received(network, b) == [entry(MIB)]
        assert network.carried_bytes < copies * MIB


@both_modes
def test_messages_come_in_order_and_once_on_the_worst_of_networks(keys: str | None) -> None:
    for seed in range(5):
        chance = random.Random(seed)
        network, a, b, to_b = pair(keys, loss=0.2, duplication=0.2, jitter=0.02, chance=chance)
        sent = [entry(chance.randrange(30_000, 100_000), number, seed) for number in range(20)]
        for message in sent:
            a.send(to_b, message, network.now)
        network.live(30, until=lambda: len(received(network, b)) == 20)  # noqa: B023
        network.live(10)
        assert received(network, b) == sent
        assert a.next_deadline() == b.next_deadline() == float("inf")


def test_the_bytes_on_their_way_are_bounded() -> None:
    network, a, _, to_b = pair()
    network.passes = lambda flight: False
    for number in range(3):
        a.send(to_b, entry(MIB, number), network.now)
    network.live(0.1)
    assert network.carried_bytes <= WINDOW_MAX + 2000


# --- who may send what --------------------------------------------------------------------------------------


@both_modes
def test_clients_send_and_get_large_messages(keys: str | None) -> None:
    network, a, _, _ = pair(keys, loss=0.1)
    network.loss = 0
    client = network.add(CLIENT, 0, keys)
    to_a, to_client = network.shake_hands(CLIENT, A, Domain.CLIENT)
    answer = ClientResponse(1, True, "x", data=bytes(300_000))
    network.loss = 0.1
    a.send(to_client, answer, network.now)
    network.live(5)
    assert received(network, client) == [answer]
    request = ClientRequest(1, Propose(1, 1, 1, bytes(300_000)))
    client.send(to_a, request, network.now)
    network.live(5)
    assert received(network, a) == [request]


def test_a_monitor_gets_a_large_status_but_cannot_make_a_node_hold_anything() -> None:
    network, a, _, _ = pair()
    monitor = network.add(CLIENT, 0)
    to_a, to_monitor = network.shake_hands(CLIENT, A, Domain.STATUS)
    alerts = tuple(f"alert {number} " * 20 for number in range(40))
    status = Status(
        node=NodeStatus(
            id="1" * 16,
            name="node",
            address="",
            role="leader",
            term=1,
            leader=None,
            pid=1,
            uptime_seconds=1.0,
            hook=HookStatus(),
            cluster_id=None,
            service="web",
            version="1",
            sealed=True,
            disk_stuck=False,
            alerts=alerts,
        )
    )
    a.send(to_monitor, status, network.now)
    network.live(1)
    assert received(network, monitor) == [status]
    monitor.send(to_a, entry(5000), network.now)
    network.live(1)
    assert a.counters["dropped_not_allowed"] > 0
    assert a.next_deadline() == float("inf")
    assert received(network, a) == []


def test_a_message_in_fragments_must_be_allowed_as_if_it_came_whole() -> None:
    network, a, _, _ = pair()
    client = network.add(CLIENT, 0)
    to_a, _ = network.shake_hands(CLIENT, A, Domain.CLIENT)
    client.send(to_a, entry(5000), network.now)
    network.live(1)
    assert a.counters["dropped_not_allowed"] == 1
    client.send(to_a, wire.EncodedMessage(b"\x88" * 5000), network.now)
    network.live(1)
    assert a.counters["dropped_malformed"] == 1
    assert received(network, a) == []


@both_modes
def test_fragments_of_an_unconfirmed_sender_leave_nothing(keys: str | None) -> None:
    network, a, b, to_b = pair(keys)
    stolen: list[Flight] = []

    def steal(flight: Flight) -> bool:
        stolen.append(flight)
        return False

    network.passes = steal
    a.send(to_b, entry(20_000), network.now)
    network.live(0.1)
    elsewhere = Address("203.0.113.9", 9)
    for flight in stolen:
        assert b.receive_datagram_untrusted(flight.data, elsewhere, network.now) is None
    assert b.next_deadline() == float("inf")
    assert b.counters["dropped_unconfirmed"] > 0


# --- paths --------------------------------------------------------------------------------------------------


def test_the_path_says_how_large_fragments_are() -> None:
    network, a, b, to_b = pair()
    a.use_path_bytes(lambda address: 9000)
    a.send(to_b, entry(MIB), network.now)
    network.live(2, until=lambda: bool(received(network, b)))
    assert received(network, b) == [entry(MIB)]
    assert network.carried < 1.3 * MIB / 9000 * 2


def test_a_path_that_becomes_narrower_is_noticed() -> None:
    network, a, b, to_b = pair()
    known = [9000]
    a.use_path_bytes(lambda address: known[0])
    a.send(to_b, entry(MIB), network.now)
    network.live(0.02)
    network.datagram_max = known[0] = 1400
    assert network.live(5, until=lambda: bool(received(network, b))) < 2
    assert received(network, b) == [entry(MIB)]


def test_a_path_that_swallows_large_datagrams_is_noticed() -> None:
    network, a, b, to_b = pair(datagram_max=1400)
    a.use_path_bytes(lambda address: 9000)
    a.send(to_b, entry(MIB), network.now)
    assert network.live(5, until=lambda: bool(received(network, b))) < 3
    assert received(network, b) == [entry(MIB)]
    a.send(to_b, entry(5000), network.now)  # would fit into one datagram of 9000 bytes
    assert network.live(5, until=lambda: len(received(network, b)) == 2) < 0.1


# --- when it is no use --------------------------------------------------------------------------------------


def test_a_silent_peer_is_given_up_and_costs_little_until_then() -> None:
    network, a, _, to_b = pair()
    network.passes = lambda flight: False
    a.send(to_b, entry(MIB), network.now)
    network.live(60)
    assert a.counters["dropped_undelivered"] == 1
    assert a.next_deadline() == float("inf")
    assert network.carried_bytes < 200_000


def test_a_peer_that_returns_gets_the_messages_that_waited() -> None:
    network, a, b, to_b = pair()
    network.passes = lambda flight: False
    a.send(to_b, entry(MIB), network.now)
    network.live(GIVE_UP_SECONDS - 1)
    network.passes = lambda flight: True
    assert network.live(5, until=lambda: bool(received(network, b))) < 2


def test_a_message_too_many_for_one_peer_is_refused_and_the_earlier_ones_go_on() -> None:
    network, a, b, to_b = pair()
    for number in range(6):
        a.send(to_b, entry(MIB, number), network.now)
    assert a.counters["dropped_busy"] == 6 - (SESSION_BYTES_MAX // (MIB + 100))
    network.live(10)
    assert [message.sequence for message in received(network, b)] == [0, 1, 2]  # type: ignore[attr-defined]
    a.send(to_b, entry(MIB, 9), network.now)
    network.live(5)
    assert len(received(network, b)) == 4


def test_a_request_that_is_repeated_while_it_is_on_its_way_is_not_sent_twice() -> None:
    network, a, b, to_b = pair()
    for _ in range(5):
        a.send(to_b, entry(MIB), network.now)
        network.live(0.01)
    network.live(5)
    assert received(network, b) == [entry(MIB)]
    a.send(to_b, entry(MIB), network.now)  # it has arrived: perhaps its answer was lost
    network.live(5)
    assert len(received(network, b)) == 2


def test_all_clients_together_cannot_take_the_room_that_nodes_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fragments, "CLIENTS_BYTES_MAX", MIB)
    network, a, b, to_b = pair()
    peers = []
    for number in range(10):
        address = Address("198.51.100.1", 4000 + number)
        network.add(address, 0)
        peers.append(network.shake_hands(address, A, Domain.CLIENT)[1])
    network.passes = lambda flight: B in {flight.target, flight.source}
    for peer in peers:
        a.send(peer, ClientResponse(1, True, data=bytes(200_000)), network.now)
    assert a.counters["dropped_busy"] == 5
    a.send(to_b, entry(MIB), network.now)
    assert network.live(5, until=lambda: bool(received(network, b))) < 1
    network.live(60)
    assert a.counters["dropped_undelivered"] == 5
    assert a.next_deadline() == float("inf")


def test_a_restarted_peer_leaves_nothing_behind() -> None:
    network, a, _, to_b = pair()
    a.send(to_b, entry(MIB), network.now)
    network.live(0.02)
    again = network.add(B, TWO)
    to_b, _ = network.shake_hands(A, B)
    a.send(to_b, entry(MIB, 1), network.now)
    network.live(5)
    assert received(network, again) == [entry(MIB, 1)]
    assert a.next_deadline() == float("inf")
    assert a.counters["dropped_undelivered"] == 1
