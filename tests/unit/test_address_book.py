"""The addresses that a node greets, and which of them it takes for its own."""

import random
from collections import Counter
from itertools import pairwise

from tests.unit.endpoint_network import ONE, TWO, A, B, Network
from trioraft.address import Address
from trioraft.datagrams.endpoint import Domain, OwnReflection, PeerConfirmed
from trioraft.dns.discovery import Answer
from trioraft.node.address_book import AddressBook, Alerts

PAUSE = 0.5
LATER = Address("192.0.2.77", 7300)


class Greeter:
    """A node at A whose addresses come from static peers: A and B."""

    def __init__(self) -> None:
        self.network = Network()
        self.endpoint = self.network.add(A, ONE)
        self.alerts: list[str] = []
        self.book = AddressBook(self.endpoint, Alerts(lambda text, minor: self.alerts.append(text)))
        self.book.discovered(Answer(frozenset({A, B}), complete=True), self.network.now)

    def live(self, seconds: float) -> None:
        """Greet whoever is due, and take in what comes of it."""
        for _ in range(round(seconds / PAUSE)):
            self.network.now += PAUSE
            self.book.greet(self.network.now, pause=PAUSE)
            before = len(self.network.events)
            self.network.run()
            for endpoint, event in self.network.events[before:]:
                if endpoint is self.endpoint and isinstance(event, OwnReflection):
                    self.book.is_own(event.address, self.network.now)
                if endpoint is self.endpoint and isinstance(event, PeerConfirmed):
                    self.book.answered(event.peer.address, self.network.now)


def test_a_node_finds_its_own_address_and_keeps_it_without_a_complaint() -> None:
    node = Greeter()
    node.network.add(B, TWO)
    node.live(1)
    assert node.book.own == A
    sent = node.endpoint.counters["sent"]
    node.live(300)
    assert node.book.own == A
    assert node.alerts == []
    assert node.endpoint.counters["sent"] - sent < 120, "each address is greeted every 20 s"


def test_nodes_that_were_met_together_are_not_greeted_together_for_ever() -> None:
    greeted: list[tuple[Address, float]] = []

    class Greetings:
        def greet(self, address: Address, domain: Domain, now: float) -> None:
            greeted.append((address, now))

    book = AddressBook(Greetings(), Alerts(lambda text, minor: None), random.Random(1))
    many = frozenset(Address(f"198.18.0.{number}", 7300) for number in range(50))
    now = 1000.0
    book.discovered(Answer(many, complete=True), now)
    for _ in range(200):
        now += PAUSE
        before = len(greeted)
        book.greet(now, pause=PAUSE)
        for address, _ in greeted[before:]:
            book.answered(address, now)
    at = Counter(when for _, when in greeted if when > 1040.0)
    assert max(at.values()) <= 10
    assert all(20 <= later - earlier <= 31 for address in many for earlier, later in _pauses(greeted, address))


def _pauses(greeted: list[tuple[Address, float]], address: Address) -> list[tuple[float, float]]:
    return list(pairwise(when for to, when in greeted if to == address))


def test_an_address_that_a_node_has_no_more_is_not_its_own() -> None:
    node = Greeter()
    node.live(1)
    node.network.at = {LATER: node.endpoint}
    node.live(30)
    assert node.book.own is None
    assert f"nothing answers at {A}" in node.alerts
    node.book.discovered(Answer(frozenset({LATER}), complete=True), node.network.now)
    node.live(1)
    assert node.book.own == LATER


def test_another_node_that_answers_at_what_was_its_own_address_is_believed_at_once() -> None:
    node = Greeter()
    node.live(1)
    node.network.at = {LATER: node.endpoint}
    other = node.network.add(A, TWO)
    node.network.now += 1
    node.network.shake_hands(A, LATER)
    peer = node.endpoint.peer(TWO)
    assert peer is not None
    node.book.answered(peer.address, node.network.now)
    assert node.book.own is None
    before = other.counters["received"]
    node.live(60)
    assert node.book.own is None
    assert other.counters["received"] - before >= 2, "it is greeted as any other node"


def test_a_node_that_stood_still_itself_blames_nobody_for_the_silence() -> None:
    node = Greeter()
    node.network.add(B, TWO)
    node.live(30)
    assert node.book.own == A
    node.network.now += 40
    node.live(60)
    assert node.alerts == []
    assert node.book.own == A


def test_a_node_that_is_gone_after_a_standstill_is_reported_a_while_later() -> None:
    node = Greeter()
    node.network.add(B, TWO)
    node.live(30)
    node.network.now += 40
    node.network.at = {A: node.endpoint}
    node.live(10)
    assert node.alerts == []
    node.live(30)
    assert node.alerts == [f"nothing answers at {B}"]


def test_an_answer_is_still_awaited_after_a_standstill() -> None:
    node = Greeter()
    node.book.greet(node.network.now, pause=PAUSE)
    node.network.now += 40
    node.book.greet(node.network.now, pause=PAUSE)
    assert node.book.awaits_answer(node.network.now + 1, patience=3)
    assert not node.book.awaits_answer(node.network.now + 4, patience=3)


def test_an_address_that_dns_finds_displaces_one_of_strangers_and_is_greeted() -> None:
    node = Greeter()
    other = node.network.add(LATER, TWO)
    for number in range(1000):
        node.book.answered(Address(f"198.18.{number // 250}.{number % 250}", 7300), node.network.now)
    node.book.discovered(Answer(frozenset({A, B, LATER}), complete=True), node.network.now)
    assert node.book.is_listed(LATER)
    node.live(1)
    assert other.counters["received"]
    assert len(node.book._known) == 256
