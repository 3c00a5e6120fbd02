"""Discovery against a real DNS server on real sockets."""

import contextlib
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.unit.dns_server import Behaviour, DnsServer, open_dns_server
from trioraft.address import Address, PeerName
from trioraft.dns.discovery import Answer, Discovery, display_name
from trioraft.dns.resolver import Resolver

FORTY = [f"10.0.1.{number}" for number in range(40)]
FORTY_FOUND = frozenset(Address(host, 7300) for host in FORTY)


@pytest.fixture
async def server() -> AsyncIterator[DnsServer]:
    async with open_dns_server() as server:
        server.set("node.test", "A", ["10.0.0.1", "10.0.0.2", "10.0.0.3"])
        server.set("forty.test", "A", FORTY)
        yield server


def discovery(
    server: DnsServer, name: str = "node.test", *peers: PeerName, interval: float = 1.0, **more: str
) -> Discovery:
    return Discovery(name, peers, 7300, (server.address,), interval, **more)


def hosts(answer: Answer) -> set[str]:
    return {host for host, _ in answer.addresses}


# --- answers ------------------------------------------------------------------------------------------------


async def test_addresses_of_both_families_are_found(server: DnsServer) -> None:
    server.set("node.test", "AAAA", ["fd00::1", "::ffff:10.0.0.9"])
    answer = await discovery(server).look_up()
    assert answer == Answer(
        frozenset(Address(host, 7300) for host in ("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.9", "fd00::1")), True
    )


async def test_no_ipv6_addresses_is_no_problem(server: DnsServer) -> None:
    answer = await discovery(server).look_up()
    assert answer.complete
    assert answer.problems == ()
    assert {query.rdtype for query in server.queries} == {"A", "AAAA"}


async def test_a_single_ipv6_address_is_found(server: DnsServer) -> None:
    server.set("six.test", "AAAA", ["fd00::7"])
    assert await discovery(server, "six.test").look_up() == Answer(frozenset({Address("fd00::7", 7300)}), True)


async def test_services_have_their_own_ports(server: DnsServer) -> None:
    server.set("_raft._udp.test", "SRV", ["0 0 7301 a.test.", "5 0 7302 b.test.", "0 0 7303 a.test."])
    server.set("a.test", "A", ["10.0.0.1"])
    server.set("b.test", "AAAA", ["fd00::2"])
    answer = await discovery(server, "_raft._udp.test").look_up()
    expected = {Address("10.0.0.1", 7301), Address("10.0.0.1", 7303), Address("fd00::2", 7302)}
    assert answer == Answer(frozenset(expected), True)


async def test_a_service_whose_target_is_missing_is_a_problem(server: DnsServer) -> None:
    server.set("_raft._udp.test", "SRV", ["0 0 7301 a.test.", "0 0 7302 gone.test."])
    server.set("a.test", "A", ["10.0.0.1"])
    answer = await discovery(server, "_raft._udp.test").look_up()
    assert answer.addresses == {Address("10.0.0.1", 7301)}
    assert not answer.complete
    assert answer.problems == ("DNS name _raft._udp.test: gone.test.: does not exist",)


async def test_a_service_that_is_said_not_to_exist_is_ignored_and_reported(server: DnsServer) -> None:
    server.set("_raft._udp.test", "SRV", ["0 0 0 ."])
    answer = await discovery(server, "_raft._udp.test").look_up()
    assert answer.addresses == frozenset()
    assert answer.problems == ("DNS name _raft._udp.test: ignored SRV records without a target or a port",)


async def test_of_too_many_services_the_first_hundred_are_found(server: DnsServer) -> None:
    server.set("a.test", "A", ["10.0.0.1"])
    server.set("_raft._udp.test", "SRV", [f"0 0 {7000 + number} a.test." for number in range(120)])
    answer = await discovery(server, "_raft._udp.test", interval=30).look_up()
    assert answer.addresses == {Address("10.0.0.1", 7000 + number) for number in range(100)}
    assert not answer.complete


# --- large answers ------------------------------------------------------------------------------------------


async def test_forty_records_come_over_udp_with_edns(server: DnsServer) -> None:
    answer = await discovery(server, "forty.test").look_up()
    assert answer == Answer(FORTY_FOUND, True)
    assert {query.transport for query in server.queries} == {"udp"}


async def test_a_truncated_answer_is_asked_for_over_tcp(server: DnsServer) -> None:
    server.behave(Behaviour.TRUNCATED)
    answer = await discovery(server, "forty.test").look_up()
    assert answer == Answer(FORTY_FOUND, True)
    assert {query.transport for query in server.queries} == {"udp", "tcp"}


