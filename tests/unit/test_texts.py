"""Whatever a command prints, nothing in it that others have named steers a terminal."""

import json

import pytest

from trioraft.cli.main import _fail
from trioraft.cli.output import Output, say
from trioraft.cli.streams import tell
from trioraft.texts import escaped, printable, printable_lines

STEERING = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\x7fnode"


def test_lines_stay_lines_and_all_else_that_cannot_be_printed_goes() -> None:
    assert printable(f"a\n{STEERING}") == "a??]0;owned??[2J?31m??node"
    assert printable_lines(f"a\tb\nc\x0bd{STEERING}").splitlines() == ["a\tb", "c?d?]0;owned??[2J?31m??node"]
    assert escaped("node-é\x1b[2J\n") == "node-é\\x1b[2J\\n"


def test_all_that_commands_say_is_printable(capfd: pytest.CaptureFixture[str]) -> None:
    say(f"is {STEERING}", STEERING)
    tell(f"{STEERING} is done\n{STEERING} is left")
    _fail(f"no node {STEERING}", 1)
    output = Output(everything=True)
    output.show(STEERING, STEERING)
    output.show("node-1", json.dumps({"event": "peer", "level": "info", "peer_name": STEERING}))
    output.show("node-1", json.dumps({"event": "script output", "line": STEERING}))
    said = "".join(capfd.readouterr())
    assert len(said.split("\n")) == 8
    assert not [line for line in said.split("\n") if not line.isprintable()]
