"""How many sessions an endpoint keeps, and what it counts."""

from collections import Counter

from tests.unit.endpoint_network import (
    KEY,
    ONE,
    TWO,
    A,
    B,
    C,
    Network,
    both_modes,
    pair,
    received,
)
from trioraft.address import Address
from trioraft.datagrams.endpoint import (
    Domain,
    EncodedMessage,
)
from trioraft.datagrams.sessions import HOST_MAX, SESSIONS_MAX
from trioraft.messages import (
    FRAGMENTED_MAX,
    AppendEntriesResponse,
    ClientRequest,
    PreVoteRequest,
    Transfer,
)

OTHER_KEY = "5c" * 32
ANSWER = AppendEntriesResponse(7, 42, 3.0, 12, False)
SMALL = PreVoteRequest(2, 1, 2, 1)


@both_modes
def test_clients_are_bounded_and_the_longest_unconfirmed_goes_first(keys: str | None) -> None:
    network = Network()
    node = network.add(A, ONE, keys)
    network.add(B, TWO, keys)
    network.shake_hands(A, B)
    for number in range(SESSIONS_MAX + 20):
        address = Address(f"198.51.{100 + number // 200}.{number % 200 + 1}", 4000)
        network.add(address, 0, keys)
        network.shake_hands(address, A, Domain.STATUS)
        del network.at[address]
    clients = [peer for peer in node.peers if not peer.node_id]
    assert len(clients) == SESSIONS_MAX
    assert clients[0].address == Address("198.51.100.21", 4000)
    assert node.peer(TWO) is not None


@both_modes
def test_clients_of_one_domain_do_not_take_the_place_of_those_of_another(keys: str | None) -> None:
    network = Network()
    node = network.add(A, ONE, keys)
    client = network.add(C, 0, keys)
    to_node, _ = network.shake_hands(C, A, Domain.CLIENT)
    for _ in range(SESSIONS_MAX):
        network.now += 0.01
        network.add(B, 0, keys)
        network.shake_hands(B, A, Domain.STATUS)
    client.send(to_node, ClientRequest(1, Transfer()), network.now)
    network.run()
    assert received(network, node) == [ClientRequest(1, Transfer())]
    assert len(node.peers) == SESSIONS_MAX + 1


def test_one_host_does_not_take_the_place_of_others() -> None:
    network = Network()
    node = network.add(A, ONE, None)
    others = {Address(f"198.51.100.{number}", 4000) for number in range(1, 5)}
    for address in others:
        network.add(address, 0, None)
        network.shake_hands(address, A, Domain.STATUS)
    for _ in range(SESSIONS_MAX + 50):
        network.add(C, 0, None)
        network.shake_hands(C, A, Domain.STATUS)
    addresses = Counter(peer.address for peer in node.peers)
    assert addresses == {C: SESSIONS_MAX - len(others), **dict.fromkeys(others, 1)}


def test_one_host_keeps_its_share_where_there_are_many() -> None:
    network = Network()
    node = network.add(A, ONE, None)
    for host in range(SESSIONS_MAX // HOST_MAX + 1):
        address = Address(f"198.51.100.{host + 1}", 4000)
        for _ in range(HOST_MAX if host else HOST_MAX // 2):
            network.add(address, 0, None)
            network.shake_hands(address, A, Domain.STATUS)
    for _ in range(HOST_MAX):
        network.add(C, 0, None)
        network.shake_hands(C, A, Domain.STATUS)
    hosts = Counter(peer.address.host for peer in node.peers)
    assert hosts.total() == SESSIONS_MAX
    assert hosts[C.host] == HOST_MAX
    assert max(hosts.values()) == HOST_MAX


@both_modes
def test_members_are_kept_however_many_nodes_are_made_up(keys: str | None) -> None:
    network = Network()
    node = network.add(A, ONE, keys)
    network.add(B, TWO, keys)
    network.shake_hands(A, B)
    node.members = frozenset({ONE, TWO})
    for number in range(SESSIONS_MAX + 5):
        network.add(C, 1000 + number, keys)
        network.shake_hands(C, A)
    assert len(node.peers) == SESSIONS_MAX
    peer = node.peer(TWO)
    assert peer is not None
    assert peer.address == B


@both_modes
def test_a_message_that_is_too_large_for_fragments_is_dropped_and_counted(keys: str | None) -> None:
    network, a, _ = pair(keys)
    to_b, _ = network.shake_hands(A, B)
    a.send(to_b, EncodedMessage(bytes(FRAGMENTED_MAX + 1)), network.now)
    assert a.counters["dropped_oversized"] == 1
    assert a.datagrams_to_send() == []


def test_every_dropped_datagram_is_counted_by_its_reason() -> None:
    network, a, _ = pair(KEY)
    network.shake_hands(A, B)
    greeting = network.flown[0].data
    for data in (b"", b"rubbish", greeting[:-1], b"\x86\x02" + greeting[2:], greeting[:-1] + b"\xff"):
        a.receive_datagram_untrusted(data, B, network.now)
    dropped = {name: count for name, count in a.counters.items() if name.startswith("dropped")}
    assert dropped == {"dropped_malformed": 3, "dropped_version": 1, "dropped_unopened": 1}
    assert a.counters["received"] == 6
    assert a.counters["sent"] == 2