async def test_forty_records_are_found_without_tcp(server: DnsServer) -> None:
    server.behave(Behaviour.TRUNCATED_WITHOUT_TCP)
    assert await discovery(server, "forty.test").look_up() == Answer(FORTY_FOUND, True)


@pytest.mark.parametrize("behaviour", [Behaviour.NO_EDNS, Behaviour.EDNS_IS_DROPPED])
async def test_forty_records_are_found_by_a_server_without_edns(server: DnsServer, behaviour: Behaviour) -> None:
    server.behave(behaviour)
    assert await discovery(server, "forty.test", interval=2.0).look_up() == Answer(FORTY_FOUND, True)
    assert "tcp" in {query.transport for query in server.queries}


async def test_more_records_than_any_datagram_takes_are_found(server: DnsServer) -> None:
    many = [f"10.{number // 250}.{number % 250}.1" for number in range(2000)]
    server.set("many.test", "A", many)
    answer = await discovery(server, "many.test", interval=30).look_up()  # a busy machine may take seconds
    assert hosts(answer) == set(many)


# --- failures -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (Behaviour.SILENT, "no answer from {server}"),
        (Behaviour.GARBAGE, "no answer from {server}"),
        (Behaviour.WRONG_ID, "no answer from {server}"),
        (Behaviour.WRONG_NAME, "no answer from {server}"),
        (Behaviour.GARBAGE_OVER_TCP, "{server}: malformed answer"),
        (Behaviour.SERVFAIL, "{server}: SERVFAIL"),
        (Behaviour.REFUSED, "{server}: REFUSED"),
        (Behaviour.NXDOMAIN, "does not exist"),
    ],
)
async def test_a_failure_is_a_problem_and_takes_no_longer_than_the_interval(
    server: DnsServer, behaviour: Behaviour, reason: str
) -> None:
    server.behave(behaviour)
    looked = discovery(server, interval=0.5)
    started = trio.current_time()
    answers = {await looked.look_up(), await looked.look_up()}
    assert trio.current_time() - started < 1.3
    problem = f"DNS name node.test: {reason.format(server=server.address)}"
    assert answers == {Answer(frozenset(), False, (problem,))}  # the same words each time
    server.behave(Behaviour.ANSWER)
    assert hosts(await looked.look_up()) == {"10.0.0.1", "10.0.0.2", "10.0.0.3"}


async def test_one_family_that_fails_does_not_cost_the_other(server: DnsServer) -> None:
    for behaviour in (Behaviour.SILENT, Behaviour.SERVFAIL):
        server.behave(behaviour, "node.test", "AAAA")
        answer = await discovery(server, interval=0.5).look_up()
        assert hosts(answer) == {"10.0.0.1", "10.0.0.2", "10.0.0.3"}
        assert not answer.complete
        assert len(answer.problems) == 1


async def test_a_name_without_addresses_is_a_problem(server: DnsServer) -> None:
    server.set("text.test", "TXT", ["nothing"])
    answer = await discovery(server, "text.test").look_up()
    assert answer == Answer(frozenset(), False, ("DNS name text.test: has no A or AAAA record",))


async def test_lies_are_not_knocked_at(server: DnsServer) -> None:
    lies = ["0.0.0.0", "224.0.0.1", "255.255.255.255"]  # noqa: S104 - nothing is bound
    server.set("node.test", "A", [*lies, "10.0.0.1"])
    answer = await discovery(server).look_up()
    assert answer.addresses == {Address("10.0.0.1", 7300)}
    assert [problem.split()[3] for problem in answer.problems] == lies


async def test_a_server_that_disappears_and_comes_back(server: DnsServer) -> None:
    looked = discovery(server, interval=0.5)
    server.stop()
    await trio.testing.wait_all_tasks_blocked()
    answer = await looked.look_up()
    assert (answer.addresses, answer.complete) == (frozenset(), False)
    await server.start()
    assert (await looked.look_up()).complete


async def test_a_second_server_answers_for_the_first(server: DnsServer) -> None:
    async with open_dns_server() as dead:
        dead.behave(Behaviour.SILENT)
        looked = Discovery("node.test", (), 7300, (dead.address, server.address), 1.0)
        answer = await looked.look_up()
        assert dead.queries
    assert (len(answer.addresses), answer.complete) == (3, True)


