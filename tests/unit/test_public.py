"""The public names of `import trioraft`."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import trioraft
from trioraft.nurseries import bare_errors


def test_every_public_name_is_there_and_documented() -> None:
    assert sorted(trioraft.__all__) == trioraft.__all__
    for name in trioraft.__all__:
        thing = getattr(trioraft, name)
        assert thing.__doc__, name
        assert name in dir(trioraft)
    with pytest.raises(AttributeError, match="module 'trioraft' has no attribute 'nothing'"):
        trioraft.nothing  # noqa: B018


def test_the_version_is_that_of_the_package() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert trioraft.__version__ == project["version"]


def test_names_are_loaded_when_they_are_asked_for() -> None:
    program = """
import sys, trioraft
assert set(trioraft.__all__) <= set(dir(trioraft))
assert "trio" not in sys.modules and "msgspec" not in sys.modules
from trioraft import ClientSettings
assert "trioraft.node.node" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_type_checker_sees_the_public_names(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "from trioraft import Client, NodeSettings, open_client, open_node\n"
        "reveal_type(open_client)\nreveal_type(open_node)\nreveal_type(Client.put)\n"
        "NodeSettings.of(bind_port='7300')\n"
    )
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), str(program)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert "[trioraft.client.client.Client" in checked.stdout, checked.stdout + checked.stderr
    assert "[trioraft.node.node.Node" in checked.stdout
    assert "PutResult" in checked.stdout
    assert 'Argument "bind_port" to "of" of "NodeSettings" has incompatible type "str"' in checked.stdout


async def test_an_exception_of_a_body_comes_out_of_a_client_unchanged() -> None:
    with pytest.raises(LookupError, match="mine") as caught:
        async with trioraft.open_client(trioraft.ClientSettings.of(peers="127.0.0.1:9")):
            raise LookupError("mine")
    assert caught.value.__context__ is None


async def test_a_node_that_cannot_start_says_so_without_a_group(tmp_path: Path) -> None:
    settings = trioraft.NodeSettings.of(
        bind_host="192.0.2.1", unsealed="allowed", data_dir=tmp_path, peers="127.0.0.1:9"
    )
    with pytest.raises(trioraft.NodeError, match=r"^BIND_HOST=192.0.2.1 BIND_PORT=7300: "):
        async with trioraft.open_node(settings):
            raise AssertionError("it has started")


def test_several_errors_stay_together() -> None:
    both = ExceptionGroup("two", [ValueError(), KeyError()])
    with pytest.raises(ExceptionGroup) as caught, bare_errors():
        raise both
    assert caught.value is both
    cause, inner = OSError("why"), ValueError("inner")
    inner.__cause__ = cause
    with pytest.raises(ValueError, match="inner") as alone, bare_errors():
        raise ExceptionGroup("one", [inner])
    assert alone.value.__cause__ is cause
    assert alone.value.__context__ is None
