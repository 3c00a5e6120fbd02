"""A client that has a derived key tells nodes from others who have that key."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from cryptography.exceptions import InvalidTag

from tests.unit.endpoint_network import CLUSTER, KEY, ONE, TWO, A, B, C, Flight, Network
from tests.unit.node_double import SERVICE, make_status, open_doubles
from trioraft.address import Address
from trioraft.client.client import open_client
from trioraft.datagrams import headers, sender, wire
from trioraft.datagrams.endpoint import Domain, Endpoint, Identity, PeerConfirmed
from trioraft.datagrams.keys import DERIVED, Derived, KeyRing, derive_key
from trioraft.datagrams.sealing import DomainKey
from trioraft.datagrams.sender import UNANSWERED_GREETINGS_MAX
from trioraft.messages import ClientRequest, ClientResponse, Hello, Transfer, format_id
from trioraft.settings.settings import ClientSettings, PeerName
from trioraft.versions import Versions

# What the release before derived from KEY.
FIRST_CLIENT = "client:3343e0002d237b41a618bf7444f4f1894cea00918d20fb7f479d02bb55ec5443"
FIRST_STATUS = "status:8ad14d8fa09ddbc87cfd2dcc5ed31aac30b2c8e75136b5e2b42e3c678ec11a9b"


def domain_of(label: Derived) -> Domain:
    return Domain[label.upper()]


# --- over real sockets --------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", DERIVED)
async def test_a_holder_of_a_derived_key_cannot_pass_as_a_node(label: Derived) -> None:
    """Its double answers with the same key, and is listed as a node is."""
    keys = KeyRing.parse(derive_key(KEY, label))
    status = make_status(1, role="leader", leader=format_id(1))
    async with (
        open_doubles(status, keys=keys) as (thief,),
        open_client(_settings(thief.address, keys=keys)) as client,
    ):
        assert (await client.statuses(0.7)).nodes == ()
        assert client.reachable_nodes() == []
    async with (
        open_doubles(status, keys=KeyRing.parse(KEY)) as (node,),
        open_client(_settings(node.address, keys=keys)) as client,
    ):
        assert [node.status.id for node in (await client.statuses(5)).nodes] == [status.id]


async def test_a_key_of_the_release_before_does_not_distinguish_a_node_from_a_thief() -> None:
    keys = KeyRing.parse(FIRST_CLIENT)
    async with (
        open_doubles(make_status(1), keys=keys) as (thief,),
        open_client(_settings(thief.address, keys=keys)) as client,
    ):
        assert len((await client.statuses(5)).nodes) == 1


def _settings(*addresses: Address, keys: KeyRing) -> ClientSettings:
    return ClientSettings(app_name=SERVICE, peers=tuple(PeerName(*address) for address in addresses), keys=keys)


# --- what is signed -----------------------------------------------------------------------------------------


def with_thief(label: Derived = "client") -> tuple[Network, Endpoint, Endpoint, Endpoint]:
    """Make a node at A, a client at C, and at B a thief with the client's key and a node id."""
    network = Network()
    node, client = network.add(A, ONE), network.add(C, 0, derive_key(KEY, label))
    return network, node, client, network.add(B, TWO, derive_key(KEY, label))


def confirmed(network: Network, endpoint: Endpoint) -> list[int]:
    return [
        event.peer.node_id for one, event in network.events if one is endpoint and isinstance(event, PeerConfirmed)
    ]


def test_a_node_is_confirmed_within_one_round_trip_and_without_an_answer_that_is_too_large() -> None:
    network, _, client, _ = with_thief()
    client.greet(A, Domain.CLIENT, network.now)
    for flight in network.collect():
        network.deliver(flight)
    (answer,) = network.collect()
    network.deliver(answer)
    assert confirmed(network, client) == [ONE]
    assert len(answer.data) <= len(network.flown[0].data)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(lambda hello: {"echo": bytes(8)}, id="for another challenge"),
        pytest.param(lambda hello: {"ephemeral": b"e" * 32}, id="for another ephemeral value"),
        pytest.param(lambda hello: {"ephemeral": b""}, id="without an ephemeral value"),
        pytest.param(lambda hello: {"highest": 3}, id="for an older version"),
        pytest.param(lambda hello: {"signature": b""}, id="without it"),
        pytest.param(lambda hello: {"signature": bytes(64)}, id="with a made-up one"),
        pytest.param(lambda hello: {"signature": hello.signature[:63]}, id="cut short"),
    ],
)
def test_a_signature_is_good_for_one_hello(changed: Callable[[Hello], dict[str, Any]]) -> None:
    """A thief at A's address, with A's process id, changes what A has signed, and seals it again."""
    network, node, client, _ = with_thief()
    key = KeyRing.parse(derive_key(KEY, "client")).first(Domain.CLIENT)

    def sealed_anew(flight: Flight, fields: dict[str, Any]) -> Flight:
        parsed = headers.parse_datagram_untrusted(flight.data)
        assert isinstance(parsed, headers.Sealed)
        cipher = key.hello_cipher(parsed.process)
        envelope = wire.decode_envelope_untrusted(cipher.decrypt(parsed.nonce, parsed.ciphertext, parsed.header))
        assert isinstance(envelope.message, Hello)
        hello = msgspec.structs.replace(envelope.message, **(fields or changed(envelope.message)))
        text = wire.envelope_start(CLUSTER, ONE, envelope.receiver) + wire.encode_message(hello)
        start = headers.sealed_start(key.fingerprint, node.process, is_hello=True)
        header = headers.sealed_header(start, parsed.counter.to_bytes(8), len(text))
        return Flight(header + cipher.encrypt(parsed.nonce, text, header), flight.source, flight.target)

    client.greet(A, Domain.CLIENT, network.now)
    (greeting,) = network.collect()
    network.deliver(greeting)
    (answer,) = network.collect()
    network.deliver(sealed_anew(answer, {}))
    assert confirmed(network, client) == []
    network.deliver(sealed_anew(answer, {"padding": bytes(9)}))  # which is not signed
    assert confirmed(network, client) == [ONE]


