"""The hard state and the log on a real disk."""

import sqlite3
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import structlog.testing
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trioraft.consensus.hard import FormationState, HardState
from trioraft.consensus.ledger import SnapshotInfo, Write
from trioraft.messages import Entry, EntryKind, format_id
from trioraft.storage.database import SqliteDisk, open_disk
from trioraft.storage.directories import take_directory
from trioraft.storage.errors import StorageError

HARD = HardState(7, 3, 3.25, 6.5, 6, FormationState(cluster=9, members=(1, 2, 3), never=(4, 5)))


def entry(term: int, data: bytes = b"") -> Entry:
    return Entry(term=term, kind=EntryKind.COMMAND, data=data)


def log_of(disk: SqliteDisk) -> list[tuple[int, Entry]]:
    first = disk.log.base_index + 1
    return list(enumerate(disk.log.entries(first, disk.log.last_index), first))


def reopened(disk: SqliteDisk) -> SqliteDisk:
    disk.close()
    return SqliteDisk(disk.directory)


def change(directory: Path, statement: str, *parameters: object) -> None:
    db = sqlite3.connect(directory / "trioraft.db", isolation_level=None)
    db.execute(statement, parameters)
    db.close()


async def a_log_with_a_snapshot(directory: Path) -> None:
    """Leave entries 3 to 6 behind, and a snapshot of the first five."""
    disk = SqliteDisk(directory)
    await disk.save(Write(1, HARD, 1, tuple(entry(1, b"%d" % n) for n in range(1, 7))))
    await disk.save(Write(2, HARD, snapshot=SnapshotInfo(5, 1, 10, 20), base_index=2, base_term=1))
    disk.close()


# --- what was saved is there ----------------------------------------------------------------------------------


async def test_saved_data_is_there_after_a_restart(tmp_path: Path) -> None:
    disk = SqliteDisk(tmp_path)
    await disk.save(Write(1, HARD, 1, (entry(6, b"a"), entry(7, b"b"))))
    again = reopened(disk)
    assert (again.node_id, again.hard) == (disk.node_id, HARD)
    assert log_of(again) == [(1, entry(6, b"a")), (2, entry(7, b"b"))]
    again.close()


async def test_a_write_without_entries_leaves_the_log_alone(tmp_path: Path) -> None:
    disk = SqliteDisk(tmp_path)
    await disk.save(Write(1, HARD, 1, (entry(7),)))
    await disk.save(Write(2, HardState(term=8)))
    disk = reopened(disk)
    assert (disk.hard.term, log_of(disk)) == (8, [(1, entry(7))])
    disk.close()


async def test_entries_that_contradict_are_replaced_even_by_none(tmp_path: Path) -> None:
    disk = SqliteDisk(tmp_path)
    await disk.save(Write(1, HARD, 1, tuple(entry(1, b"%d" % n) for n in range(1, 6))))
    await disk.save(Write(2, HARD, 3, (entry(2, b"new"),)))
    disk = reopened(disk)
    assert log_of(disk) == [(1, entry(1, b"1")), (2, entry(1, b"2")), (3, entry(2, b"new"))]
    await disk.save(Write(3, HARD, 2, ()))
    disk = reopened(disk)
    assert log_of(disk) == [(1, entry(1, b"1"))]
    disk.close()


async def test_a_snapshot_drops_what_it_covers_and_keeps_what_followers_may_need(tmp_path: Path) -> None:
    await a_log_with_a_snapshot(tmp_path)
    disk = SqliteDisk(tmp_path)
    assert disk.snapshot == SnapshotInfo(5, 1, 10, 20)
    assert (disk.log.base_index, disk.log.base_term) == (2, 1)
    assert log_of(disk) == [(n, entry(1, b"%d" % n)) for n in range(3, 7)]
    disk.close()


async def test_a_received_snapshot_that_contradicts_the_log_leaves_only_what_comes_after_it(tmp_path: Path) -> None:
    await a_log_with_a_snapshot(tmp_path)
    disk = SqliteDisk(tmp_path)
    received = SnapshotInfo(4, 2, 11, 22)
    await disk.save(Write(1, HARD, 5, (entry(2, b"after"),), received, 4, 2, restarts=True))
    disk = reopened(disk)
    assert (disk.snapshot, disk.log.base_index, disk.log.base_term) == (received, 4, 2)
    assert log_of(disk) == [(5, entry(2, b"after"))]
    disk.close()


