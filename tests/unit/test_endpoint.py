"""Handshakes and sessions, as stories."""

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
    Flight,
    Network,
    both_modes,
    pair,
    received,
)
from trioraft.address import Address
from trioraft.datagrams.endpoint import (
    Domain,
    DuplicateIdentity,
    Endpoint,
    ForeignService,
    Identity,
    NotOpened,
    OwnReflection,
    PeerConfirmed,
    Received,
    encode_message,
)
from trioraft.messages import (
    AppendEntriesResponse,
    PreVoteRequest,
)

OTHER_KEY = "5c" * 32
ANSWER = AppendEntriesResponse(7, 42, 3.0, 12, False)
SMALL = PreVoteRequest(2, 1, 2, 1)

# --- shaking hands ------------------------------------------------------------------------------------------


@both_modes
def test_three_datagrams_confirm_both_sides(keys: str | None) -> None:
    network, a, b = pair(keys)
    a.greet(B, Domain.CONSENSUS, network.now)
    events = network.run()
    assert len(network.flown) == 3
    first, second = events
    assert isinstance(first, PeerConfirmed)
    assert isinstance(second, PeerConfirmed)
    assert (first.peer.node_id, first.peer.process, first.peer.address) == (TWO, b.process, B)
    assert (second.peer.node_id, second.peer.process, second.peer.address) == (ONE, a.process, A)
    assert (second.peer.service, second.peer.name, second.peer.cluster_id) == ("web", "name-111", CLUSTER)
    assert (first.previous, second.previous) == (None, None)
    assert a.peer(TWO) is first.peer
    assert a.peers == [first.peer]
    assert a.peer(TWO, Domain.CLIENT) is None


@both_modes
def test_messages_go_both_ways_with_the_cluster_of_the_sender(keys: str | None) -> None:
    network, a, b = pair(keys)
    to_b, to_a = network.shake_hands(A, B)
    a.send(to_b, HEARTBEAT, network.now)
    a.cluster_id = 77
    a.send(to_b, encode_message(HEARTBEAT), network.now)
    network.run()
    clusters = [e.cluster_id for _, e in network.events if isinstance(e, Received)]
    assert clusters == [CLUSTER, 77]
    assert received(network, b) == [HEARTBEAT, HEARTBEAT]
    assert to_a.cluster_id == 77
    b.send(to_a, ANSWER, network.now)
    network.run()
    assert received(network, a) == [ANSWER]


@both_modes
def test_both_may_greet_at_once(keys: str | None) -> None:
    network, a, b = pair(keys)
    a.greet(B, Domain.CONSENSUS, network.now)
    b.greet(A, Domain.CONSENSUS, network.now)
    network.run()
    to_b, to_a = a.peer(TWO), b.peer(ONE)
    assert to_b is not None
    assert to_a is not None
    a.send(to_b, HEARTBEAT, network.now)
    b.send(to_a, ANSWER, network.now)
    network.run()
    assert (received(network, b), received(network, a)) == ([HEARTBEAT], [ANSWER])


@both_modes
def test_every_lost_datagram_of_a_handshake_is_made_good_by_the_next_greeting(keys: str | None) -> None:
    for lost in range(3):
        network, a, b = pair(keys)
        a.greet(B, Domain.CONSENSUS, network.now)
        for number in range(3):
            [flight] = network.collect()
            if number == lost:
                break
            network.deliver(flight)
        network.now += 1
        to_b, _ = network.shake_hands(A, B)
        a.send(to_b, HEARTBEAT, network.now)
        network.run()
        assert received(network, b) == [HEARTBEAT]


@both_modes
def test_a_renewal_reports_the_peer_as_it_was_before(keys: str | None) -> None:
    network, a, b = pair(keys)
    to_b, _ = network.shake_hands(A, B)
    network.now += 20
    b.name = "renamed"
    b.cluster_id = 99
    a.greet(B, Domain.CONSENSUS, network.now)
    renewed = network.run()[0]
    assert isinstance(renewed, PeerConfirmed)
    assert renewed.peer is to_b
    assert (to_b.name, to_b.cluster_id, to_b.confirmed_at) == ("renamed", 99, network.now)
    assert renewed.previous is not None
    assert (renewed.previous.name, renewed.previous.confirmed_at) == ("name-222", network.now - 20)


def test_names_of_any_length_shake_hands() -> None:
    for keys in (None, KEY):
        network = Network()
        network.add(A, ONE, keys, name="\N{SNOWMAN}" * 300, service="\N{SNOWMAN}" * 255)
        network.add(B, TWO, keys, name="\N{SNOWMAN}" * 300, service="\N{SNOWMAN}" * 255)
        to_b, to_a = network.shake_hands(A, B)
        assert (len(to_b.name), len(to_a.name)) == (255, 255)