def test_a_signature_without_an_ephemeral_value_is_not_believed() -> None:
    """All who have the client's key could derive the session's, and speak for the node."""
    network = Network()
    network.at[A] = Endpoint(Identity(ONE, "web", "node", Versions(1, 3)), KeyRing.parse(KEY), cluster_id=CLUSTER)
    client = network.add(C, 0, derive_key(KEY, "client"))
    client.greet(A, Domain.CLIENT, network.now)
    network.run()
    assert client.counters["dropped_not_of_a_node"] == 1
    assert confirmed(network, client) == []


def opened(flight: Flight, key: DomainKey) -> tuple[headers.Sealed, wire.Envelope] | None:
    """Open a Hello as any holder of the key can."""
    parsed = headers.parse_datagram_untrusted(flight.data)
    if not isinstance(parsed, headers.Sealed) or not parsed.is_hello:
        return None
    plain = key.hello_cipher(parsed.process).decrypt(parsed.nonce, parsed.ciphertext, parsed.header)
    return parsed, wire.decode_envelope_untrusted(plain)


@pytest.mark.parametrize("value", [b"", bytes([9]) + bytes(31)], ids=["no value", "a value of its own"])
def test_a_thief_with_the_key_and_all_datagrams_in_its_hands_speaks_for_no_node(value: bytes) -> None:
    """It puts a value of its own, or none, into what the client greets the node with."""
    network, node, client, _ = with_thief()
    key = KeyRing.parse(derive_key(KEY, "client")).first(Domain.CLIENT)

    def through_the_thief(flight: Flight) -> bool:
        if flight.target != A or (found := opened(flight, key)) is None:
            return True
        parsed, envelope = found
        hello = msgspec.structs.replace(envelope.message, ephemeral=value)
        text = wire.envelope_start(CLUSTER, 0, envelope.receiver) + wire.encode_message(hello)
        start = headers.sealed_start(key.fingerprint, parsed.process, is_hello=True)
        header = headers.sealed_header(start, parsed.counter.to_bytes(8), len(text))
        nonce = headers.NONCE_START + parsed.counter.to_bytes(8)
        network.deliver(Flight(header + key.hello_cipher(parsed.process).encrypt(nonce, text, header), C, A))
        return False

    network.passes = through_the_thief
    client.greet(A, Domain.CLIENT, network.now)
    network.run()
    assert confirmed(network, client) == [ONE]
    # what the node, or the thief in its name, says under a key that the thief can derive
    cipher = key.session_cipher(node.process, client.process)
    text = wire.envelope_start(CLUSTER, ONE, 0) + wire.encode_message(ClientResponse(1, done=True))
    start = headers.sealed_start(key.fingerprint, node.process, is_hello=False)
    header = headers.sealed_header(start, (99).to_bytes(8), len(text))
    said = Flight(header + cipher.encrypt(headers.NONCE_START + (99).to_bytes(8), text, header), A, C)
    assert network.deliver(said) is None
    assert client.counters["dropped_unopened"] == 1
    # The key alone opens nothing that the client says to the node.
    (to_node,) = client.peers
    client.send(to_node, ClientRequest(1, Transfer()), network.now)
    for flight in network.collect():
        parsed = headers.parse_datagram_untrusted(flight.data)
        assert isinstance(parsed, headers.Sealed)
        if not parsed.is_hello:
            with pytest.raises(InvalidTag):
                key.session_cipher(client.process, node.process).decrypt(
                    parsed.nonce, parsed.ciphertext, parsed.header
                )


def test_a_signature_is_good_for_one_process_and_one_datagram() -> None:
    _, node, client, thief = with_thief()
    hello = Hello("web", "node", b"", b"c" * 8, ephemeral=b"e" * 32)
    texts = {
        wire.signed_text(fingerprint, sender, receiver, counter, *ids, hello)
        for fingerprint in (b"aaaa", b"bbbb")
        for sender in (node.process, thief.process)
        for receiver in (client.process, thief.process)
        for counter in (1, 2)
        for ids in ((ONE, 0), (TWO, 0), (ONE, CLUSTER))
    }
    assert len(texts) == 2 * 2 * 2 * 2 * 3