async def test_a_received_snapshot_beyond_the_log_leaves_an_empty_one(tmp_path: Path) -> None:
    disk = SqliteDisk(tmp_path)
    await disk.save(Write(1, HARD, 1, (entry(1), entry(1))))
    await disk.save(Write(2, HARD, 0, (), SnapshotInfo(900, 5, 1, 2), 900, 5, restarts=True))
    disk = reopened(disk)
    assert (disk.log.last_index, disk.log.last_term, log_of(disk)) == (900, 5, [])
    disk.close()


async def test_large_entries_go_in_and_come_out(tmp_path: Path) -> None:
    disk = SqliteDisk(tmp_path)
    large = tuple(entry(1, bytes([n]) * 1024 * 1024) for n in range(9))
    for index, one in enumerate(large, 1):
        await disk.save(Write(index, HARD, index, (one,)))
    assert (tmp_path / "trioraft.db").stat().st_size > 8_000_000  # the WAL was emptied into the database
    disk = reopened(disk)
    assert tuple(one for _, one in log_of(disk)) == large
    disk.close()


async def test_the_database_syncs_every_commit(tmp_path: Path) -> None:
    disk = SqliteDisk(tmp_path)
    await disk.save(Write(1, HARD, 1, (entry(1),)))
    assert disk._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert disk._db.execute("PRAGMA synchronous").fetchone() == (2,)
    disk.close()


# --- DURABILITY=memory ----------------------------------------------------------------------------------------


async def test_with_durability_memory_only_the_log_is_left_unsynced(tmp_path: Path) -> None:
    disk = open_disk(tmp_path, "memory")
    await disk.save(Write(1, HARD, 1, (entry(7),)))
    assert disk._db.execute("PRAGMA synchronous").fetchone() == (2,)  # the hard state changed
    await disk.save(Write(2, HARD, 2, (entry(7),)))
    assert disk._db.execute("PRAGMA synchronous").fetchone() == (1,)
    await disk.save(Write(3, msgspec.structs.replace(HARD, term=8), 3, (entry(8),)))
    assert disk._db.execute("PRAGMA synchronous").fetchone() == (2,)
    disk.close()


@pytest.mark.parametrize("durability", ["memory", "sync"])
async def test_a_node_whose_log_was_not_synced_comes_back_as_another(tmp_path: Path, durability: str) -> None:
    disk = open_disk(tmp_path, "memory")
    await disk.save(Write(1, HARD, 1, (entry(7, b"x"),)))
    (disk.directory / "snapshot-1-7").write_bytes(b"state")
    disk.close()
    with structlog.testing.capture_logs() as lines:
        again = open_disk(tmp_path, "memory" if durability == "memory" else "sync")
    assert again.directory == disk.directory
    assert again.node_id != disk.node_id
    assert (again.hard, again.log.last_index, again.snapshot) == (HardState(), 0, None)
    again.close()
    [line] = lines
    assert line["log_level"] == "warning"
    assert line["event"].startswith("the log was not synced (DURABILITY=memory)")
    assert (line["before"], line["node"]) == (format_id(disk.node_id), format_id(again.node_id))
    kept = SqliteDisk(Path(line["kept"]))
    assert (kept.node_id, kept.hard, log_of(kept)) == (disk.node_id, HARD, [(1, entry(7, b"x"))])
    assert (kept.directory / "snapshot-1-7").read_bytes() == b"state"
    kept.close()


async def test_a_synced_log_is_kept_when_the_setting_changes_to_memory(tmp_path: Path) -> None:
    disk = open_disk(tmp_path)
    await disk.save(Write(1, HARD, 1, (entry(7, b"x"),)))
    disk.close()
    again = open_disk(tmp_path, "memory")
    assert (again.node_id, again.hard, again.log.last_index) == (disk.node_id, HARD, 1)
    again.close()


async def test_few_logs_that_were_set_aside_are_kept_and_no_empty_ones(tmp_path: Path) -> None:
    for count in range(8):
        disk = open_disk(tmp_path, "memory")
        if count % 2 == 0:
            await disk.save(Write(1, HARD, 1, (entry(7, b"%d" % count),)))
        disk.close()
    found = set()
    for path in disk.directory.glob("aside-*"):
        kept = SqliteDisk(path)
        found |= {one.data for _, one in log_of(kept)}
        kept.close()
    assert found == {b"2", b"4", b"6"}