@pytest.mark.parametrize("service", ["", "x" * 256])
def test_a_service_name_that_is_empty_or_too_long_is_refused(service: str) -> None:
    with pytest.raises(ValueError, match=r"the service name .* must have 1 to 255 characters"):
        Endpoint(Identity(ONE, service, ""), None)


# --- without a confirmation -----------------------------------------------------------------------------------


@both_modes
def test_after_a_pause_the_next_message_brings_the_session_back(keys: str | None) -> None:
    network, a, b = pair(keys)
    to_b, _ = network.shake_hands(A, B)
    network.now += 61
    a.send(to_b, HEARTBEAT, network.now)
    network.run()
    assert received(network, b) == []
    assert b.counters["dropped_unconfirmed"] == 1
    a.send(to_b, HEARTBEAT, network.now)
    network.run()
    assert received(network, b) == [HEARTBEAT]


@both_modes
def test_a_burst_after_a_pause_is_asked_once(keys: str | None) -> None:
    network, a, b = pair(keys)
    to_b, _ = network.shake_hands(A, B)
    network.now += 61
    for _ in range(50):
        a.send(to_b, HEARTBEAT, network.now)
    before = b.counters["sent"]
    network.run()
    assert b.counters["dropped_unconfirmed"] == 50
    assert b.counters["sent"] - before <= 4


@both_modes
def test_a_confirmation_lasts_a_minute(keys: str | None) -> None:
    network, a, b = pair(keys)
    to_b, _ = network.shake_hands(A, B)
    network.now += 60
    a.send(to_b, HEARTBEAT, network.now)
    network.run()
    assert received(network, b) == [HEARTBEAT]


@both_modes
def test_a_node_that_forgot_a_peer_asks_it_to_prove_itself(keys: str | None) -> None:
    network, a, b = pair(keys)
    to_b, to_a = network.shake_hands(A, B)
    b.forget(to_a)
    assert b.peers == []
    b.send(to_a, ANSWER, network.now)
    assert b.counters["dropped_no_session"] == 1
    a.send(to_b, HEARTBEAT, network.now)
    network.run()
    assert received(network, b) == []
    again = b.peer(ONE)
    assert again is not None
    a.send(to_b, HEARTBEAT, network.now)
    b.send(again, ANSWER, network.now)
    network.run()
    assert (received(network, b), received(network, a)) == ([HEARTBEAT], [ANSWER])


@both_modes
def test_a_message_from_another_address_is_not_acted_upon_until_that_is_confirmed(keys: str | None) -> None:
    network, a, b = pair(keys)
    to_b, to_a = network.shake_hands(A, B)
    del network.at[A]
    network.at[C] = a
    network.now += 5
    a.send(to_b, HEARTBEAT, network.now)
    network.run()
    assert received(network, b) == []
    assert to_a.address == C
    assert to_a.addresses == (A, C)
    a.send(to_b, HEARTBEAT, network.now)
    b.send(to_a, ANSWER, network.now)
    network.run()
    assert (received(network, b), received(network, a)) == ([HEARTBEAT], [ANSWER])


@both_modes
def test_a_node_that_moves_while_it_runs_is_found_by_what_it_says_however_small_that_is(keys: str | None) -> None:
    network, a, b = pair(keys)
    to_b, to_a = network.shake_hands(A, B)
    a.send(to_b, SMALL, network.now)
    network.run()
    del network.at[A]
    network.at[C] = a
    network.now += 15  # nobody has had anything to say
    for number in range(5):
        network.now += 0.3
        a.send(to_b, SMALL, network.now)
        network.run()
        has_moved = to_a.address == C
        assert has_moved == (number == 4 or bool(keys)), "unsealed there is no room for a challenge in an answer"
        if has_moved:
            break
    a.send(to_b, SMALL, network.now)
    b.send(to_a, ANSWER, network.now)
    network.run()
    assert (received(network, b)[1:], received(network, a)) == ([SMALL], [ANSWER])


@both_modes
def test_a_node_that_answers_now_and_then_is_not_greeted_again(keys: str | None) -> None:
    network, a, b = pair(keys)
    to_b, to_a = network.shake_hands(A, B)
    b.send(to_a, ANSWER, network.now)
    network.run()
    for number in range(40):
        network.now += 0.3 if number < 20 else 1.5  # of single messages nobody knows whether there is an answer
        a.send(to_b, SMALL, network.now)
        if number % 3 == 0 and number < 20:
            b.send(to_a, ANSWER, network.now)
        flown = len(network.flown)
        network.run()
        assert len(network.flown) - flown == 1 + (number % 3 == 0 and number < 20)


