"""The commands about members: what they print, whom they ask, and their exit status."""

import json
from collections.abc import Collection
from typing import Any

import msgspec
import pytest

from tests.unit.node_double import make_status
from tests.unit.test_cli import command, commanded
from tests.unit.test_client import CommandDouble
from trioraft.address import Address
from trioraft.cli import main as cli
from trioraft.client.status import ClusterStatus, ObservedNode
from trioraft.members.changes import Survival, survives
from trioraft.messages import ChangeMember, ClientResponse, MemberStatus, NodeStatus, StepDown, format_id


def member(number: int, kind: str = "voter", name: str = "") -> MemberStatus:
    return MemberStatus(format_id(number), name or f"node-{number}", kind)


# Node 4 is a member and does not answer, node 5 waits to be joined.
MEMBERS = (member(1), member(2), member(3, "learner"), member(4))
LEADER = make_status(2, role="leader", leader=format_id(2), members=MEMBERS, last_index=17)
FOLLOWER = make_status(1, leader=format_id(2), members=MEMBERS, last_index=16)
LEARNER = make_status(3, role="learner", leader=format_id(2), members=MEMBERS, last_index=15)
WAITING = make_status(5, role="forming", cluster_id=None)
CLUSTER = (FOLLOWER, LEADER, LEARNER, WAITING)


def asked(double: CommandDouble) -> list[object]:
    """Return what a node was asked to do; a request is repeated where the machine is busy."""
    return list({request.request: request.command for request in double.requests}.values())


def refuse(doubles: Collection[CommandDouble], detail: str) -> None:
    for double in doubles:
        double.answer = lambda request: ClientResponse(request.request, done=False, detail=detail)


# --- looking ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [("members",), ("members", "list")])
async def test_the_members_are_a_table_with_what_the_cluster_survives(arguments: tuple[str, ...]) -> None:
    async with commanded(*CLUSTER) as (peers, (_, leader, *_)):
        done = await command(*arguments, "--peers", peers)
    assert (done.returncode, done.stderr) == (0, "")
    heading, *rows, can = done.stdout.splitlines()
    assert heading.split()[:4] == ["NAME", "ID", "KIND", "ROLE"]
    assert [row.split()[:4] for row in rows] == [
        ["node-1", format_id(1), "voter", "follower"],
        ["node-2", format_id(2), "voter", "leader"],
        ["node-3", format_id(3), "learner", "learner"],
        ["node-4", format_id(4), "voter", "unreachable"],
    ]
    assert str(leader.address) in rows[1]
    assert "17" in rows[1]
    assert can == "2 of 3 voters answer: survives no failure"


async def test_the_members_are_json_for_programs() -> None:
    async with commanded(*CLUSTER) as (peers, doubles):
        done = await command("members", "list", "--format", "json", PEERS=peers)
        default = await command("members", "--format", "json", PEERS=peers)
    assert (done.returncode, done.stderr) == (0, "")
    listed = json.loads(done.stdout)
    assert [(one["id"], one["name"], one["kind"], one["role"], one["last_index"]) for one in listed] == [
        (format_id(1), "node-1", "voter", "follower", 16),
        (format_id(2), "node-2", "voter", "leader", 17),
        (format_id(3), "node-3", "learner", "learner", 15),
        (format_id(4), "node-4", "voter", None, None),
    ]
    assert [one["address"] for one in listed] == [*(str(double.address) for double in doubles[:3]), None]
    assert json.loads(default.stdout) == listed


async def test_without_a_leader_the_newest_log_says_who_is_a_member() -> None:
    older = make_status(1, role="candidate", members=(member(1), member(2)), last_index=9)
    newer = make_status(2, members=(member(1), member(2), member(4)), last_index=10)
    async with commanded(older, newer) as (peers, _):
        done = await command("members", "--peers", peers)
    assert done.returncode == 0
    *rows, can = done.stdout.splitlines()
    assert [row.split()[0] for row in rows[1:]] == ["node-1", "node-2", "node-4"]
    assert can == "no leader"


@pytest.mark.parametrize("arguments", [("list",), ("add", "node-5")])
async def test_where_nobody_is_a_member_that_is_one_line(arguments: tuple[str, ...]) -> None:
    async with commanded(WAITING) as (peers, (double,)):
        done = await command("members", *arguments, "--peers", peers)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert "no node that answers is a member of a cluster" in line
    assert double.requests == []


async def test_without_an_answer_every_command_names_the_address() -> None:
    for arguments in (("members",), ("members", "remove", "node-1"), ("step-down",)):
        done = await command(*arguments, "--peers", "127.0.0.1:9")
        assert (done.returncode, done.stdout) == (1, "")
        (line,) = done.stderr.splitlines()
        assert "127.0.0.1:9" in line