async def test_a_server_that_fails_does_not_hide_the_second(server: DnsServer) -> None:
    async with open_dns_server() as failing:
        failing.behave(Behaviour.SERVFAIL)
        answer = await Discovery("node.test", (), 7300, (failing.address, server.address), 1.0).look_up()
    assert (len(answer.addresses), answer.complete) == (3, True)


async def test_a_slow_server_is_waited_for(server: DnsServer) -> None:
    server.delay = 0.2
    assert (await discovery(server).look_up()).complete


async def test_random_answers_never_raise() -> None:
    """A server that answers every question with its id and then with random bytes."""
    udp = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    await udp.bind(("127.0.0.1", 0))

    async def answer_nonsense() -> None:
        while True:
            data, source = await udp.recvfrom(4096)
            nonsense = os.urandom(2) + bytes([0, 1, 0, os.urandom(1)[0] % 3, 0, 0, 0, 0])
            await udp.sendto(data[:2] + b"\x81" + nonsense[:9] + data[12:] + os.urandom(60), source)

    with udp:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer_nonsense)
            looked = Discovery("node.test", (), 7300, (Address(*udp.getsockname()),), 0.3)
            for _ in range(5):
                assert not (await looked.look_up()).complete
            nursery.cancel_scope.cancel()


# --- static peers -------------------------------------------------------------------------------------------


async def test_numeric_peers_need_no_server() -> None:
    with trio.fail_after(1):
        peers = (PeerName("127.0.0.1", 7301), PeerName("::1", 7302), PeerName("fe80::1%lo", 7303))
        answer = await Discovery("", peers, 7300).look_up()
    assert answer == Answer(frozenset(Address(*peer) for peer in peers), True)


async def test_without_a_name_and_peers_nothing_is_found() -> None:
    assert await Discovery("", (), 7300).look_up() == Answer(frozenset(), True)


async def test_localhost_is_known_without_dns(server: DnsServer) -> None:
    for looked in (
        Discovery("", (PeerName("localhost", 7301),), 7300),
        discovery(server, "", PeerName("localhost", 7301)),
    ):
        answer = await looked.look_up()
        assert Address("127.0.0.1", 7301) in answer.addresses
        assert answer.complete
    assert server.queries == []


async def test_addresses_of_peers_and_of_dns_are_found_together(server: DnsServer) -> None:
    server.set("other.test", "A", ["10.0.5.1"])
    looked = discovery(server, "node.test", PeerName("other.test", 7400), PeerName("10.0.6.1", 7500))
    answer = await looked.look_up()
    assert answer.complete
    assert answer.addresses >= {Address("10.0.5.1", 7400), Address("10.0.6.1", 7500), Address("10.0.0.1", 7300)}
    assert len(answer.addresses) == 5


async def test_a_peer_name_that_does_not_exist_is_reported(server: DnsServer) -> None:
    answer = await discovery(server, "", PeerName("nobody.test", 7400), PeerName("10.0.6.1", 7500)).look_up()
    assert answer == Answer(frozenset({Address("10.0.6.1", 7500)}), False, ("peer nobody.test:7400: does not exist",))


async def test_a_name_that_only_peers_replace_is_no_problem(server: DnsServer) -> None:
    answer = await discovery(server, "trioraft", PeerName("127.0.0.1", 7301)).look_up()
    assert answer == Answer(frozenset({Address("127.0.0.1", 7301)}), False, ())


async def test_a_system_lookup_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """The C library cannot be told to hang, so it is replaced by a thread that does."""
    released = threading.Event()
    calls = []

    def hang(host: str, port: int, **_: object) -> list[object]:
        calls.append(host)
        released.wait(20)
        return []

    monkeypatch.setattr("trioraft.dns.discovery.socket.getaddrinfo", hang)
    looked = Discovery("", (PeerName("slow", 7301), PeerName("10.0.0.1", 7302)), 7300, (), 0.1)
    try:
        for _ in range(12):
            answer = await looked.look_up()
            assert answer == Answer(
                frozenset({Address("10.0.0.1", 7302)}), False, ("peer slow:7301: no answer in time",)
            )
    finally:
        released.set()
    assert len(calls) == 8  # no more threads than that, however often it is asked