def test_a_peer_with_two_addresses_is_reached_where_it_speaks_from() -> None:
    network, a, b = pair(KEY)
    to_b, to_a = network.shake_hands(A, B)
    del network.at[A]
    network.at[C] = a
    b.greet(C, Domain.CONSENSUS, network.now)
    network.run()
    assert to_a.address == C
    network.at = {A: a, B: b}
    network.now += 5
    for address, pause in ((A, 0.0), (C, 0.5), (C, 1.5)):  # it moves when the usual one was silent for 1 s
        network.now += pause
        a.send(to_b, HEARTBEAT, network.now)
        [(data, _)] = a.datagrams_to_send()
        network.deliver(Flight(data, address, B))
        assert to_a.address == (C if pause > 1 else A)
    assert len(received(network, b)) == 3


@both_modes
def test_nothing_is_sent_to_a_client_whose_confirmation_has_lapsed(keys: str | None) -> None:
    network = Network()
    node, client = network.add(A, ONE, keys), network.add(C, 0, keys)
    _, to_client = network.shake_hands(C, A, Domain.CLIENT)
    received_before = client.counters["received"]
    network.now += 61
    node.send(to_client, HEARTBEAT, network.now)
    assert network.run() == []
    assert node.counters["dropped_unconfirmed_receiver"] == 1
    assert client.counters["received"] == received_before


# --- restarts -----------------------------------------------------------------------------------------------


@both_modes
def test_a_restarted_process_replaces_the_session_at_both_ends_at_once(keys: str | None) -> None:
    network, a, _ = pair(keys)
    old, _ = network.shake_hands(A, B)
    restarted = network.add(B, TWO, keys)
    a.send(old, HEARTBEAT, network.now)
    restarted.greet(A, Domain.CONSENSUS, network.now)
    events = network.run()
    confirmed = [e for e in events if isinstance(e, PeerConfirmed) and e.peer.node_id == TWO]
    assert confirmed[0].previous is not None
    assert confirmed[0].previous.process == old.process
    new = a.peer(TWO)
    assert new is not None
    assert new.process == restarted.process
    a.send(old, HEARTBEAT, network.now)
    assert a.counters["dropped_no_session"] == 1
    a.send(new, HEARTBEAT, network.now)
    network.run()
    assert received(network, restarted) == [HEARTBEAT]


@both_modes
def test_nothing_sent_to_or_by_an_earlier_process_is_acted_upon(keys: str | None) -> None:
    network, a, b = pair(keys)
    to_b, to_a = network.shake_hands(A, B)
    a.send(to_b, HEARTBEAT, network.now)
    b.send(to_a, ANSWER, network.now)
    network.run()
    network.now += 1
    earlier = list(network.flown)
    restarted = network.add(B, TWO, keys)
    network.shake_hands(B, A)
    before = len(network.events)
    for flight in earlier:
        network.deliver(flight)
    network.run()
    assert not [e for _, e in network.events[before:] if isinstance(e, Received)]
    assert a.peer(TWO) is not None
    assert {e.peer.process for _, e in network.events[before:] if isinstance(e, PeerConfirmed)} <= {
        a.process,
        restarted.process,
    }
    if keys:
        assert restarted.counters["dropped_unopened"] == 1  # the heartbeat that its predecessor got


@both_modes
def test_a_restart_at_another_address_is_followed_at_once(keys: str | None) -> None:
    network, a, _ = pair(keys)
    network.shake_hands(A, B)
    del network.at[B]
    restarted = network.add(C, TWO, keys)
    network.shake_hands(C, A)
    new = a.peer(TWO)
    assert new is not None
    assert (new.process, new.address) == (restarted.process, C)
    a.send(new, HEARTBEAT, network.now)
    network.run()
    assert received(network, restarted) == [HEARTBEAT]
    assert not [e for _, e in network.events if isinstance(e, DuplicateIdentity)]


# --- one id, two processes ----------------------------------------------------------------------------------