# --- damage ---------------------------------------------------------------------------------------------------


async def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    disk = SqliteDisk(tmp_path)
    await disk.save(Write(1, HARD))
    disk.close()
    body = msgspec.json.encode(msgspec.structs.replace(HARD, voted_for=2))
    change(tmp_path, "UPDATE hard_state SET body = ?", body)
    with pytest.raises(StorageError, match=r"trioraft\.db: the hard state does not match its checksum"):
        SqliteDisk(tmp_path)


@pytest.mark.parametrize(
    ("statement", "line"),
    [
        ("UPDATE entry SET data = x'00' WHERE idx = 4", "entry 4 of the log is missing or does not match"),
        ("UPDATE entry SET term = 2 WHERE idx = 4", "entry 4 of the log is missing or does not match"),
        ("UPDATE entry SET kind = 99 WHERE idx = 4", "entry 4 of the log is missing or does not match"),
        ("DELETE FROM entry WHERE idx = 4", "entry 4 of the log is missing or does not match"),
        ("DELETE FROM entry WHERE idx = 3", "entry 3 of the log is missing or does not match"),
        ("UPDATE entry SET idx = 9 WHERE idx = 6", "entry 6 of the log is missing or does not match"),
        ("DELETE FROM entry WHERE idx > 4", "entry 5 of the log is not the one that the snapshot ends with"),
        ("UPDATE snapshot SET base_index = 1", "the record of the snapshot does not match its checksum"),
        ("UPDATE snapshot SET base_term = 2", "the record of the snapshot does not match its checksum"),
        ("UPDATE snapshot SET body = x'7b7d'", "the record of the snapshot does not match its checksum"),
        ("DELETE FROM snapshot", "entry 1 of the log is missing or does not match"),
        ("PRAGMA user_version = 99", r"made by a newer version \(schema 99, this one knows 2\); run that version"),
        ("PRAGMA user_version = 0", "not a database of this program"),
        ("PRAGMA application_id = 5", "not a database of this program"),
        ("DELETE FROM hard_state", "the hard state is missing; the disk is damaged"),
    ],
)
async def test_a_damaged_or_foreign_database_is_refused_in_one_line(
    tmp_path: Path, statement: str, line: str
) -> None:
    await a_log_with_a_snapshot(tmp_path)
    change(tmp_path, statement)
    with pytest.raises(StorageError, match=rf"trioraft\.db: {line}") as refusal:
        SqliteDisk(tmp_path)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "tear", [lambda whole: b"torn" * 300, lambda whole: whole[:5000], lambda whole: whole[:-4096]]
)
async def test_a_torn_file_is_refused(tmp_path: Path, tear: Callable[[bytes], bytes]) -> None:
    await a_log_with_a_snapshot(tmp_path)
    path = tmp_path / "trioraft.db"
    path.write_bytes(tear(path.read_bytes()))
    with pytest.raises(StorageError, match=r"trioraft\.db: .*(not a database|malformed|damaged)"):
        SqliteDisk(tmp_path)


