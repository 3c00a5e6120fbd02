"""What nodes keep is for their own user alone: everything that is made, and what an earlier release has made."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog.testing

from tests.unit.story import Story
from tests.unit.test_backups import Words, ignore
from tests.unit.test_recovery import member, recover
from trioraft.node.transitions import recording
from trioraft.storage.backups import back_up, restore
from trioraft.storage.database import open_disk


@pytest.fixture(autouse=True)
def _careless_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def modes(top: Path) -> dict[str, str]:
    """Give the modes of a directory and all that is in it, by name."""
    paths = [top, *top.rglob("*")]
    return {str(path.relative_to(top)): f"{stat.S_IMODE(path.stat().st_mode):o}" for path in paths}


def open_to_others(top: Path) -> dict[str, str]:
    return {name: mode for name, mode in modes(top).items() if not mode.endswith("00")}


def loosen(top: Path) -> None:
    """Give everything the mode that an earlier release left to a usual umask."""
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


def test_backups_what_is_restored_and_what_is_kept_of_a_lost_cluster_are_private(tmp_path: Path) -> None:
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


def test_what_an_earlier_release_has_made_is_mended_at_the_start(tmp_path: Path) -> None:
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


def test_what_nodes_have_not_made_stays_as_it_is(tmp_path: Path) -> None:
    member(tmp_path).close()
    (tmp_path / "index.html").touch()
    loosen(tmp_path)
    open_disk(tmp_path).close()
    assert open_to_others(tmp_path) == {".": "755", "index.html": "644"}