def test_a_node_signs_nothing_for_nodes_and_a_client_signs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    signatures: list[bytes] = []
    signed = sender.Sender._signed

    def noted(box: sender.Sender, to: sender.Origin, hello: Hello) -> Hello:
        found = signed(box, to, hello)
        signatures.append(found.signature)
        return found

    monkeypatch.setattr(sender.Sender, "_signed", noted)
    network = Network()
    network.add(A, ONE), network.add(B, TWO), network.add(C, 0)
    network.shake_hands(A, B)
    assert not any(signatures)
    network.shake_hands(C, A, Domain.ADMIN)
    assert sum(map(bool, signatures)) == 1


def test_a_flood_of_greetings_from_made_up_addresses_is_not_signed_and_keeps_no_client_away() -> None:
    network, node, client, flooder = with_thief("status")
    flooder = Endpoint(Identity(0, "web", "flooder"), KeyRing.parse(derive_key(KEY, "status")))
    for number in range(1000):
        flooder.greet(A, Domain.STATUS, network.now)
        ((data, _),) = flooder.datagrams_to_send()
        node.receive_datagram_untrusted(data, Address(f"198.51.100.{number % 250}", 1024 + number), network.now)
    assert node.counters["not_signed_yet"] == 800
    for data, _ in node.datagrams_to_send():
        assert len(data) < 600
    client.greet(A, Domain.STATUS, network.now)
    network.run()
    assert client.counters["dropped_unsigned"] == 1
    assert confirmed(network, client) == [ONE]
    assert confirmed(network, node) == [0]


# --- nodes and programs of the release before ---------------------------------------------------------------


def older_node(network: Network, address: Address) -> Endpoint:
    """Add a node that knows nothing of keys of the second generation."""
    node = network.add(address, ONE, FIRST_CLIENT)
    node.versions = Versions(1, 3)
    return node


@pytest.mark.parametrize("keys", [KEY, f"{derive_key(KEY, 'admin')} {FIRST_CLIENT}"])
def test_a_client_with_keys_of_both_generations_changes_to_the_second_as_soon_as_the_node_knows_it(keys: str) -> None:
    network = Network()
    older, client = older_node(network, A), network.add(C, 0, keys)
    assert network.shake_hands(C, A, Domain.READER)[0].domain is Domain.FIRST_CLIENT
    assert older.counters["dropped_unknown_key"] == 0
    newer = network.add(A, ONE)  # upgraded
    for _ in range(2):
        assert network.shake_hands(C, A, Domain.READER)[0].domain is Domain.READER
    assert [peer.domain for peer in newer.peers] == [Domain.READER]
    older = older_node(network, A)  # put back
    network.passes = lambda flight: flight.target != A or not headers.is_salted(flight.data)  # it cannot read them
    for _ in range(UNANSWERED_GREETINGS_MAX + 1):
        client.greet(A, Domain.READER, network.now)
        network.run()
    assert [peer.domain for peer in older.peers] == [Domain.FIRST_CLIENT]


@pytest.mark.parametrize("label", DERIVED)
def test_a_client_with_a_key_of_the_second_generation_only_speaks_with_no_node_that_does_not_know_it(
    label: Derived,
) -> None:
    network = Network()
    older, client = older_node(network, A), network.add(C, 0, derive_key(KEY, label))
    for _ in range(10):
        client.greet(A, domain_of(label), network.now)
        network.run()
    assert client.peers == []
    assert older.counters["dropped_unknown_key"] == 10


@pytest.mark.parametrize(
    ("keys", "asked", "found"),
    [
        (FIRST_CLIENT, Domain.ADMIN, Domain.FIRST_CLIENT),
        (FIRST_CLIENT, Domain.STATUS, Domain.FIRST_STATUS),
        (FIRST_STATUS, Domain.STATUS, Domain.FIRST_STATUS),
    ],
)
def test_keys_of_the_release_before_are_still_accepted(keys: str, asked: Domain, found: Domain) -> None:
    network = Network()
    network.add(A, ONE), network.add(C, 0, keys)
    assert [peer.domain for peer in network.shake_hands(C, A, asked)] == [found, found]


def test_another_key_makes_another_session() -> None:
    """Else a holder of the old client key could speak in the session of another process."""
    network, node, client, _ = with_thief()
    thief = Endpoint(
        Identity(0, "web", "thief"), KeyRing.parse(FIRST_CLIENT), process_id=client.process, cluster_id=CLUSTER
    )
    network.at[B] = thief
    network.shake_hands(C, A, Domain.CLIENT)
    network.shake_hands(B, A, Domain.CLIENT)
    assert {peer.address: peer.domain for peer in node.peers} == {C: Domain.CLIENT, B: Domain.FIRST_CLIENT}