# --- what a cluster survives --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kinds", "alive", "failures", "words"),
    [
        ("v", 1, 0, "1 voter: survives no failure"),
        ("vv", 2, 0, "2 voters: survives no failure"),
        ("vvv", 3, 1, "3 voters: survives 1 failure"),
        ("vvv", 2, 0, "2 of 3 voters answer: survives no failure"),
        ("vvv", 1, 0, "1 of 3 voters answer: no quorum"),
        ("vvvv", 4, 1, "4 voters: survives 1 failure"),
        ("vvvv", 3, 0, "3 of 4 voters answer: survives no failure"),
        ("vvvvvvv", 7, 3, "7 voters: survives 3 failures"),
        ("vvvvvvv", 6, 2, "6 of 7 voters answer: survives 2 failures"),
        # Learners do not count, alive or not.
        ("lvvv", 3, 0, "2 of 3 voters answer: survives no failure"),
        ("vvvll", 3, 1, "3 voters: survives 1 failure"),
        # While voters change, both quorums are needed: the one that is nearer to its end counts.
        ("vnno", 4, 0, "2 old voters: survives no failure"),
        ("vvnoo", 3, 0, "2 of 4 old voters answer: no quorum"),
        ("vvvnno", 4, 0, "3 of 4 old voters answer: survives no failure"),
        ("vvoooonn", 6, 0, "2 of 4 voters answer: no quorum"),
    ],
)
def test_a_cluster_survives_what_its_quorums_allow(kinds: str, alive: int, failures: int, words: str) -> None:
    names = {"v": "voter", "l": "learner", "n": "new voter", "o": "old voter"}
    members = [member(number, names[kind]) for number, kind in enumerate(kinds, 1)]
    assert survives(members, {one.id for one in members[:alive]}) == Survival(failures, words)


async def test_every_command_says_what_is_survived_now_and_shows_who_does_not_answer() -> None:
    members = (*(member(number) for number in range(1, 6)), member(9, "learner"))
    leader = make_status(1, role="leader", leader=format_id(1), members=members)
    others = [make_status(number, leader=format_id(1), members=members) for number in range(2, 5)]
    async with commanded(leader, *others) as (peers, _):
        table = await command("status", "--peers", peers)
        document = await command("status", "--format", "json", "--peers", peers)
        listed = await command("members", "--peers", peers)
    words = "4 of 5 voters answer: survives 1 failure"
    assert table.stdout.splitlines()[0].endswith(f"led by node-1 in term 4; {words}")
    assert listed.stdout.splitlines()[-1] == words
    rows = [line.split()[:4] for line in table.stdout.splitlines()]
    assert ["node-5", format_id(5), "-", "unreachable"] in rows
    assert ["node-9", format_id(9), "-", "unreachable"] in rows
    told = json.loads(document.stdout)
    assert (told["survives"], told["survives_text"]) == (1, words)
    assert [(one["name"], one["reachable"]) for one in told["members"]] == [
        *((f"node-{number}", True) for number in range(1, 5)),
        ("node-5", False),
        ("node-9", False),
    ]


@pytest.mark.parametrize(
    ("silent", "facts", "failures"),
    [
        (0.4, None, 1),  # the leader hears it, and who asks does not
        (4.0, None, 0),
        (None, None, 0),
        (4.0, {}, 1),
        (11.0, {}, 0),  # it answers, and the leader has not heard it for long
        (None, {}, 1),
        (0.4, {"disk_stuck": True}, 0),
        (0.4, {"role": "removed"}, 0),
        (0.4, {"cluster_id": None, "role": "forming"}, 0),
        (0.4, {"cluster_id": "00000000000000ff"}, 0),
    ],
)
def test_who_takes_part_is_judged_by_what_it_says_and_by_what_the_leader_hears(
    silent: float | None, facts: dict[str, Any] | None, failures: int
) -> None:
    third = MemberStatus(format_id(3), "node-3", "voter", silent)
    leader = make_status(1, role="leader", leader=format_id(1), members=(member(1), member(2), third))
    answering = [leader, make_status(2), *([make_status(3, **facts)] if facts is not None else [])]
    nodes = tuple(ObservedNode(status, Address("127.0.0.1", 7300), 0.0) for status in answering)
    survival = ClusterStatus(nodes).survival
    assert survival is not None
    assert survival.failures == failures


async def test_without_a_leader_nothing_is_said_to_survive() -> None:
    async with commanded(FOLLOWER) as (peers, _):
        table = await command("status", "--peers", peers)
        document = await command("status", "--format", "json", "--peers", peers)
    assert "survives" not in table.stdout
    assert json.loads(document.stdout)["survives"] is None


# --- changing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "who", "node"),
    [
        ("add", "node-5", 5),
        ("add", format_id(5), 5),
        ("promote", "node-3", 3),
        ("demote", format_id(1), 1),
        ("remove", "node-1", 1),
        ("remove", "node-4", 4),  # a member that does not answer
        ("remove", format_id(4), 4),
    ],
)
async def test_the_leader_is_asked_to_change_a_member(action: str, who: str, node: int) -> None:
    async with commanded(*CLUSTER) as (peers, doubles):
        done = await command("members", action, who, "--peers", peers)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "so be it", "")
    assert [asked(double) for double in doubles] == [[], [ChangeMember(action, node)], [], []]  # type: ignore[arg-type]


