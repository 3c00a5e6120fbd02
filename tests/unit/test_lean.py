"""What a program pays for a node that it opens: modules and memory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# A node that has formed a cluster with itself, as a program has it that imports nothing else.
PROGRAM = """
import sys
import msgspec
import trio
from trioraft import NodeSettings, open_node

async def main(key_file: str) -> None:
    settings = NodeSettings.of(
        data_dir="data", bind_host="127.0.0.1", peers="127.0.0.1:9", bootstrap_expect=1,
        election_timeout_lower_millis=150, election_timeout_upper_millis=300, heartbeat_repeat_millis=50,
        **({"cluster_key_file": key_file} if key_file else {}),
    )
    async with open_node(msgspec.structs.replace(settings, bind_port=0)) as node:
        async with node.leadership():
            await trio.sleep(0.5)
            print(*(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmRSS:")), *sys.modules)

trio.run(main, sys.argv[1])
"""


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Set up processes whose modules are compiled already: to compile them takes memory too."""
    environ = {name: text for name, text in os.environ.items() if not name.startswith("PYTHON")}
    environ["PYTHONPATH"] = str(Path(__file__).parents[2])
    environ["PYTHONPYCACHEPREFIX"] = str(tmp_path_factory.mktemp("compiled"))
    run_node(tmp_path_factory.mktemp("first"), environ, is_sealed=True)
    return environ


def run_node(folder: Path, environ: dict[str, str], *, is_sealed: bool) -> tuple[int, set[str]]:
    """Open a node in a process of its own; return its memory in kB, and the modules that it has loaded."""
    key = folder / "key"
    key.write_text("0" * 64)
    key.chmod(0o600)
    told = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(key) if is_sealed else ""],
        env=environ,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    memory, *modules = told.stdout.split()
    return int(memory), set(modules)


@pytest.mark.parametrize(("is_sealed", "bound"), [(False, 40_000), (True, 47_000)], ids=["unsealed", "sealed"])
def test_a_node_with_static_peers_takes_little_memory(
    tmp_path: Path, environ: dict[str, str], is_sealed: bool, bound: int
) -> None:
    memory, modules = run_node(tmp_path, environ, is_sealed=is_sealed)
    packages = sorted({name.partition(".")[0] for name in modules})
    assert memory <= bound, f"an open node takes {memory} kB, which must be at most {bound}; loaded: {packages}"
    assert ("cryptography" in modules) == is_sealed


def test_a_node_loads_nothing_that_it_does_not_use(tmp_path: Path, environ: dict[str, str]) -> None:
    _, modules = run_node(tmp_path, environ, is_sealed=False)
    packages = {name.partition(".")[0] for name in modules}
    assert not packages & {
        "asyncio",
        "click",
        "cryptography",
        "dns",
        "email",
        "html",
        "http",
        "rich",
        "structlog",
        "typer",
    }
    ours = {".".join(name.split(".")[:2]) for name in modules if name.startswith("trioraft.")}
    assert not ours & {f"trioraft.{name}" for name in ("benchmark", "cli", "client", "daemon", "kv", "logs", "sync")}
    assert "trioraft.dns.resolver" not in modules


def test_a_daemon_loads_nothing_for_logs_and_names_that_it_does_not_use(environ: dict[str, str]) -> None:
    program = (
        "import sys; from trioraft.cli import main; from trioraft import daemon, logs;"
        " logs.configure_logging('INFO', 'json'); print(*sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True)
    packages = {name.partition(".")[0] for name in told.stdout.split()}
    assert "trioraft" in packages
    assert not packages & {"asyncio", "cryptography", "dns", "rich", "structlog"}


def test_the_log_goes_to_logging_where_the_program_has_not_loaded_structlog() -> None:
    program = """
import logging, sys
from trioraft.logger import Logger
log = Logger("trioraft.test", name="n")
logging.basicConfig(format="%(levelname)s %(name)s %(funcName)s %(message)s", stream=sys.stdout)
def work():
    log.info("hidden")
    log.bind(node=1).warning("odd: 100 %", text="two words")
    import structlog
    log.warning("odd", term=3)
work()
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    first, *others = told.stdout.splitlines()
    assert first == "WARNING trioraft.test work odd: 100 % name='n' node=1 text='two words'"
    assert any("term=3" in line for line in others), "structlog's own form"