# --- the system's configuration -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda path: None,
        lambda path: path.write_text(""),
        lambda path: path.write_text("search test\noptions ndots:x timeout:\n"),
        lambda path: path.write_text("nameserver nonsense\n"),
        lambda path: path.write_text("search ..\nnameserver 127.0.0.1\n"),
        lambda path: path.write_bytes(os.urandom(200) + b"\xff\xfe"),
        lambda path: path.mkdir(),
    ],
    ids=["missing", "empty", "no-server", "bad-server", "bad-search", "binary", "directory"],
)
async def test_a_broken_resolv_conf_is_a_problem(tmp_path: Path, make: Callable[[Path], object]) -> None:
    path = tmp_path / "resolv.conf"
    make(path)
    looked = Discovery("node.test", (), 7300, resolv_conf=str(path))
    (problem,) = (await looked.look_up()).problems
    assert problem.startswith("DNS name node.test: no DNS server is known: ")
    assert str(path) in problem
    assert "\n" not in problem
    assert await looked.reverse_name("10.0.0.1") is None
    with_peers = Discovery("node.test", (PeerName("127.0.0.1", 7301),), 7300, resolv_conf=str(path))
    assert (await with_peers.look_up()).problems == ()


def candidates(tmp_path: Path, text: str, name: str) -> list[str]:
    path = tmp_path / "resolv.conf"
    path.write_text(text)
    return [candidate.to_text() for candidate in Resolver((), str(path), 1.0).candidates(name)]


KUBERNETES = "nameserver 10.96.0.10\nsearch prod.svc.cluster.local svc.cluster.local\noptions ndots:5\n"
DOCKER = "nameserver 127.0.0.11\nsearch example.org\noptions ndots:0\n"


async def test_names_are_searched_for_as_the_system_does(tmp_path: Path) -> None:
    assert candidates(tmp_path, KUBERNETES, "node") == [
        "node.prod.svc.cluster.local.",
        "node.svc.cluster.local.",
        "node.",
    ]
    assert candidates(tmp_path, KUBERNETES, "node.prod.svc.cluster.local.") == ["node.prod.svc.cluster.local."]
    assert candidates(tmp_path, DOCKER, "node") == ["node.", "node.example.org."]
    default = "nameserver 10.0.0.1\ndomain example.org\n"
    assert candidates(tmp_path, default, "node") == ["node.example.org.", "node."]
    assert candidates(tmp_path, default, "a.node") == ["a.node.", "a.node.example.org."]
    labels = ".".join(["a" * 60] * 4)
    assert candidates(tmp_path, default, labels) == [labels + "."]


@pytest.fixture
async def system_server() -> AsyncIterator[DnsServer]:
    """Run a server where resolv.conf can name one: at port 53."""
    async with contextlib.AsyncExitStack() as stack:
        try:
            server = await stack.enter_async_context(open_dns_server("127.53.7.1", 53))
        except* PermissionError:
            pytest.skip("only root may listen at port 53")
        yield server


def through_the_system(server: DnsServer, tmp_path: Path, text: str, name: str) -> Discovery:
    path = tmp_path / "resolv.conf"
    path.write_text(f"nameserver {server.address.host}\n{text}\n")
    return Discovery(name, (), 7300, (), 1.0, resolv_conf=str(path))


async def test_the_search_list_is_used(system_server: DnsServer, tmp_path: Path) -> None:
    system_server.set("node.svc.local", "A", ["10.0.9.1"])
    looked = through_the_system(system_server, tmp_path, "search prod.svc.local svc.local\noptions ndots:5", "node")
    assert await looked.look_up() == Answer(frozenset({Address("10.0.9.1", 7300)}), True)
    system_server.behave(Behaviour.SERVFAIL, "node.prod.svc.local")
    assert await looked.look_up() == Answer(frozenset({Address("10.0.9.1", 7300)}), True)
    system_server.forget("node.svc.local")
    (problem,) = (await looked.look_up()).problems
    assert problem == "DNS name node: 127.53.7.1: SERVFAIL"
    system_server.set("node", "A", ["10.0.9.2"])
    assert hosts(await looked.look_up()) == {"10.0.9.2"}


async def test_a_family_without_records_is_not_searched_for_elsewhere(
    system_server: DnsServer, tmp_path: Path
) -> None:
    system_server.set("node", "A", ["10.0.9.1"])
    system_server.set("node.example.org", "AAAA", ["fd00::bad"])
    looked = through_the_system(system_server, tmp_path, "search example.org\noptions ndots:0", "node")
    assert hosts(await looked.look_up()) == {"10.0.9.1"}


async def test_resolv_conf_is_read_again(system_server: DnsServer, tmp_path: Path) -> None:
    system_server.set("node", "A", ["10.0.9.1"])
    looked = through_the_system(system_server, tmp_path, "", "node.")
    assert hosts(await looked.look_up()) == {"10.0.9.1"}
    (tmp_path / "resolv.conf").unlink()
    assert (await looked.look_up()).problems
    through_the_system(system_server, tmp_path, "", "node.")
    assert (await looked.look_up()).complete