def test_no_byte_of_the_database_can_change_unnoticed(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A change of any byte is refused in one line, or nothing that counts has changed."""
    source = tmp_path_factory.mktemp("whole")
    trio.run(a_log_with_a_snapshot, source)
    whole = (source / "trioraft.db").read_bytes()
    disk = SqliteDisk(source)
    expected = (disk.node_id, disk.hard, disk.snapshot, log_of(disk))
    disk.close()
    directory = tmp_path_factory.mktemp("damaged")
    # Most of a page is empty and does not count, so look at the rest.
    used = [offset for offset, byte in enumerate(whole) if byte or offset % 4096 < 16]

    @settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
    @given(st.sampled_from(used), st.integers(1, 255))
    def flip(offset: int, change: int) -> None:
        for path in directory.iterdir():
            path.unlink()
        damaged = bytearray(whole)
        damaged[offset] ^= change
        (directory / "trioraft.db").write_bytes(damaged)
        refusal = ""
        try:
            disk = SqliteDisk(directory)
        except StorageError as error:
            refusal = str(error)
        else:
            assert (disk.node_id, disk.hard, disk.snapshot, log_of(disk)) == expected
            disk.close()
        assert "\n" not in refusal

    flip()


# --- damage in the write-ahead log -----------------------------------------------------------------------------

WRITES = 12
_FRAME = 24 + 4096


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Make the files of a process that is killed after some writes."""
    return left_behind(tmp_path_factory.mktemp("killed"), unsynced=False)


def left_behind(directory: Path, *, unsynced: bool) -> dict[str, bytes]:
    disk = SqliteDisk(directory, durability="memory" if unsynced else "sync")
    if unsynced:
        disk.mark_unsynced()
    for number in range(1, WRITES + 1):
        disk.save_now(Write(number, HardState(term=number), number, (entry(number, b"." * 3000),)))
    files = {path.name: path.read_bytes() for path in directory.iterdir() if path.name != "trioraft.db-shm"}
    disk.close()
    return files


def put_back(directory: Path, files: dict[str, bytes]) -> None:
    for path in directory.iterdir():
        path.unlink()
    for name, data in files.items():
        (directory / name).write_bytes(data)


def ends_of_writes(wal: bytes) -> list[int]:
    """List where the last frame of each write begins."""
    return [at for at in range(32, len(wal), _FRAME) if int.from_bytes(wal[at + 4 : at + 8], "big")]


def flipped(files: dict[str, bytes], offset: int, change: int = 8) -> dict[str, bytes]:
    wal = bytearray(files["trioraft.db-wal"])
    wal[offset] ^= change
    return {**files, "trioraft.db-wal": bytes(wal)}


def test_the_writes_of_a_killed_process_are_there(tmp_path: Path, killed: dict[str, bytes]) -> None:
    put_back(tmp_path, killed)
    disk = SqliteDisk(tmp_path)
    assert (disk.hard.term, disk.log.last_index) == (WRITES, WRITES)
    assert not (tmp_path / "trioraft.db-wal").read_bytes(), "nothing of another process stays in it"
    disk.close()


def test_a_byte_of_the_write_ahead_log_changes_unnoticed_only_where_it_may_be_torn(
    tmp_path_factory: pytest.TempPathFactory, killed: dict[str, bytes]
) -> None:
    """SQLite would take a changed frame for the end, and drop what came later in silence, votes included.

    Torn may be the head of the file, and the last write; what has rotted there looks the same. So does the head of
    the frame before that write, which alone tells where it begins.
    """
    directory = tmp_path_factory.mktemp("rotten")
    wal = killed["trioraft.db-wal"]
    before_last = ends_of_writes(wal)[-2]
    told: list[str] = []

    @settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
    @given(st.integers(32, len(wal) - 1), st.integers(1, 255))
    def flip(offset: int, change: int) -> None:
        put_back(directory, flipped(killed, offset, change))
        try:
            disk = SqliteDisk(directory)
        except StorageError as error:
            told.append(str(error))
            assert (directory / "trioraft.db-wal").read_bytes(), "and so it is at the next start"
        else:
            assert offset >= before_last + _FRAME or before_last + 4 <= offset < before_last + 16
            assert disk.hard.term == disk.log.last_index < WRITES
            disk.close()

    flip()
    [refusal] = set(told)
    assert refusal == (
        f"{directory}/trioraft.db: a transaction in the midst of its write-ahead log does not match its checksum; the"
        " disk is damaged: restore the directory, or remove it so that the node joins anew"
    )


def test_a_write_that_a_power_cut_has_torn_is_no_damage(tmp_path: Path, killed: dict[str, bytes]) -> None:
    """Any of the frames of the last write may be on disk, even its last one alone."""
    whole = killed["trioraft.db-wal"]
    last = range(ends_of_writes(whole)[-2] + _FRAME, len(whole), _FRAME)
    assert len(last) >= 3
    for lost in range(1 << len(last)):
        wal = bytearray(whole)
        for at in (at for number, at in enumerate(last) if lost >> number & 1):
            wal[at : at + _FRAME] = bytes(_FRAME)
        put_back(tmp_path, {**killed, "trioraft.db-wal": bytes(wal)})
        disk = SqliteDisk(tmp_path)
        assert disk.hard.term == (WRITES - 1 if lost else WRITES)
        disk.close()


def test_old_frames_in_a_write_ahead_log_that_was_begun_anew_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trioraft.storage.database._CHECKPOINT_BYTES", 1)
    files = left_behind(tmp_path, unsynced=False)
    assert len(files["trioraft.db-wal"]) > 32 + 3 * _FRAME
    put_back(tmp_path, flipped(files, 32 + _FRAME + 500))
    disk = SqliteDisk(tmp_path)
    assert disk.hard.term == WRITES
    disk.close()


def test_a_log_that_was_not_synced_may_have_holes(tmp_path: Path) -> None:
    directory = tmp_path / "0"
    directory.mkdir()
    files = left_behind(directory, unsynced=True)
    put_back(directory, flipped(files, len(files["trioraft.db-wal"]) // 2))
    disk = open_disk(tmp_path, "memory")
    assert list(directory.glob("aside-*")), "it comes back as another one"
    disk.close()


async def test_a_database_of_the_first_schema_gets_what_it_lacks(tmp_path: Path) -> None:
    body = msgspec.json.encode(HARD)
    checksum = zlib.crc32(body, zlib.crc32((5).to_bytes(8, "big")))
    change(
        tmp_path,
        "CREATE TABLE hard_state (only_row INTEGER PRIMARY KEY CHECK (only_row = 1), node_id INTEGER NOT NULL,"
        " body BLOB NOT NULL, checksum INTEGER NOT NULL) STRICT",
    )
    change(tmp_path, "INSERT INTO hard_state VALUES (1, 5, ?, ?)", body, checksum)
    change(tmp_path, f"PRAGMA application_id = {0x74726166}")
    change(tmp_path, "PRAGMA user_version = 1")
    disk = SqliteDisk(tmp_path)
    assert (disk.node_id, disk.hard, log_of(disk)) == (5, HARD, [])
    await disk.save(Write(1, HARD, 1, (entry(7),)))
    disk = reopened(disk)
    assert (disk.node_id, log_of(disk)) == (5, [(1, entry(7))])
    disk.close()


async def test_an_entry_of_a_later_kind_is_no_damage(tmp_path: Path) -> None:
    disk = SqliteDisk(tmp_path)
    await disk.save(Write(1, HARD, 1, (entry(7, b"x"),)))
    disk.close()
    change(tmp_path, "UPDATE entry SET kind = 99, checksum = ?", zlib.crc32(b"x", zlib.crc32(b"1 7 99 ")))
    with pytest.raises(StorageError, match="entry 1 of the log is of kind 99, which this version does not know; run"):
        SqliteDisk(tmp_path)


async def test_another_program_s_database_is_left_alone(tmp_path: Path) -> None:
    change(tmp_path, "CREATE TABLE theirs (x)")
    change(tmp_path, "INSERT INTO theirs VALUES (1)")
    before = (tmp_path / "trioraft.db").read_bytes()
    with pytest.raises(StorageError, match="not a database of this program; give the node another DATA_DIR"):
        SqliteDisk(tmp_path)
    assert (tmp_path / "trioraft.db").read_bytes() == before


async def test_a_failed_write_is_an_error_that_names_the_file_and_nothing_is_written_after_it(
    tmp_path: Path,
) -> None:
    disk = SqliteDisk(tmp_path)
    disk._db.execute("PRAGMA query_only = ON")
    with pytest.raises(StorageError, match=r"trioraft\.db: attempt to write a readonly database .*; the node stops"):
        await disk.save(Write(1, HARD))
    disk._db.execute("PRAGMA query_only = OFF")
    with pytest.raises(StorageError, match="an earlier write has failed"):
        await disk.save(Write(2, HARD))
    disk = reopened(disk)
    assert disk.hard == HardState()
    disk.close()


# --- the directory --------------------------------------------------------------------------------------------


def test_each_process_gets_a_directory_of_its_own_and_gets_it_back(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from trioraft.storage.directories import take_directory;"
        "taken = take_directory(pathlib.Path(sys.argv[1])); print(taken[0].name, flush=True); sys.stdin.read()"
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


def test_a_directory_whose_database_is_damaged_is_unlocked(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "trioraft.db").write_bytes(b"torn" * 300)
    for _ in range(2):
        with pytest.raises(StorageError, match=r"0/trioraft\.db: file is not a database"):
            open_disk(tmp_path)