@both_modes
def test_two_live_processes_with_one_id_are_reported_and_the_later_is_refused(keys: str | None) -> None:
    network, a, b = pair(keys)
    network.shake_hands(A, B)
    copied = network.add(C, TWO, keys)
    copied.greet(A, Domain.CONSENSUS, network.now)
    events = network.run()
    assert DuplicateIdentity(TWO, (B, C)) in events
    current = a.peer(TWO)
    assert current is not None
    assert current.process == b.process
    to_a = copied.peer(ONE)
    assert to_a is not None
    copied.send(to_a, ANSWER, network.now)
    network.run()
    assert received(network, a) == []
    assert a.counters["dropped_duplicate_identity"] == 1
    a.send(current, HEARTBEAT, network.now)
    network.run()
    assert received(network, b) == [HEARTBEAT]
    # It is told again for as long as both live, and the later one takes over when the earlier has gone.
    for _ in range(5):
        network.now += 20
        a.greet(B, Domain.CONSENSUS, network.now)
        network.run()
        copied.greet(A, Domain.CONSENSUS, network.now)
        assert DuplicateIdentity(TWO, (B, C)) in network.run()
    del network.at[B]
    network.now += 61
    network.shake_hands(C, A)
    current = a.peer(TWO)
    assert current is not None
    assert current.process == copied.process


@both_modes
def test_a_late_hello_of_a_dead_process_does_not_make_it_live(keys: str | None) -> None:
    network, a, b = pair(keys)
    network.shake_hands(A, B)
    network.now += 1
    b.greet(A, Domain.CONSENSUS, network.now)
    network.passes = lambda flight: flight.source != B or flight.target != A or len(flight.data) > 400
    network.run()
    late = network.flown[-1]  # the echo that would confirm it again
    assert late.source == B
    network.passes = lambda flight: True
    del network.at[B]
    restarted = network.add(C, TWO, keys)
    network.shake_hands(C, A)
    assert network.deliver(late) is None
    current = a.peer(TWO)
    assert current is not None
    assert current.process == restarted.process


@both_modes
def test_another_live_process_with_our_own_id_is_reported(keys: str | None) -> None:
    network, a, _ = pair(keys)
    network.add(C, ONE, keys)
    a.greet(C, Domain.CONSENSUS, network.now)
    events = network.run()
    assert DuplicateIdentity(ONE, (C,)) in events
    assert DuplicateIdentity(ONE, (A,)) in events
    assert a.peers == []


# --- others than peers -----------------------------------------------------------------------------------------


@both_modes
def test_a_process_recognizes_its_own_address(keys: str | None) -> None:
    network, a, _ = pair(keys)
    alias = Address("198.51.100.1", 7300)
    network.at[alias] = a
    a.greet(alias, Domain.CONSENSUS, network.now)
    [(data, _)] = a.datagrams_to_send()
    assert network.deliver(Flight(data, A, alias)) == OwnReflection(alias)
    assert a.peers == []
    assert a.datagrams_to_send() == []


@both_modes
def test_a_reflected_greeting_does_not_make_the_address_of_a_peer_ours(keys: str | None) -> None:
    network, a, _ = pair(keys)
    network.shake_hands(A, B)
    greeting = network.flown[0]
    assert network.deliver(Flight(greeting.data, B, A)) is None
    assert a.peer(TWO) is not None


@both_modes
def test_both_sides_report_another_service_and_make_no_session(keys: str | None) -> None:
    network = Network()
    a, b = network.add(A, ONE, keys), network.add(B, TWO, keys, service="shop")
    a.greet(B, Domain.CONSENSUS, network.now)
    assert network.run() == [ForeignService(B, "shop", TWO), ForeignService(A, "web", ONE)]
    assert a.peers == b.peers == []


def test_another_service_is_not_believed_before_it_is_confirmed() -> None:
    for keys in (None, KEY):
        network = Network()
        network.add(A, ONE, keys)
        network.add(B, TWO, keys, service="shop").greet(A, Domain.CONSENSUS, network.now)
        [flight] = network.collect()
        assert network.deliver(Flight(flight.data, C, A)) is None


@pytest.mark.parametrize(
    ("ours", "theirs", "reason"),
    [
        (KEY, OTHER_KEY, "it is sealed under a key that this process does not have"),
        (None, KEY, "it is sealed under a key that this process does not have"),
        (KEY, None, "it is not sealed, and this process has a key"),
    ],
)
def test_other_keys_are_reported_once_in_a_while_and_never_answered(
    ours: str | None, theirs: str | None, reason: str
) -> None:
    network = Network()
    a, b = network.add(A, ONE, ours), network.add(B, TWO, theirs)
    for _ in range(3):
        b.greet(A, Domain.CONSENSUS, network.now)
    assert network.run() == [NotOpened(B, reason)]
    network.now += 10
    b.greet(A, Domain.CONSENSUS, network.now)
    assert network.run() == [NotOpened(B, reason)]
    assert a.counters["sent"] == 0
    assert a.counters["dropped_unknown_key"] + a.counters["dropped_unsealed"] == 4
