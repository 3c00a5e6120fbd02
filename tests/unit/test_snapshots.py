"""The files of snapshots: what was written is read back, and what is damaged or left over is not."""

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.power_cut.model import chunks_of, snapshot_of
from trioraft.consensus.ledger import SnapshotInfo
from trioraft.storage.errors import StorageError
from trioraft.storage.snapshots import (
    SnapshotReader,
    SnapshotWriter,
    frame,
    path_of,
    read_chunks,
    remove_leftovers,
    remove_older,
)


def written(directory: Path, index: int, term: int = 3) -> SnapshotInfo:
    writer = SnapshotWriter(directory, index)
    for chunk in chunks_of(index):
        writer.write(frame(chunk))
    snapshot = snapshot_of(index, term)
    assert writer.finish(snapshot)
    return snapshot


def names(directory: Path) -> set[str]:
    """List the files, without the checksums in their names."""
    return {re.sub(r"-[0-9a-f]{8}$", "", name) for name in os.listdir(directory)}


def test_a_state_machine_gets_back_the_chunks_it_gave(tmp_path: Path) -> None:
    snapshot = written(tmp_path, 7)
    assert list(read_chunks(tmp_path, snapshot)) == chunks_of(7)
    assert names(tmp_path) == {"snapshot-7-3"}


def test_an_empty_state_is_a_snapshot_too(tmp_path: Path) -> None:
    writer = SnapshotWriter(tmp_path, 1)
    snapshot = SnapshotInfo(1, 1, 0, 0)
    assert writer.finish(snapshot)
    assert list(read_chunks(tmp_path, snapshot)) == []


def test_a_snapshot_with_another_size_or_checksum_leaves_nothing(tmp_path: Path) -> None:
    writer = SnapshotWriter(tmp_path, 7)
    writer.write(b"something else")
    assert not writer.finish(snapshot_of(7, 3))
    assert names(tmp_path) == set()


def test_a_discarded_snapshot_leaves_nothing(tmp_path: Path) -> None:
    writer = SnapshotWriter(tmp_path, 7)
    writer.write(b"x")
    writer.discard()
    assert names(tmp_path) == set()


def test_a_missing_snapshot_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(
        StorageError, match=r"/snapshot-7-3-[0-9a-f]{8}: No such file or directory; restore the directory, or"
    ):
        next(read_chunks(tmp_path, snapshot_of(7, 3)))


@pytest.mark.parametrize(
    "damage", [lambda whole: whole[:-1], lambda whole: whole + b"x", lambda whole: b"\1" + whole[1:]]
)
def test_a_damaged_snapshot_is_found_before_its_first_chunk(tmp_path: Path, damage: object) -> None:
    assert callable(damage)
    snapshot = written(tmp_path, 7)
    path = path_of(tmp_path, snapshot)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(
        StorageError, match=r"/snapshot-7-3-[0-9a-f]{8}: does not match its checksum; the disk is damaged"
    ):
        next(read_chunks(tmp_path, snapshot))


# --- read in parts ---------------------------------------------------------------------------------------------

PART = 1000


def offsets(snapshot: SnapshotInfo) -> range:
    return range(0, snapshot.size, PART)


def flip_a_bit(path: Path, place: int) -> None:
    whole = bytearray(path.read_bytes())
    whole[place] ^= 8
    path.write_bytes(whole)


@given(jumps=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6)), max_size=8))
def test_the_parts_of_a_good_snapshot_can_be_read_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, jumps: list[tuple[int, int]]
) -> None:
    directory = tmp_path_factory.mktemp("snapshot")
    snapshot = written(directory, 7)
    whole = path_of(directory, snapshot).read_bytes()
    reader = SnapshotReader(directory, snapshot)
    for first, count in jumps:
        for offset in offsets(snapshot)[first : first + count]:
            assert reader.read(offset, PART) == whole[offset : offset + PART]
    reader.close()


@pytest.mark.parametrize("place", [0, 1500, -1])
def test_damage_is_noticed_at_the_last_part_at_the_latest(tmp_path: Path, place: int) -> None:
    snapshot = written(tmp_path, 7)
    flip_a_bit(path_of(tmp_path, snapshot), place)
    reader = SnapshotReader(tmp_path, snapshot)
    *first, last = offsets(snapshot)
    for offset in first:
        reader.read(offset, PART)
        reader.read(max(0, offset - PART), PART)  # a part is lost on the way and sent again
    with pytest.raises(StorageError, match=r"^\S+/snapshot-7-3-[0-9a-f]{8}: does not match its checksum$"):
        reader.read(last, PART)
    reader.close()


