"""What the command shows: tables that fit, the version, completion, and the locks that are held."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from tests.cluster.harness import clean_environment
from tests.unit.node_double import make_status
from trioraft import __version__
from trioraft.address import Address
from trioraft.cli import main as cli
from trioraft.cli.tables import render
from trioraft.client.status import ClusterStatus, ObservedNode
from trioraft.kv.commands import KeyValue
from trioraft.kv.lock_keys import LOCKS, Held, held_locks
from trioraft.messages import MemberStatus, format_id
from trioraft.texts import natural

ROOT = Path(__file__).parents[2]


def ten_nodes() -> ClusterStatus:
    members = tuple(MemberStatus(format_id(i), f"node-{i}", "voter", 0.0) for i in range(1, 11))
    statuses = [make_status(i, role="leader" if i == 2 else "follower", members=members) for i in range(1, 11)]
    return ClusterStatus(
        tuple(
            ObservedNode(status, Address("192.168.100.100", 7300), 0.0, status.name != "node-3")
            for status in statuses
        )
    )


@pytest.mark.parametrize(
    ("width", "missing"), [(80, {"ID", "VERSION"}), (160, set()), (60, {"ID", "VERSION", "LEADER", "HOOK"})]
)
def test_the_table_of_nodes_fits_the_terminal(width: int, missing: set[str]) -> None:
    console = Console(width=width, file=io.StringIO(), highlight=False)
    console.print(render(ten_nodes(), width))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    (heading,) = (line for line in lines if line.startswith("NAME"))
    everything = {"NAME", "ID", "ADDRESS", "ROLE", "TERM", "LEADER", "HOOK", "VERSION", "UP"}
    assert everything - set(heading.split()) == missing
    assert max(map(len, lines)) <= width


def test_nodes_are_sorted_as_people_count_and_the_dead_are_red() -> None:
    console = Console(width=120, file=io.StringIO(), highlight=False, force_terminal=True, color_system="standard")
    console.print(render(ten_nodes(), 120))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b[31mnode-3" in text
    assert sorted(["node-10", "node-2", "node-1", "a2b10", "a2b9", ""], key=natural) == [
        *("", "a2b9", "a2b10", "node-1", "node-2", "node-10")
    ]


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out == f"trioraft {__version__}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands(shell: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from trioraft.cli.main import main; sys.argv[0] = 'trioraft'; main()"],
        env={
            **clean_environment(),
            "PYTHONPATH": str(ROOT),
            "_TRIORAFT_COMPLETE": f"complete_{shell}",
            "COMP_WORDS": "trioraft healthch",
            "COMP_CWORD": "1",
            "_TYPER_COMPLETE_ARGS": "trioraft healthch",
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert "healthcheck" in done.stdout, done.stderr


def test_the_first_key_of_a_lock_is_its_holder() -> None:
    def key(name: str, lease: int, created: int, attached: int) -> KeyValue:
        return KeyValue(f"{LOCKS}{name}/{lease:016x}".encode(), b"", created, created, 1, attached)

    items = [key("job", 8, 12, 8), key("job", 7, 11, 7), key("a/b", 9, 20, 9), key("job", 5, 3, 0)]
    assert held_locks(items) == [Held(b"a/b", 20, 9, 0), Held(b"job", 11, 7, 1)]
