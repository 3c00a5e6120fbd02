"""The hard state on a real disk."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from trioraft.consensus.state import FormationState, HardState
from trioraft.storage import SqliteDisk, StorageError, take_directory

HARD = HardState(7, 3, 3.25, 6.5, 6, FormationState(cluster=9, members=(1, 2, 3), never=(4, 5)))


async def test_what_was_saved_is_there_after_a_restart(tmp_path: Path) -> None:
    disk = SqliteDisk(tmp_path)
    await disk.save(HARD)
    disk.close()
    again = SqliteDisk(tmp_path)
    assert (again.node_id, again.hard) == (disk.node_id, HARD)
    again.close()


async def test_the_database_syncs_every_commit(tmp_path: Path) -> None:
    disk = SqliteDisk(tmp_path)
    assert disk._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert disk._db.execute("PRAGMA synchronous").fetchone() == (2,)
    disk.close()


async def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    disk = SqliteDisk(tmp_path)
    await disk.save(HARD)
    disk.close()
    db = sqlite3.connect(tmp_path / "trioraft.db", isolation_level=None)
    body = msgspec.json.encode(msgspec.structs.replace(HARD, voted_for=2))
    db.execute("UPDATE hard_state SET body = ?", (body,))
    db.close()
    with pytest.raises(StorageError, match=r"trioraft\.db: the hard state does not match its checksum"):
        SqliteDisk(tmp_path)


@pytest.mark.parametrize(
    ("statement", "line"),
    [
        ("PRAGMA user_version = 99", "made by a newer version"),
        ("PRAGMA application_id = 5", "not a database of this program"),
        ("DELETE FROM hard_state", "the hard state is missing"),
    ],
)
async def test_a_database_that_is_not_ours_is_refused(tmp_path: Path, statement: str, line: str) -> None:
    SqliteDisk(tmp_path).close()
    db = sqlite3.connect(tmp_path / "trioraft.db", isolation_level=None)
    db.execute(statement)
    db.close()
    with pytest.raises(StorageError, match=line):
        SqliteDisk(tmp_path)


async def test_a_torn_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "trioraft.db").write_bytes(b"torn" * 300)
    with pytest.raises(StorageError, match="file is not a database"):
        SqliteDisk(tmp_path)


async def test_a_failed_write_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    disk = SqliteDisk(tmp_path)
    disk._db.execute("PRAGMA query_only = ON")
    with pytest.raises(StorageError, match=r"trioraft\.db: attempt to write a readonly database; the node stops"):
        await disk.save(HARD)
    disk.close()


def test_each_process_gets_a_directory_of_its_own_and_gets_it_back(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from trioraft.storage import take_directory;"
        "print(take_directory(pathlib.Path(sys.argv[1])).name, flush=True); sys.stdin.read()"
    )

    def start() -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        return process, process.stdout.readline().strip()

    first, name_of_first = start()
    second, name_of_second = start()
    assert (name_of_first, name_of_second) == ("0", "1")
    first.kill()
    first.wait()
    third, name_of_third = start()
    assert name_of_third == "0"
    for process in (second, third):
        process.kill()
        process.wait()


def test_a_data_dir_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"DATA_DIR=.*file: File exists; it must be a writable directory"):
        take_directory(tmp_path / "file")