@pytest.mark.parametrize(("action", "who"), [("add", "node-7"), ("remove", format_id(7)), ("demote", "node-\x1b[2J")])
async def test_an_unknown_node_is_wrong_use_and_nobody_is_asked(action: str, who: str) -> None:
    async with commanded(FOLLOWER, LEADER) as (peers, doubles):
        done = await command("members", action, who, "--peers", peers)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert f"NODE={who.replace(chr(27), '?')}" in line
    assert FOLLOWER.id in line
    assert [double.requests for double in doubles] == [[], []]


def came_back(kind: str | None) -> tuple[NodeStatus, ...]:
    """Let member 4 be gone, and come back without its data as node 6, a member of a kind or none."""
    members = (member(1), member(2), member(4), *([member(6, kind, "node-4")] if kind else []))
    leader = make_status(2, role="leader", leader=format_id(2), members=members)
    return leader, make_status(
        6, name="node-4", role="learner" if kind else "forming", members=members if kind else ()
    )


@pytest.mark.parametrize(("action", "node"), [("add", 6), ("remove", 4)])
async def test_of_two_nodes_with_one_name_the_fitting_one_is_meant(action: str, node: int) -> None:
    async with commanded(*came_back(None)) as (peers, (leader, _)):
        done = await command("members", action, "node-4", "--peers", peers)
    assert done.returncode == 0, done.stderr
    assert asked(leader) == [ChangeMember(action, node)]  # type: ignore[arg-type]


async def test_the_name_of_two_members_is_wrong_use_although_one_of_them_is_gone() -> None:
    async with commanded(*came_back("learner")) as (peers, (leader, _)):
        done = await command("members", "remove", "node-4", "--peers", peers)
        chosen = await command("members", "remove", format_id(6), "--peers", peers)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"say which: {format_id(4)}, {format_id(6)}" in done.stderr
    assert chosen.returncode == 0
    assert asked(leader) == [ChangeMember("remove", 6)]


@pytest.mark.parametrize("arguments", [("members", "remove", "node-1"), ("step-down",)])
async def test_what_the_leader_refuses_is_one_line_and_exit_status_1(arguments: tuple[str, ...]) -> None:
    async with commanded(*CLUSTER) as (peers, doubles):
        refuse(doubles, "not \x1b[2Jnow")
        done = await command(*arguments, "--peers", peers)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.endswith("refused: not ?[2Jnow")


@pytest.mark.parametrize("arguments", [("members", "remove", "node-1"), ("step-down",)])
@pytest.mark.parametrize("leader", [None, FOLLOWER.leader], ids=["there is none", "it does not answer"])
async def test_without_a_leader_nothing_is_changed(arguments: tuple[str, ...], leader: str | None) -> None:
    follower = msgspec.structs.replace(FOLLOWER, leader=leader)
    async with commanded(follower, WAITING) as (peers, doubles):
        done = await command(*arguments, "--peers", peers)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    told = "does not lead; the leader is node" if leader else "there is no leader that could do that"
    assert told in line
    assert [double.requests for double in doubles] == [[], []]


async def test_step_down_asks_the_leader() -> None:
    async with commanded(*CLUSTER) as (peers, doubles):
        done = await command("step-down", "--peers", peers)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "so be it", "")
    assert [asked(double) for double in doubles] == [[], [StepDown()], [], []]


# --- wrong use ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["members", "bogus"], "bogus"),
        (["members", "--bogus"], "--bogus"),
        (["members", "list", "surplus"], "surplus"),
        (["members", "list", "--format", "xml"], "xml"),
        (["members", "--format", "xml"], "xml"),
        (["members", "add"], "ID|NAME"),
        (["members", "promote"], "ID|NAME"),
        (["members", "demote"], "ID|NAME"),
        (["members", "remove"], "ID|NAME"),
        (["members", "remove", "node-1", "node-2"], "node-2"),
        (["members", "remove", "node-1", "--peers", "nowhere"], "nowhere"),
        (["step-down", "surplus"], "surplus"),
        (["step-down", "--peers", "nowhere"], "nowhere"),
    ],
    ids=" ".join,
)
def test_wrong_use_is_one_line(arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert named.lower() in line.lower()


def test_help_names_every_command_about_members(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["members", "--help"]) == 0
    out = capsys.readouterr().out
    for name in ("list", "add", "promote", "demote", "remove"):
        assert f"\n  {name} " in out
    assert cli.run([]) == 0
    out = capsys.readouterr().out
    for name in ("members", "step-down"):
        assert f"\n  {name} " in out
