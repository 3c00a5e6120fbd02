"""Files with keys: made for their owner alone, whole or not at all, and warned of where every user may read them."""

import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.harness import ROOT, clean_environment, free_ports
from trioraft.cli import main as cli
from trioraft.datagrams.keys import KeyRing, derive_key, generate_key
from trioraft.settings.key_files import why_not_secret


@pytest.fixture(autouse=True)
def _usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def public() -> Iterator[Path]:
    """Make a directory that every user may go to, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- made ---------------------------------------------------------------------------------------------------


def test_a_key_is_written_for_its_owner_alone_and_never_over_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, derived = tmp_path / "cluster.key", tmp_path / "status.key"
    assert cli.run(["keygen", "--output", str(file)]) == 0
    key = file.read_text()
    KeyRing.parse(key)
    monkeypatch.setenv("CLUSTER_KEY_FILE", str(file))
    assert cli.run(["keygen", "--derive", "status", "--output", str(derived)]) == 0
    assert derived.read_text() == derive_key(key, "status") + "\n"
    assert mode(file) == mode(derived) == 0o600
    assert capsys.readouterr() == ("", "")

    assert cli.run(["keygen", "--output", str(file)]) == 2
    assert capsys.readouterr().err == f"trioraft: {file}: exists already; give another name, or remove it\n"
    assert file.read_text() == key
    assert sorted(tmp_path.iterdir()) == [file, derived], "nothing is left beside them"


def test_a_place_that_takes_no_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "nowhere" / "cluster.key"
    assert cli.run(["keygen", "--output", str(file)]) != 0
    assert capsys.readouterr().err == f"trioraft: {file}: No such file or directory; choose another place\n"


def test_a_key_is_durable_with_its_name(tmp_path: Path) -> None:
    if subprocess.run(["which", "strace"], capture_output=True, check=False).returncode:
        pytest.skip("needs strace")
    trace, file = tmp_path / "trace", tmp_path / "keys" / "cluster.key"
    file.parent.mkdir()
    subprocess.run(
        ["strace", "-f", "-y", "-o", trace, "-e", "fsync,link,linkat", *KEYGEN, file],
        env=ENVIRONMENT,
        check=True,
        timeout=60,
    )
    calls = [line for line in trace.read_text().splitlines() if str(file.parent) in line]
    assert ["fsync" in call for call in calls] == [True, False, True], calls
    assert f"<{file}." in calls[0], "the file is synced before it has its name"
    assert f"<{file.parent}>" in calls[2], "and the directory afterwards"


KEYGEN = [sys.executable, "-m", "trioraft", "keygen", "--output"]
ENVIRONMENT = {**clean_environment(), "PYTHONPATH": str(ROOT)}


def test_a_key_printed_to_a_file_that_every_user_may_read_is_noted(public: Path) -> None:
    for mask, noted in ((0o022, True), (0o077, False)):
        os.umask(mask)
        with (public / f"{mask}.key").open("wb") as file:
            done = subprocess.run(
                KEYGEN[:-1], env=ENVIRONMENT, stdout=file, stderr=subprocess.PIPE, text=True, timeout=60, check=True
            )
        assert ("every user of this machine may read this file" in done.stderr) == noted, done.stderr
        KeyRing.parse((public / f"{mask}.key").read_text())


# --- warned of ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bits", "said"),
    [
        (0o600, ""),
        (0o400, ""),
        (0o440, ""),  # a secret of Kubernetes, given to its pod by fsGroup
        (0o640, ""),
        (0o644, "may read this file with a key (mode 644); chmod 600 it"),
        (0o444, "may read this file with a key (mode 444); chmod 600 it"),
        (0o602, "may change this file with a key (mode 602); chmod 600 it"),
    ],
)
def test_a_file_is_warned_of_that_every_user_may_read(public: Path, bits: int, said: str) -> None:
    file, link = public / "cluster.key", public / "link"
    file.touch()
    file.chmod(bits)
    link.symlink_to(file)
    for path in (file, link):
        found = why_not_secret(str(path))
        assert said in found
        assert bool(found) == bool(said)


def test_none_is_warned_of_where_other_users_cannot_go(public: Path) -> None:
    (public / "keys").mkdir(0o700)
    file = public / "keys" / "cluster.key"
    file.touch(0o644)
    assert not why_not_secret(str(file))
    file.parent.chmod(0o711)
    assert why_not_secret(str(file))


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")
def test_none_is_warned_of_on_what_is_mounted_read_only(public: Path) -> None:
    """As secrets of Docker (0444) and Kubernetes (0644 by default) are: their modes do not tell who may read them."""
    file = public / "cluster.key"
    file.touch(0o644)
    mounted = subprocess.run(["mount", "--bind", "-o", "ro", public, public], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no mounts here: {mounted.stderr.decode()}")
    try:
        assert not why_not_secret(str(file))
    finally:
        subprocess.run(["umount", public], check=True)
    assert why_not_secret(str(file))


@pytest.mark.parametrize("command", ["node", "monitor"])
def test_servers_warn_when_they_start(public: Path, command: str) -> None:
    file, log = public / "cluster.key", public / "log"
    file.write_text(generate_key())
    where = {"BIND_PORT": str(free_ports(1)[0]), "PEERS": "127.0.0.1:9", "DATA_DIR": str(public / "data")}
    for bits, said in ((0o644, True), (0o600, False)):
        file.chmod(bits)
        environment = {**ENVIRONMENT, **where, "CLUSTER_KEY_FILE": str(file), "LOG_FORMAT": "json"}
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "trioraft", command], env=environment, stdout=output, stderr=output
            )
        try:
            deadline = time.monotonic() + 60
            while not (text := log.read_text()).count("node started") + text.count("monitor listening"):
                assert time.monotonic() < deadline, text
                time.sleep(0.05)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
        assert text.count(f"CLUSTER_KEY_FILE={file}: every user of this machine may read") == said