async def test_given_servers_are_asked_for_names_without_a_search_list(server: DnsServer) -> None:
    server.set("node", "A", ["10.0.9.1"])
    assert hosts(await discovery(server, "node").look_up()) == {"10.0.9.1"}
    assert {query.name for query in server.queries} == {"node."}


# --- again and again ----------------------------------------------------------------------------------------


async def test_changes_are_seen_although_records_say_they_last(server: DnsServer) -> None:
    answers: list[Answer] = []
    changed = trio.Event()

    def report(answer: Answer) -> None:
        answers.append(answer)
        if hosts(answer) == {"10.0.0.9"}:
            changed.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(discovery(server, interval=0.2).run, report)
        await trio.sleep(0.1)
        assert len(answers) == 1
        server.set("node.test", "A", ["10.0.0.9"])
        with trio.fail_after(2):
            await changed.wait()
        nursery.cancel_scope.cancel()


async def test_the_first_looks_follow_each_other_quickly(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = []

    async def look_up(_: Discovery) -> Answer:
        return Answer(frozenset(), True)

    monkeypatch.setattr(Discovery, "look_up", look_up)
    with trio.move_on_after(12):
        await Discovery("node.test", (), 7300, (), 2.0).run(lambda _: times.append(trio.current_time()))
    assert [round(time - times[0], 2) for time in times] == [0, 0.25, 0.75, 1.75, 3.75, 5.75, 7.75, 9.75, 11.75]


async def test_static_addresses_are_told_once(autojump_clock: trio.testing.MockClock) -> None:
    answers: list[Answer] = []
    with trio.move_on_after(12):
        await Discovery("", (PeerName("127.0.0.1", 1),), 7300, (), 2.0).run(answers.append)
    assert answers == [Answer(frozenset({Address("127.0.0.1", 1)}), True)]


# --- names --------------------------------------------------------------------------------------------------


async def test_an_address_has_the_first_of_its_names_or_none(server: DnsServer) -> None:
    server.set("7.0.0.10.in-addr.arpa", "PTR", ["project-node-1.network."])
    server.set("8.0.0.10.in-addr.arpa", "PTR", ["b.test.", "a.test."])
    looked = discovery(server, interval=0.5)
    assert await looked.reverse_name("10.0.0.7") == "project-node-1.network"
    assert await looked.reverse_name("10.0.0.8") == "a.test"
    assert await looked.reverse_name("10.0.0.9") is None
    assert await looked.reverse_name("fe80::1%lo") is None
    for behaviour in (Behaviour.SILENT, Behaviour.SERVFAIL, Behaviour.GARBAGE):
        server.behave(behaviour)
        assert await looked.reverse_name("10.0.0.7") is None


async def test_loopback_is_not_named_by_the_system(tmp_path: Path, server: DnsServer) -> None:
    server.set("1.0.0.127.in-addr.arpa", "PTR", ["node-1.test."])
    assert await discovery(server).reverse_name("127.0.0.1") == "node-1.test"
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 127.0.0.1\n")
    with trio.fail_after(0.1):
        assert await Discovery("", (), 7300, resolv_conf=str(path)).reverse_name("127.0.0.1") is None


@pytest.mark.parametrize(
    ("text", "service", "shown"),
    [
        ("proj-node-1.net", "node", "node-1"),
        ("project_node_2.project_default", "node", "node_2"),
        ("my-node-7-node-12.net", "node", "node-12"),
        ("node-1", "node", "node-1"),
        ("proj-node-1.net", "node.example.org", "node-1"),
        ("proj-node-1.net", "_raft._udp.node", "node-1"),
        ("proj-other-1.net", "node", "proj-other-1"),
        ("proj-supernode-1.net", "node", "proj-supernode-1"),
        ("proj-node-1-run-8c1f.net", "node", "proj-node-1-run-8c1f"),
        ("stack_node.3.k2j3h4k5.stack_default", "tasks.node", "node.3"),
        ("trioraft-0.headless.default.svc.cluster.local", "headless", "trioraft-0"),
        ("trioraft-0.headless.default.svc.cluster.local", "trioraft", "trioraft-0"),
        ("3f2a9c11d0b7", "node", "3f2a9c11d0b7"),
        ("host.example.org", "", "host"),
        ("10.0.0.1", "node", "10.0.0.1"),
        ("", "node", ""),
        ("a.b", "a.b", "a"),
    ],
)
def test_a_name_is_shown_as_people_call_the_node(text: str, service: str, shown: str) -> None:
    assert display_name(text, service) == shown