def test_damage_that_comes_during_reading_is_noticed_when_the_snapshot_is_read_again(tmp_path: Path) -> None:
    snapshot = written(tmp_path, 7)
    reader = SnapshotReader(tmp_path, snapshot)
    *first, last = offsets(snapshot)
    for offset in first:
        reader.read(offset, PART)
    flip_a_bit(path_of(tmp_path, snapshot), 10)
    for offset in (*first, last):  # a receiver has only the beginning, and needs all of it again
        reader.read(offset, PART)
    for offset in first:
        reader.read(offset, PART)
    with pytest.raises(StorageError, match="does not match its checksum"):
        reader.read(last, PART)
    reader.close()


def test_a_missing_part_is_noticed_at_once(tmp_path: Path) -> None:
    snapshot = written(tmp_path, 7)
    path = path_of(tmp_path, snapshot)
    os.truncate(path, 2500)
    reader = SnapshotReader(tmp_path, snapshot)
    assert reader.read(1000, PART) == path.read_bytes()[1000:2000]
    for offset in (2000, 4000):
        with pytest.raises(StorageError, match="does not match its checksum"):
            reader.read(offset, PART)
    reader.close()


def test_a_missing_snapshot_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"/snapshot-7-3-[0-9a-f]{8}: No such file or directory$"):
        SnapshotReader(tmp_path, snapshot_of(7, 3))


def test_an_empty_snapshot_is_one_empty_part(tmp_path: Path) -> None:
    snapshot = SnapshotInfo(1, 1, 0, 0)
    assert SnapshotWriter(tmp_path, 1).finish(snapshot)
    reader = SnapshotReader(tmp_path, snapshot)
    assert (reader.read(0, PART), reader.read(0, PART)) == (b"", b"")
    reader.close()


# --- what is left over -----------------------------------------------------------------------------------------


def test_at_the_start_only_the_valid_snapshot_stays(tmp_path: Path) -> None:
    written(tmp_path, 3)
    valid = written(tmp_path, 7)
    written(tmp_path, 9)  # received whole, but the process ended before the log followed it
    SnapshotWriter(tmp_path, 11).write(b"not finished")
    (tmp_path / "trioraft.db").touch()
    remove_leftovers(tmp_path, valid)
    assert names(tmp_path) == {"snapshot-7-3", "trioraft.db"}


def test_a_node_without_a_snapshot_starts_without_any(tmp_path: Path) -> None:
    written(tmp_path, 3)
    remove_leftovers(tmp_path, None)
    assert names(tmp_path) == set()


def test_older_snapshots_go_and_those_under_way_stay(tmp_path: Path) -> None:
    written(tmp_path, 9)
    valid = written(tmp_path, 10)
    written(tmp_path, 100)
    unfinished = SnapshotWriter(tmp_path, 5)
    remove_older(tmp_path, valid)
    assert names(tmp_path) == {"snapshot-10-3", "snapshot-100-3", "snapshot-5.new"}
    unfinished.discard()


def test_snapshots_of_the_same_entry_do_not_take_each_others_place(tmp_path: Path) -> None:
    """A node may receive a snapshot while it writes its own; equal states may have different bytes."""
    own, received = SnapshotWriter(tmp_path, 7), SnapshotWriter(tmp_path, 7, received=True)
    own.write(frame(b"a") + frame(b"b"))
    received.write(frame(b"b") + frame(b"a"))
    valid, other = (SnapshotInfo(7, 3, writer.size, writer.checksum) for writer in (own, received))
    assert own.finish(valid)
    assert received.finish(other)
    assert list(read_chunks(tmp_path, valid)) == [b"a", b"b"]
    assert list(read_chunks(tmp_path, other)) == [b"b", b"a"]
    remove_leftovers(tmp_path, valid)
    assert os.listdir(tmp_path) == [path_of(tmp_path, valid).name]


def test_a_snapshot_that_finds_no_room_is_one_clear_line_and_leaves_nothing(tmp_path: Path) -> None:
    """The system's limit on the size of files stands in for a full disk; its error is EFBIG."""
    program = (
        "import sys, signal, pathlib; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from trioraft.storage.errors import StorageError\n"
        "from trioraft.storage.snapshots import SnapshotWriter\n"
        "writer = SnapshotWriter(pathlib.Path(sys.argv[1]), 7)\n"
        "try:\n    [writer.write(bytes(5000)) for _ in range(100)]\n"
        "except StorageError as error:\n    print(error)\n"
        "writer.discard()"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        check=True,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
    )
    assert run.stdout == f"{tmp_path}/snapshot-7.new: File too large; check the disk, and start the node again\n"
    assert names(tmp_path) == set()
