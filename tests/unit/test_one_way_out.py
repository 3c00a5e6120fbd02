"""The turn of a core is its only way out, and nobody but the member takes it: what is proved is what ships."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from trioraft.consensus import Core

ROOT: Final = Path(__file__).parents[2]
# The member takes turns of its core; the core itself drains what it has gathered.
_MAY: Final = {"trioraft/node/member.py": {"turn"}, "trioraft/consensus/core.py": {"to_send", "to_persist"}}
_WAYS_OUT: Final = {"turn", "to_send", "to_persist"}
_OWNERS: Final = {"core", "_core", "cores", "ledger", "_ledger"}


def taken(source: str) -> Iterator[tuple[int, str]]:
    """List where something is drained of a core or its ledger: the line, and what."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _WAYS_OUT:
            owner = node.func.value
            while isinstance(owner, ast.Subscript):
                owner = owner.value
            name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
            if name in _OWNERS:
                yield node.lineno, node.func.attr


def test_nobody_but_the_member_takes_a_turn_of_a_core() -> None:
    files = [path for directory in ("trioraft", "monitor", "tests") for path in (ROOT / directory).rglob("*.py")]
    assert len(files) > 300
    found = {(path.relative_to(ROOT).as_posix(), way) for path in files for _, way in taken(path.read_text("utf-8"))}
    assert found == {(file, way) for file, ways in _MAY.items() for way in ways}


def test_what_takes_a_turn_elsewhere_is_found() -> None:
    source = "def drain(self):\n    self.process.core.turn(0.0)\n    cores[1].turn(0.0)\n    state.ledger.to_send()\n"
    assert sorted(taken(source)) == [(2, "turn"), (3, "turn"), (4, "to_send")]
    assert not list(taken("member.turn(0.0)\nreads.to_send()\n"))


def test_a_core_has_no_other_way_out() -> None:
    public = {name for name in vars(Core) if not name.startswith("_")}
    assert not public & {"events", "to_send", "to_persist", "to_apply", "wants_disk", "next_deadline"}
