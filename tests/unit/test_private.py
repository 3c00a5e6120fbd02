"""The data of nodes is for their own user alone, including that of an earlier release."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import structlog.testing

from tests.unit.story import Story
from tests.unit.test_backups import Words, ignore
from tests.unit.test_recovery import member, recover
from trioraft.node.trace import recording
from trioraft.storage.backup_file import BackupWriter
from trioraft.storage.backups import back_up, restore
from trioraft.storage.database import open_disk
from trioraft.storage.errors import StorageError
from trioraft.storage.snapshots import SnapshotWriter


@pytest.fixture(autouse=True)
def _careless_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def modes(top: Path) -> dict[str, str]:
    """Collect the modes of a directory and everything in it, by name; a node that runs may just remove a file."""
    found: dict[str, str] = {}
    for path in (top, *top.rglob("*")):
        with suppress(FileNotFoundError):
            found[str(path.relative_to(top))] = f"{stat.S_IMODE(path.stat().st_mode):o}"
    return found


def open_to_others(top: Path) -> dict[str, str]:
    return {name: mode for name, mode in modes(top).items() if not mode.endswith("00")}


def loosen(top: Path) -> None:
    """Set the modes that an earlier release left to a usual umask."""
    for path in (top, *top.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def test_a_node_that_runs_has_nothing_that_others_can_read(tmp_path: Path) -> None:
    data = tmp_path / "data"
    disk = member(data)
    found = modes(data)
    assert {"0", "0/lock", "0/trioraft.db", "0/trioraft.db-wal"} < set(found)
    assert any(name.startswith("0/snapshot-") for name in found)
    assert open_to_others(data) == {}
    disk.close()


def test_backups_restored_data_and_copies_of_a_lost_cluster_are_private(tmp_path: Path) -> None:
    member(tmp_path / "data").close()
    back_up(tmp_path / "file", tmp_path / "data", Words(), ignore)
    restore(tmp_path / "file", tmp_path / "new", 2, ignore)
    loosen(tmp_path / "data")
    aside = recover(tmp_path / "data").aside
    assert modes(tmp_path / "file") == {".": "600"}
    assert {"0/trioraft.db", "1/trioraft.db"} < set(modes(tmp_path / "new"))
    assert open_to_others(tmp_path / "new") == {}
    assert "trioraft.db" in modes(aside)
    assert open_to_others(aside) == {}


def test_a_trace_is_private(tmp_path: Path) -> None:
    with recording(Story(1).cores[1], tmp_path / "trace"):
        assert modes(tmp_path / "trace") == {".": "600"}


def test_files_of_an_earlier_release_are_mended_at_the_start(tmp_path: Path) -> None:
    data = tmp_path / "data"
    disks = [member(data), member(data)]
    for disk in disks:
        disk.close()
    (data / "lead.sh").touch()  # where an earlier release kept the command of `trioraft lead`
    (data / "0" / "aside-1").mkdir()
    (data / "0" / "aside-1" / "trioraft.db").touch()
    (data / "0" / "elsewhere").symlink_to(tmp_path)
    loosen(data)
    outside = stat.S_IMODE(tmp_path.stat().st_mode)
    with structlog.testing.capture_logs() as logs:
        open_disk(data).close()
    (data / "0" / "elsewhere").unlink()
    assert open_to_others(data) == {}
    assert stat.S_IMODE(tmp_path.stat().st_mode) == outside
    assert logs == []


STRANGER = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")


def link_of_a_stranger(name: Path, target: Path) -> None:
    name.symlink_to(target)
    os.chown(name, STRANGER, STRANGER, follow_symlinks=False)


@as_root
def test_a_link_that_another_user_has_put_among_the_nodes_leads_nowhere(tmp_path: Path) -> None:
    victim, data = tmp_path / "victim", tmp_path / "data"
    victim.mkdir(0o755)
    (victim / "file").touch(0o644)
    member(data).close()
    link_of_a_stranger(data / "5", victim)
    link_of_a_stranger(data / "6", victim / "file")
    open_disk(data).close()
    assert modes(victim) == {".": "755", "file": "644"}
    # The next node that comes would take it as its directory.
    (data / "0").rename(tmp_path / "away")
    (data / "5").rename(data / "0")
    with pytest.raises(StorageError, match="0: a link that another user has made"):
        open_disk(data)
    assert modes(victim) == {".": "755", "file": "644"}


def test_a_link_of_this_user_leads_to_a_node_on_another_disk(tmp_path: Path) -> None:
    data, disk = tmp_path / "data", tmp_path / "disk"
    data.mkdir()
    disk.mkdir(0o755)
    (data / "0").symlink_to(disk)
    open_disk(data).close()
    assert {"lock", "trioraft.db"} < set(modes(disk))
    assert open_to_others(disk) == {}


def test_mending_a_directory_drops_no_locks_of_a_node_that_runs_in_this_process(tmp_path: Path) -> None:
    first = member(tmp_path)
    loosen(tmp_path)
    open_disk(tmp_path).close()
    # SQLite holds a shared lock on these bytes for as long as it has a WAL database open.
    lock = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+b'), fcntl.LOCK_EX | fcntl.LOCK_NB, 510, 0x40000002)"
    database = tmp_path / "0" / "trioraft.db"
    ended = subprocess.run(
        [sys.executable, "-c", lock, database],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "BlockingIOError" in ended.stderr
    first.close()


@pytest.mark.parametrize(
    "make", [SnapshotWriter, lambda directory, index: BackupWriter(directory / "snapshot-7.new")]
)
def test_a_new_file_replaces_a_link_and_leaves_its_target_alone(
    tmp_path: Path, make: Callable[[Path, int], Any]
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (tmp_path / "snapshot-7.new").symlink_to(victim)
    writer = make(tmp_path, 7)
    writer.write(b"data")
    assert victim.read_text() == "untouched"
    assert not (tmp_path / "snapshot-7.new").is_symlink()
    assert modes(tmp_path)["snapshot-7.new"] == "600"


def test_a_lock_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data" / "0").mkdir(parents=True)
    (tmp_path / "data" / "0" / "lock").symlink_to(tmp_path / "victim")
    with pytest.raises(StorageError, match="DATA_DIR="):
        open_disk(tmp_path / "data")
    assert not (tmp_path / "victim").exists()


def test_files_that_no_node_has_made_stay_as_they_are(tmp_path: Path) -> None:
    member(tmp_path).close()
    (tmp_path / "index.html").touch()
    loosen(tmp_path)
    open_disk(tmp_path).close()
    assert open_to_others(tmp_path) == {".": "755", "index.html": "644"}
