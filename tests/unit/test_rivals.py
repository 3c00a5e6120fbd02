"""Who says to be a node that is reached elsewhere is believed where nodes are looked for, or when that one went."""

from tests.unit.endpoint_network import CLUSTER, HEARTBEAT, ONE, TWO, A, B, C, Network, both_modes
from trioraft.datagrams.endpoint import Domain, DuplicateIdentity, Endpoint, Identity, Received
from trioraft.datagrams.keys import KeyRing


class Scene:
    """A node at A that knows another one at B, and a process at C that claims to be the same."""

    def __init__(self, keys: str | None, *, is_same_process: bool = False) -> None:
        self.network = Network()
        self.node = self.network.add(A, ONE, keys)
        self.node.is_listed = {B}.__contains__
        self.true = self.network.add(B, TWO, keys)
        self.rival = self._at_c(keys, self.true.process if is_same_process else None)

    def _at_c(self, keys: str | None, process: bytes | None) -> Endpoint:
        self.network.at[C] = Endpoint(
            Identity(TWO, "web", "rival"),
            KeyRing.parse(keys) if keys else None,
            entropy=self.network.entropy.randbytes,
            process_id=process,
            cluster_id=CLUSTER,
        )
        return self.network.at[C]

    def restart_rival(self, keys: str | None) -> None:
        self.rival = self._at_c(keys, None)

    def rival_speaks(self, seconds: float) -> None:
        """Greet the node as the rival, and send it a message, five times a second."""
        for _ in range(round(5 * seconds)):
            self.network.now += 0.2
            self.rival.greet(A, Domain.CONSENSUS, self.network.now)
            self.network.run()
            self.speak(self.rival)

    def speak(self, endpoint: Endpoint) -> None:
        peer = endpoint.peer(ONE)
        if peer is not None:
            endpoint.send(peer, HEARTBEAT, self.network.now)
            self.network.run()

    def heard(self) -> int:
        return sum(endpoint is self.node and isinstance(event, Received) for endpoint, event in self.network.events)

    @property
    def reached_at(self) -> object:
        peer = self.node.peer(TWO)
        assert peer is not None
        return peer.address


@both_modes
def test_another_process_is_not_believed_while_the_known_one_answers(keys: str | None) -> None:
    scene = Scene(keys)
    scene.network.shake_hands(A, B)
    for pause in (0, 30):  # also after a while in which nobody had anything to say
        scene.network.now += pause
        scene.restart_rival(keys)
        scene.rival_speaks(5)
        assert scene.reached_at == B
    assert scene.heard() == 0
    assert any(isinstance(event, DuplicateIdentity) for _, event in scene.network.events), "and that is told"
    scene.speak(scene.true)
    assert scene.heard() == 1


def test_a_copy_of_a_process_id_moves_nobody_who_answers() -> None:
    scene = Scene(None, is_same_process=True)
    scene.network.shake_hands(A, B)
    for pause in (0, 30):
        scene.network.now += pause
        scene.rival_speaks(5)
        assert scene.reached_at == B


def test_a_process_that_moves_is_reached_there_soon_after() -> None:
    scene = Scene(None)
    scene.network.shake_hands(A, B)
    scene.network.at[C] = scene.rival = scene.network.at.pop(B)
    scene.rival_speaks(1.6)
    assert scene.reached_at == C
    assert scene.heard() > 0


@both_modes
def test_another_process_is_believed_soon_after_the_known_one_is_gone(keys: str | None) -> None:
    scene = Scene(keys)
    scene.network.shake_hands(A, B)
    del scene.network.at[B]
    scene.rival_speaks(0.8)
    assert scene.reached_at == B
    scene.rival_speaks(0.6)
    assert scene.reached_at == C
    assert scene.heard() > 0
    assert not any(isinstance(event, DuplicateIdentity) for _, event in scene.network.events)


@both_modes
def test_a_process_that_says_no_more_is_asked_when_the_known_one_is_gone(keys: str | None) -> None:
    scene = Scene(keys)
    to_b, _ = scene.network.shake_hands(A, B)
    del scene.network.at[B]
    scene.rival_speaks(0.2)
    for _ in range(15):
        scene.network.now += 0.2
        scene.node.send(to_b, HEARTBEAT, scene.network.now)
        scene.network.run()
    assert scene.reached_at == C


@both_modes
def test_the_first_process_gives_way_to_one_where_nodes_are_looked_for(keys: str | None) -> None:
    scene = Scene(keys)
    scene.rival_speaks(1)
    assert scene.reached_at == C
    scene.network.shake_hands(A, B)
    assert scene.reached_at == B
    scene.rival_speaks(5)
    assert scene.reached_at == B


@both_modes
def test_a_client_accepts_nothing_from_where_it_does_not_look(keys: str | None) -> None:
    network = Network()
    client, node, _ = network.add(A, 0, keys), network.add(B, TWO, keys), network.add(C, TWO, keys)
    client.takes_from = {B}.__contains__
    network.shake_hands(A, B, Domain.CLIENT)
    for _ in range(10):
        network.at[C].greet(A, Domain.CLIENT, network.now)
        network.run()
    assert client.counters["dropped_unlisted"] == 10
    (peer,) = client.peers
    assert (peer.address, peer.process) == (B, node.process)
