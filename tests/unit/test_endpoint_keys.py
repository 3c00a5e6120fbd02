"""What keys an endpoint seals under, and what the holder of each key may say to it."""

import pytest

from tests.unit.endpoint_network import (
    CLUSTER,
    HEARTBEAT,
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
from trioraft.datagrams.endpoint import (
    Domain,
    Endpoint,
    Identity,
    Received,
)
from trioraft.datagrams.keys import DERIVED, KeyRing, derive_key
from trioraft.messages import (
    AppendEntriesResponse,
    ClientRequest,
    PreVoteRequest,
    StatusRequest,
    Transfer,
    VoteRequest,
)

OTHER_KEY = "5c" * 32
ANSWER = AppendEntriesResponse(7, 42, 3.0, 12, False)
SMALL = PreVoteRequest(2, 1, 2, 1)


def test_keys_are_rotated_without_downtime() -> None:
    old, new = KEY, OTHER_KEY
    steps = [(old, f"{old},{new}"), (f"{old},{new}", f"{new},{old}"), (f"{new},{old}", new)]
    for before, after in steps:
        network = Network()
        a, b = network.add(A, ONE, before), network.add(B, TWO, after)
        to_b, to_a = network.shake_hands(A, B)
        a.send(to_b, HEARTBEAT, network.now)
        b.send(to_a, ANSWER, network.now)
        network.run()
        assert (received(network, b), received(network, a)) == ([HEARTBEAT], [ANSWER])


def test_a_node_seals_under_its_own_first_key_whatever_the_peer_uses() -> None:
    network = Network()
    network.add(A, ONE, f"{KEY},{OTHER_KEY}")
    b = network.add(B, TWO, f"{OTHER_KEY},{KEY}")
    _, to_a = network.shake_hands(A, B)
    b.send(to_a, ANSWER, network.now)
    [flight] = network.collect()
    first = KeyRing.parse(OTHER_KEY).first(Domain.CONSENSUS)
    assert flight.data[4:8] == first.fingerprint
    assert isinstance(network.deliver(flight), Received)


def test_a_client_with_a_key_derived_from_the_old_one_is_answered_under_it() -> None:
    network = Network()
    node = network.add(A, ONE, f"{OTHER_KEY},{KEY}")
    client = network.add(C, 0, derive_key(KEY, "client"))
    to_node, to_client = network.shake_hands(C, A, Domain.CLIENT)
    client.send(to_node, ClientRequest(1, Transfer()), network.now)
    node.send(to_client, HEARTBEAT, network.now)
    network.run()
    assert received(network, node) == [ClientRequest(1, Transfer())]
    assert client.counters["dropped_not_allowed"] == 1  # opened, although a node may not say that to a client


@pytest.mark.parametrize(
    ("domain", "allowed"),
    [
        (Domain.ADMIN, [StatusRequest, ClientRequest]),
        (Domain.CLIENT, [StatusRequest, ClientRequest]),
        (Domain.READER, [StatusRequest, ClientRequest]),
        (Domain.STATUS, [StatusRequest]),
    ],
)
@both_modes
def test_a_client_may_say_what_its_domain_allows(keys: str | None, domain: Domain, allowed: list[type]) -> None:
    network = Network()
    key = keys and derive_key(keys, next(label for label in DERIVED if label == domain.label))
    node, client = network.add(A, ONE, keys), network.add(C, 0, key)
    to_node, _ = network.shake_hands(C, A, domain)
    for message in (
        VoteRequest(9, 9, 9, True),
        HEARTBEAT,
        ANSWER,
        StatusRequest(),
        ClientRequest(1, Transfer()),
    ):
        client.send(to_node, message, network.now)
    network.run()
    assert [type(message) for message in received(network, node)] == allowed
    assert node.counters["dropped_not_allowed"] == 5 - len(allowed)


def test_a_stolen_monitor_key_does_not_vote_whatever_id_and_process_it_claims() -> None:
    network, a, b = pair(KEY)
    network.shake_hands(A, B)
    thief = Endpoint(
        Identity(TWO, "web", "thief"),
        KeyRing.parse(derive_key(KEY, "status")),
        process_id=b.process,
        cluster_id=CLUSTER,
    )
    network.at[C] = thief
    with pytest.raises(ValueError, match="no key for consensus traffic"):
        thief.greet(A, Domain.CONSENSUS, network.now)
    thief.greet(A, Domain.STATUS, network.now)
    assert network.run() == []
    assert a.counters["dropped_misaddressed"] == 1
    current = a.peer(TWO)
    assert current is not None
    assert current.address == B


def test_a_client_takes_no_orders() -> None:
    for keys in (None, KEY):
        network = Network()
        node, client = network.add(A, ONE, keys), network.add(C, 0, keys)
        _, to_client = network.shake_hands(C, A, Domain.CLIENT)
        node.send(to_client, StatusRequest(), network.now)
        node.send(to_client, HEARTBEAT, network.now)
        network.run()
        assert received(network, client) == []
        other = network.add(B, 0, keys)
        other.greet(C, Domain.CLIENT, network.now)  # two clients have nothing to say to each other
        assert network.run() == []
        other.greet(C, Domain.CONSENSUS, network.now)
        assert network.run() == []
