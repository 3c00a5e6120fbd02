"""What the package needs without its extras: the library little, and the command says what it lacks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.supply.locks import of_extras

ROOT = Path(__file__).parents[2]
# The modules of the packages that only extras bring, by what these import them as.
OF_EXTRAS = (
    "typer",
    "rich",
    "structlog",
    "quart",
    "quart_trio",
    "quart_schema",
    "hypercorn",
    "jinja2",
    "flask_swagger_ui",
    "h11",
    "prometheus_client",
)


def run_without(modules: tuple[str, ...], code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code where modules are absent."""
    hidden = f"import sys; sys.modules.update(dict.fromkeys({modules!r}))\n"
    environ = {name: text for name, text in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [sys.executable, "-c", hidden + code, *arguments],
        env=environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_modules_of_all_extras_are_hidden_below() -> None:
    named = {requirement.name.replace("-", "_") for requirement in of_extras("cli", "etcd", "monitor")}
    assert named == set(OF_EXTRAS)


def test_the_library_needs_no_extra() -> None:
    """Every public name is loaded, and the modules behind them that load others late."""
    code = (
        "import trioraft\n"
        "for name in trioraft.__all__: getattr(trioraft, name)\n"
        "import trioraft.daemon, trioraft.hooks.launcher, trioraft.kv.service, trioraft.logger"
    )
    done = run_without(OF_EXTRAS, code)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("absent", "arguments", "line"),
    [
        (OF_EXTRAS, ("--help",), "trioraft: this needs the package 'typer': pip install 'trioraft[cli]'\n"),
        (
            ("quart", "hypercorn", "jinja2"),
            ("monitor",),
            "trioraft: this needs the package 'hypercorn': pip install 'trioraft[monitor]'\n",
        ),
    ],
)
def test_the_command_says_in_one_line_which_extra_to_install(
    absent: tuple[str, ...], arguments: tuple[str, ...], line: str
) -> None:
    done = run_without(absent, "import trioraft.__main__ as main; main.main()", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.replace("'jinja2'", "'hypercorn'").replace("'quart'", "'hypercorn'") == line
