"""The command: what it prints, on which stream, and its exit status."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio

from tests.cluster.harness import clean_environment
from tests.unit.node_double import SERVICE, make_status, open_doubles
from tests.unit.test_client import CommandDouble
from trioraft.cli import main as cli
from trioraft.datagrams.keys import KeyRing, derive_key
from trioraft.datagrams.socket import open_udp
from trioraft.messages import (
    AbandonFormation,
    ClientRequest,
    ClientResponse,
    FormingStatus,
    MemberStatus,
    NodeStatus,
    Transfer,
    format_id,
)

ROOT = Path(__file__).parents[2]
LEADER = make_status(2, role="leader", leader=format_id(2))
FOLLOWER = make_status(1, leader=format_id(2))
FORMATION = FormingStatus(
    waiting_for="the promise of node 3",
    formation="00000000000000f1",
    members=(format_id(1), format_id(2), format_id(3)),
    missing=(format_id(3),),
)
FORMING = (
    make_status(1, role="forming", cluster_id=None, forming=FORMATION),
    make_status(2, role="forming", cluster_id=None, forming=FORMATION),
)


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let no variable of the caller's reach a command, and no default data directory the project."""
    for name in set(os.environ) - set(clean_environment()):
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


async def command(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run the command in a process of its own."""
    done = await trio.run_process(
        [sys.executable, "-m", "trioraft", *arguments],
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        env={**clean_environment(), "PYTHONPATH": str(ROOT), "APP_NAME": SERVICE, **environment},
    )
    return subprocess.CompletedProcess(arguments, done.returncode, done.stdout.decode(), done.stderr.decode())


@asynccontextmanager
async def commanded(*statuses: NodeStatus) -> AsyncIterator[tuple[str, tuple[CommandDouble, ...]]]:
    """Run nodes that tell these statuses and carry out every command; give ``--peers`` too."""
    async with trio.open_nursery() as nursery:
        doubles = tuple([CommandDouble(status, await open_udp("127.0.0.1", 0)) for status in statuses])
        for double in doubles:
            double.answer = lambda request: ClientResponse(request.request, done=True, detail="so be it")
            nursery.start_soon(double.loop.run)
        yield ",".join(str(double.address) for double in doubles), doubles
        nursery.cancel_scope.cancel()


# --- wrong use ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "environment", "named"),
    [
        (["bogus"], {}, ["bogus"]),
        (["status", "--bogus"], {}, ["--bogus"]),
        (["status", "--output", "xml"], {}, ["--output", "xml", "table", "json", "wide", "name"]),
        (["status", "surplus"], {}, ["surplus"]),
        (["status", "--peers", "nowhere"], {}, ["--peers", "nowhere", "host:port"]),
        (["status", "--peers", ""], {}, ["--peers", "host:port"]),
        (["status"], {"PEERS": "a:99999"}, ["PEERS", "99999"]),
        (["status"], {"CLUSTER_KEY": "secret"}, ["CLUSTER_KEY", "64"]),
        (["status"], {"CLUSTER_KEY_FILE": "/nonexistent"}, ["CLUSTER_KEY_FILE", "/nonexistent"]),
        (["status"], {"DNS_SERVERS": "name"}, ["DNS_SERVERS", "name"]),
        (["transfer", "--to"], {}, ["--to"]),
        (["settings", "--reads", "fast"], {}, ["--reads", "fast", "quorum", "lease"]),
        (["settings", "--format", "table"], {}, ["--output", "table", "text", "json"]),
        (["settings", "--timeout", "soon"], {}, ["--timeout", "soon"]),
        (["healthcheck"], {"BIND_PORT": "0"}, ["BIND_PORT", "0", "65535"]),
        (["keygen", "--derive", "vote"], {}, ["--derive", "vote", "client", "status"]),
        (["keygen", "--derive", "client"], {"CLUSTER_KEY": "12"}, ["CLUSTER_KEY", "64"]),
        (["keygen", "--derive", "client"], {"CLUSTER_KEY_FILE": "/nonexistent"}, ["CLUSTER_KEY_FILE", "no such"]),
        (["node"], {"HEARTBEAT_REPEAT_MILLIS": "fast"}, ["HEARTBEAT_REPEAT_MILLIS", "fast"]),
        (["node"], {"SCRIPT_LEADER_PATH": "/nonexistent"}, ["SCRIPT_LEADER_PATH", "/nonexistent"]),
        (["monitor"], {"REFRESH_RATE_MILLIS": "0"}, ["REFRESH_RATE_MILLIS", "'0'"]),
        (["up", "--nodes", "0"], {}, ["--nodes", "0"]),
        (["up", "--base-port", "many"], {}, ["--base-port", "many"]),
        (["up", "--base-port", "65534"], {}, ["--base-port", "65534", "65533"]),
        (["up"], {"LOGGING": "LOUD"}, ["LOGGING", "LOUD"]),
        (["up"], {"REFRESH_RATE_MILLIS": "soon"}, ["REFRESH_RATE_MILLIS", "soon"]),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_wrong_use_is_one_line_and_exit_status_2(
    arguments: list[str],
    environment: Mapping[str, str],
    named: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    status = cli.run(arguments)
    out, err = capsys.readouterr()
    assert (status, out) == (2, "")
    (line,) = err.splitlines()
    missing = [word for word in named if word.lower() not in line.lower()]
    assert not missing, line
    assert "secret" not in line


@pytest.mark.parametrize(
    ("subcommand", "kind", "named"),
    [("node", socket.SOCK_DGRAM, "BIND_PORT"), ("monitor", socket.SOCK_STREAM, "BIND_PORT")],
)
async def test_a_taken_port_is_one_line_and_exit_status_2(
    subcommand: str, kind: socket.SocketKind, named: str, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_INET, kind) as holder:
        holder.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            holder.listen()
        port = str(holder.getsockname()[1])
        done = await command(
            subcommand, BIND_PORT=port, PEERS="127.0.0.1:9", DATA_DIR=str(tmp_path), LOGGING="CRITICAL"
        )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert port in line
    assert named in line


@pytest.mark.parametrize(("kind", "option"), [(socket.SOCK_DGRAM, "base"), (socket.SOCK_STREAM, "monitor")])
def test_up_on_a_taken_port_is_one_line_and_exit_status_2(
    kind: socket.SocketKind, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket(socket.AF_INET, kind) as holder:
        holder.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            holder.listen()
        port = holder.getsockname()[1]
        assert cli.run(["up", "--nodes", "1", f"--{option}-port", str(port)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert str(port) in line
    assert f"--{option}-port" in line


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([]) == cli.run(["--help"]) == 0
    out = capsys.readouterr().out
    for name in (
        "node",
        "monitor",
        "up",
        "status",
        "transfer",
        "settings",
        "healthcheck",
        "keygen",
        "abandon-formation",
        "recover",
        "bench",
    ):
        assert f"\n  {name} " in out


# --- keys ---------------------------------------------------------------------------------------------------


def test_keygen_makes_keys_and_derives_from_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli.run(["keygen"]) == cli.run(["keygen"]) == 0
    first, second = capsys.readouterr().out.split()
    assert first != second
    KeyRing.parse(f"{first},{second}")

    monkeypatch.setenv("CLUSTER_KEY", first)
    assert cli.run(["keygen", "--derive", "client"]) == 0
    assert capsys.readouterr().out.strip() == derive_key(first, "client")

    monkeypatch.delenv("CLUSTER_KEY")
    (tmp_path / "key").write_text(second)
    monkeypatch.setenv("CLUSTER_KEY_FILE", str(tmp_path / "key"))
    assert cli.run(["keygen", "--derive", "status"]) == 0
    assert capsys.readouterr().out.strip() == derive_key(second, "status")


# --- status -------------------------------------------------------------------------------------------------


async def test_status_prints_json() -> None:
    async with open_doubles(FOLLOWER, LEADER) as doubles:
        peers = ",".join(str(double.address) for double in doubles)
        done = await command("status", "--format", "json", "--peers", peers)
    assert (done.returncode, done.stderr) == (0, "")
    shown = json.loads(done.stdout)
    assert (shown["leader"], shown["term"]) == (LEADER.id, 4)
    assert [(node["id"], node["address"]) for node in shown["nodes"]] == [
        (double.status.id, str(double.address)) for double in doubles
    ]


async def test_status_prints_a_table_with_what_somebody_should_look_at() -> None:
    noisy = make_status(1, name="no\x1b[2J[red]", alerts=("a foreign cluster",), disk_stuck=True)
    async with open_doubles(noisy, LEADER) as doubles:
        done = await command("status", PEERS=",".join(str(double.address) for double in doubles))
    assert done.returncode == 0
    for shown in (noisy.id, LEADER.id, "led by node-2 in term 4", "a foreign cluster", "its disk is stuck"):
        assert shown in done.stdout
    assert "no?[2J[red]" in done.stdout, "a name is neither markup nor an escape sequence"


MEMBERS = (
    MemberStatus(format_id(1), "4f1c0de5a9b2", "voter", 0.1),  # what it was called when it joined
    MemberStatus(LEADER.id, LEADER.name, "voter", 0.0),
    MemberStatus(format_id(3), "node-3", "voter", 65.0),
    MemberStatus(format_id(4), "", "learner"),
)


async def test_status_tells_of_the_members_that_do_not_answer_what_the_leader_knows() -> None:
    async with open_doubles(FOLLOWER, make_status(2, role="leader", leader=LEADER.id, members=MEMBERS)) as doubles:
        peers = ",".join(str(double.address) for double in doubles)
        status, members = await command("status", "--peers", peers), await command("members", "--peers", peers)
    assert f"node-3 ({format_id(3)}), voter, does not answer; the leader heard it last 0:01:05 ago" in status.stdout
    assert f"- ({format_id(4)}), learner, does not answer; the leader has never heard it" in status.stdout
    assert "4f1c0de5a9b2" not in status.stdout + members.stdout
    assert [line.split()[0] for line in members.stdout.splitlines()[1:5]] == ["node-1", "node-2", "node-3", "-"]


async def test_status_tells_how_many_voters_answer_when_there_is_no_leader() -> None:
    async with open_doubles(make_status(1, members=MEMBERS)) as (double,):
        status = await command("status", "--peers", str(double.address))
    assert f"node-3 ({format_id(3)}), voter, does not answer\n" in status.stdout
    assert "1 of 3 voters answer" in status.stdout


async def test_status_of_nobody_is_refused_and_says_whom_it_asked() -> None:
    done = await command("status", "--peers", "127.0.0.1:9")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert "127.0.0.1:9" in line


async def test_watch_prints_each_change_until_interrupted() -> None:
    async with open_doubles(FOLLOWER) as (double,):
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "trioraft", "status", "--watch", "--format", "json"],
            stdout=subprocess.PIPE,
            env={**clean_environment(), "PYTHONPATH": str(ROOT), "APP_NAME": SERVICE, "PEERS": str(double.address)},
        )
        assert process.stdout is not None
        read = b""
        try:
            with trio.fail_after(20):
                while read.count(b"\n") < 1:
                    read += await process.stdout.receive_some()
                double.tell(role="candidate", term=9)
                while read.count(b"\n") < 2:
                    read += await process.stdout.receive_some()
                process.send_signal(signal.SIGINT)
                assert await process.wait() == 0
        finally:
            process.kill()
    assert [json.loads(line)["nodes"][0]["role"] for line in read.splitlines()] == ["follower", "candidate"]


# --- health -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "alive", "ready"),
    [
        ({"leader": format_id(2)}, 0, 0),
        ({"role": "candidate", "leader": None}, 0, 1),
        ({"role": "forming", "cluster_id": None, "forming": FORMATION}, 0, 1),
        ({"leader": format_id(2), "disk_stuck": True}, 1, 1),
    ],
    ids=["member", "no leader", "forming", "disk stuck"],
)
async def test_healthcheck_fails_for_a_stuck_disk_and_is_ready_only_for_a_member(
    facts: dict[str, object], alive: int, ready: int
) -> None:
    async with open_doubles(make_status(1, **facts)) as (double,):
        port = str(double.address.port)
        first = await command("healthcheck", BIND_PORT=port, BIND_HOST="0.0.0.0")  # noqa: S104 - as in a container
        second = await command("healthcheck", "--ready", BIND_PORT=port)
    assert (first.returncode, second.returncode) == (alive, ready)
    assert [len(done.stderr.splitlines()) for done in (first, second)] == [alive, ready]


async def test_healthcheck_of_a_dead_node_fails_in_time() -> None:
    started = trio.current_time()
    done = await command("healthcheck", BIND_PORT="9")
    assert done.returncode == 1
    assert "127.0.0.1:9" in done.stderr
    assert trio.current_time() - started < 5


# --- commands -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("to", "wanted"), [((), 0), (("--to", "node-1"), 1), (("--to", FOLLOWER.id), 1)])
async def test_transfer_asks_the_leader(to: tuple[str, ...], wanted: int) -> None:
    async with commanded(FOLLOWER, LEADER) as (peers, (_, leader)):
        done = await command("transfer", "--peers", peers, *to)
    assert (done.returncode, done.stdout.strip()) == (0, "so be it")
    asked = {request.request: request.command for request in leader.requests}  # repeated where the machine is busy
    assert list(asked.values()) == [Transfer(wanted)]


async def test_transfer_that_is_refused_or_has_no_leader_is_exit_status_1() -> None:
    async with commanded(FOLLOWER, LEADER) as (peers, (_, leader)):
        leader.answer = lambda request: ClientResponse(request.request, done=False, detail="not that one")
        refused = await command("transfer", "--peers", peers)
    async with commanded(msgspec.structs.replace(FOLLOWER, leader=None)) as (peers, _):
        leaderless = await command("transfer", "--peers", peers)
    assert (refused.returncode, leaderless.returncode) == (1, 1)
    assert "not that one" in refused.stderr
    assert "no leader" in leaderless.stderr


async def test_transfer_to_an_unknown_node_is_wrong_use() -> None:
    async with commanded(FOLLOWER, LEADER) as (peers, (_, leader)):
        done = await command("transfer", "--peers", peers, "--to", "node-7")
    assert done.returncode == 2
    assert "node-7" in done.stderr
    assert FOLLOWER.id in done.stderr
    assert leader.requests == []


async def test_abandon_formation_tells_first_and_does_it_when_told_to() -> None:
    async with commanded(*FORMING) as (peers, doubles):
        told = await command("abandon-formation", "--peers", peers)
        assert [double.requests for double in doubles] == [[], []]
        done = await command("abandon-formation", "--yes", "--peers", peers)
    assert told.returncode == 2
    assert "--yes" in told.stderr
    for line in told.stdout.splitlines():
        assert "00000000000000f1" in line
        assert format_id(3) in line
    assert done.returncode == 0
    asked: list[list[ClientRequest]] = [double.requests for double in doubles]
    assert [request.command for requests in asked for request in requests] == [AbandonFormation(0xF1)] * 2


@pytest.mark.parametrize(
    ("statuses", "reason"),
    [
        ((*FORMING, make_status(3)), "is a member of cluster"),
        ((make_status(1, cluster_id=None),), "nothing to abandon"),
    ],
)
async def test_abandon_formation_is_refused(statuses: tuple[NodeStatus, ...], reason: str) -> None:
    async with commanded(*statuses) as (peers, doubles):
        done = await command("abandon-formation", "--yes", "--peers", peers)
    assert done.returncode == 1
    assert reason in done.stderr
    assert [double.requests for double in doubles] == [[]] * len(doubles)


# --- keys and values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("get", ""), "KEY='': 0 bytes; allowed: 1 to 1536 bytes"),
        (("delete", "k" * 1537), f"KEY={'k' * 100!r}: 1537 bytes; allowed: 1 to 1536 bytes"),
        (("watch", ""), "KEY='': 0 bytes; allowed: 1 to 1536 bytes"),
        (("list", "k" * 1537), f"KEY={'k' * 100!r}: 1537 bytes; allowed: 1 to 1536 bytes"),
        (("cas", "", "a", "b"), "KEY='': 0 bytes; allowed: 1 to 1536 bytes"),
        (("put", "a", "v" * (2**20 + 1)), "VALUE: too large; allowed: at most 1048576 bytes"),
        (("put", "a", "b", "--lease", "x"), "lease 'x': allowed: 16 hexadecimal digits"),
        (("lock", "n" * 1001, "--", "true"), f"NAME={'n' * 100!r}: allowed: 1 to 1000 bytes"),
    ],
)
def test_keys_and_values_out_of_bounds_are_one_line(
    arguments: tuple[str, ...], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(list(arguments)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"trioraft: {line}")
    assert err.count("\n") == 1
