"""The place of a process, and what is left in it of an earlier one's scripts."""

import fcntl
import shutil
from pathlib import Path

import pytest
import trio

from tests.unit.memory_launcher import MemoryLauncher
from trioraft.hooks.launcher import WORK_FILE, SupervisorLauncher, end_earlier_scripts
from trioraft.storage import place
from trioraft.storage.database import open_disk


def place_in(data_dir: Path) -> str:
    disk = open_disk(data_dir)
    disk.close()
    return disk.place


def test_a_process_that_is_started_again_on_its_directory_is_in_the_same_place(tmp_path: Path) -> None:
    assert place_in(tmp_path / "data") == place_in(tmp_path / "data") != ""


def test_a_copy_of_a_directory_is_another_place(tmp_path: Path) -> None:
    original = place_in(tmp_path / "data")
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    (tmp_path / "data").rename(tmp_path / "moved")
    (tmp_path / "copy").rename(tmp_path / "data")
    assert place_in(tmp_path / "data") != original
    assert place_in(tmp_path / "moved") == original


def test_a_host_that_was_started_again_is_another_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = place_in(tmp_path / "data")
    boot = tmp_path / "boot_id"
    boot.write_text("another boot\n")
    monkeypatch.setattr(place, "_BOOT_ID", boot)
    assert place_in(tmp_path / "data") not in {before, ""}


def test_where_the_system_names_no_boot_there_is_no_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "_BOOT_ID", tmp_path / "nothing")
    assert place_in(tmp_path / "data") == ""


async def test_a_node_without_scripts_waits_for_those_that_an_earlier_process_has_left(tmp_path: Path) -> None:
    ended = trio.Event()
    with (tmp_path / WORK_FILE).open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(end_earlier_scripts, SupervisorLauncher(), tmp_path, 0.1, ended.set)
            await trio.sleep(0.5)
            assert not ended.is_set()
            fcntl.flock(held, fcntl.LOCK_UN)
            with trio.fail_after(10):
                await ended.wait()


async def test_where_no_script_has_ever_run_there_is_nothing_to_wait_for(tmp_path: Path) -> None:
    launcher, ended = MemoryLauncher(trio.current_time), trio.Event()
    await end_earlier_scripts(launcher, tmp_path, 0.1, ended.set)
    assert ended.is_set()
    assert launcher.link is None


async def test_where_that_cannot_be_found_out_nothing_is_said(tmp_path: Path) -> None:
    (tmp_path / WORK_FILE).touch()
    launcher, ended = MemoryLauncher(trio.current_time, unlaunchable=True), trio.Event()
    await end_earlier_scripts(launcher, tmp_path, 0.1, ended.set)
    assert not ended.is_set()
