"""Backups of stopped nodes, and clusters made from them."""

import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from trioraft.cli import main as cli
from trioraft.cli.exits import REFUSED, WRONG
from trioraft.consensus.configuration import Configuration, encode_configuration
from trioraft.consensus.hard import FormationState, HardState
from trioraft.consensus.ledger import SnapshotInfo, Write
from trioraft.messages import TERM_LEAP, TERM_MAX, Entry, EntryKind
from trioraft.replica.sessions import Replica
from trioraft.storage.backup_file import Backup, read_about, read_chunks_of, write_backup
from trioraft.storage.backups import back_up, restore
from trioraft.storage.database import SqliteDisk, open_disk
from trioraft.storage.errors import BackupError, FileIsThereError, StorageError
from trioraft.storage.snapshots import SnapshotWriter, frame, read_chunks
from trioraft.versions import SPOKEN

CLUSTER = 77


class Words:
    """A state machine that remembers all commands."""

    def __init__(self) -> None:
        self.words: list[bytes] = []

    def apply(self, command: bytes) -> bytes:
        self.words.append(command)
        return b""

    def query(self, question: bytes) -> bytes:
        return b""

    def snapshot(self) -> Iterator[bytes]:
        return iter(list(self.words))

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.words = list(chunks)


def command(term: int, data: bytes) -> Entry:
    return Entry(term=term, kind=EntryKind.COMMAND, data=data)


def node(data_dir: Path, term: int, entries: list[Entry], *, cluster: int = CLUSTER) -> SqliteDisk:
    disk = open_disk(data_dir)
    hard = HardState(term=term, formation=FormationState(cluster=cluster, members=(1, 2, 3)))
    disk.save_now(Write(1, hard, 1, tuple(entries)))
    return disk


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Make a directory of three nodes: the second one's log goes furthest, the third one's is longer but older."""
    path = tmp_path / "data"
    disks = [
        node(path, 9, [command(3, b"a")]),
        node(path, 5, [command(3, b"a"), command(5, b"b")]),
        node(path, 5, [command(3, b"a"), command(4, b"x"), command(4, b"y")]),
    ]
    for disk in disks:
        disk.close()
    return path


def ignore(done: int, of: int) -> None:
    """Show nothing."""


def state_of(disk: SqliteDisk) -> list[bytes]:
    assert disk.snapshot is not None
    replica = Replica(Words())
    replica.restore(disk.snapshot.index, read_chunks(disk.directory, disk.snapshot))
    assert isinstance(replica.machine, Words)
    return replica.machine.words


def test_a_backup_is_of_the_node_whose_log_goes_furthest(tmp_path: Path, data_dir: Path) -> None:
    seen: list[tuple[int, int]] = []
    about = back_up(tmp_path / "file", data_dir, Words(), lambda done, of: seen.append((done, of)))
    assert (about.cluster, about.term, about.index, about.index_term) == (CLUSTER, 9, 2, 5)
    assert list(read_chunks_of(tmp_path / "file", about))[1:] == [b"a", b"b"]
    assert read_about(tmp_path / "file") == about
    assert seen == [(1, 2), (2, 2)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "file"]


def test_a_backup_has_the_snapshot_and_what_came_after_it(tmp_path: Path) -> None:
    disk = node(tmp_path / "data", 5, [command(5, b"a"), command(5, b"b"), command(5, b"c")])
    replica = Replica(Words())
    for index, word in enumerate((b"A", b"B"), 1):
        replica.apply(index, command(5, word))
    writer = SnapshotWriter(disk.directory, 2)
    for chunk in replica.snapshot():
        writer.write(frame(chunk))
    snapshot = SnapshotInfo(2, 5, writer.size, writer.checksum)
    assert writer.finish(snapshot)
    disk.save_now(Write(2, disk.hard, 0, (), snapshot, 1, 5))
    disk.close()
    about = back_up(tmp_path / "file", tmp_path / "data", Words(), ignore)
    assert list(read_chunks_of(tmp_path / "file", about))[1:] == [b"A", b"B", b"c"]


def test_a_restored_cluster_is_new_and_has_the_state(tmp_path: Path, data_dir: Path) -> None:
    back_up(tmp_path / "file", data_dir, Words(), ignore)
    about, cluster = restore(tmp_path / "file", tmp_path / "new", 3, ignore)
    disks = [open_disk(tmp_path / "new") for _ in range(3)]
    ids = tuple(disk.node_id for disk in disks)
    assert cluster != CLUSTER
    assert len(set(ids)) == 3
    for disk in disks:
        assert disk.hard == HardState(
            term=about.term + TERM_LEAP, formation=FormationState(cluster=cluster, members=ids)
        )
        assert (disk.log.last_index, disk.log.last_term) == (2, 5)
        assert state_of(disk) == [b"a", b"b"]
        disk.close()
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["0", "1", "2"]


def test_a_restored_cluster_speaks_the_version_that_the_state_is_of(tmp_path: Path) -> None:
    raised = encode_configuration(Configuration((1, 2, 3), version=2))
    entries = [command(5, b"a"), Entry(5, EntryKind.CONFIGURATION, raised), command(5, b"b")]
    node(tmp_path / "data", 5, entries).close()
    assert back_up(tmp_path / "file", tmp_path / "data", Words(), ignore).version == 2
    restore(tmp_path / "file", tmp_path / "new", 3, ignore)
    disk = open_disk(tmp_path / "new")
    assert disk.snapshot is not None
    assert disk.snapshot.members() == Configuration(tuple(sorted(disk.hard.formation.members)), version=2)
    disk.close()
    # so does a cluster that is made from its snapshot alone
    assert back_up(tmp_path / "again", tmp_path / "new", Words(), ignore).version == 2


def test_a_backup_of_a_later_version_is_refused(tmp_path: Path) -> None:
    write_backup(tmp_path / "file", Backup(CLUSTER, 1, 1, 1, 0, 99), [b""])
    with pytest.raises(BackupError, match=rf"version 99 of the protocol; this software speaks {SPOKEN}: use the"):
        read_about(tmp_path / "file")


@pytest.mark.parametrize(("known", "begins"), [(7, 7), (TERM_MAX, 5), (TERM_MAX - TERM_LEAP, 5)])
def test_a_restored_cluster_has_room_for_terms(tmp_path: Path, known: int, begins: int) -> None:
    node(tmp_path / "data", known, [command(5, b"a")]).close()
    back_up(tmp_path / "file", tmp_path / "data", Words(), ignore)
    restore(tmp_path / "file", tmp_path / "new", 1, ignore)
    disk = open_disk(tmp_path / "new")
    assert disk.hard.term == begins + TERM_LEAP
    disk.close()


def test_a_backup_whose_terms_leave_no_room_is_not_restored(tmp_path: Path) -> None:
    write_backup(tmp_path / "file", Backup(CLUSTER, TERM_MAX, 1, TERM_MAX, 0), [b""])
    with pytest.raises(
        BackupError, match=r"leaves no room for the terms of another cluster; containers/OPERATING\.md says"
    ):
        restore(tmp_path / "file", tmp_path / "new", 1, ignore)
    assert not (tmp_path / "new").exists()


def test_an_empty_cluster_can_be_restored(tmp_path: Path) -> None:
    node(tmp_path / "data", 1, []).close()
    back_up(tmp_path / "file", tmp_path / "data", Words(), ignore)
    restore(tmp_path / "file", tmp_path / "new", 1, ignore)
    disk = open_disk(tmp_path / "new")
    assert (disk.hard.term, disk.log.last_index, disk.snapshot) == (1 + TERM_LEAP, 0, None)
    disk.close()


def test_a_running_node_is_not_backed_up(tmp_path: Path) -> None:
    disk = node(tmp_path / "data", 1, [])
    with pytest.raises(BackupError, match="data/0: its node runs; stop all nodes first"):
        back_up(tmp_path / "file", tmp_path / "data", Words(), ignore)
    disk.close()


def test_nodes_of_two_clusters_are_not_backed_up(tmp_path: Path, data_dir: Path) -> None:
    node(data_dir, 1, [], cluster=5).close()
    with pytest.raises(BackupError, match="nodes of several clusters"):
        back_up(tmp_path / "file", data_dir, Words(), ignore)


def test_a_backup_of_a_directory_without_nodes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="no node has kept anything there"):
        back_up(tmp_path / "file", tmp_path, Words(), ignore)


def test_a_backup_replaces_nothing(tmp_path: Path, data_dir: Path) -> None:
    (tmp_path / "file").write_bytes(b"precious")
    with pytest.raises(FileIsThereError, match="file: exists already"):
        back_up(tmp_path / "file", data_dir, Words(), ignore)
    assert (tmp_path / "file").read_bytes() == b"precious"


def test_a_backup_replaces_nothing_that_came_while_it_was_written(tmp_path: Path) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"chunk"
        (tmp_path / "file").write_bytes(b"precious")

    with pytest.raises(FileIsThereError, match="file: exists already"):
        write_backup(tmp_path / "file", Backup(CLUSTER, 1, 1, 1, 0), chunks())
    assert (tmp_path / "file").read_bytes() == b"precious"
    assert os.listdir(tmp_path) == ["file"]


def test_a_backup_that_cannot_be_finished_leaves_nothing(tmp_path: Path) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"chunk"
        raise StorageError("damaged")

    with pytest.raises(StorageError):
        write_backup(tmp_path / "file", Backup(CLUSTER, 1, 1, 1, 0), chunks())
    assert not os.listdir(tmp_path)


def test_a_restore_replaces_nothing(tmp_path: Path, data_dir: Path) -> None:
    back_up(tmp_path / "file", data_dir, Words(), ignore)
    with pytest.raises(BackupError, match="a node has kept something there already"):
        restore(tmp_path / "file", data_dir, 1, ignore)


def test_no_damage_of_a_backup_goes_unnoticed(tmp_path: Path, data_dir: Path) -> None:
    path = tmp_path / "file"
    back_up(path, data_dir, Words(), ignore)
    whole = path.read_bytes()
    for offset in range(len(whole)):
        for damaged in (whole[:offset], whole[:offset] + bytes([whole[offset] ^ 1]) + whole[offset + 1 :]):
            path.write_bytes(damaged)
            with pytest.raises(BackupError, match=r"no backup of this program|not whole"):
                read_about(path)
    path.write_bytes(whole + b"more")
    with pytest.raises(BackupError, match="not whole"):
        restore(path, tmp_path / "new", 1, ignore)
    assert not (tmp_path / "new").exists()


def test_a_backup_with_a_foot_of_a_newer_version_is_refused_in_one_line(tmp_path: Path) -> None:
    body = b"trioraft backup 1\n{}" + (2).to_bytes(4, "big")
    (tmp_path / "file").write_bytes(body + zlib.crc32(body).to_bytes(4, "big") + b"end\n")
    with pytest.raises(BackupError, match="cannot be understood"):
        read_about(tmp_path / "file")


def test_damaged_data_is_not_backed_up(tmp_path: Path, data_dir: Path) -> None:
    (data_dir / "1" / "trioraft.db").write_bytes(b"torn" * 300)
    with pytest.raises(StorageError, match="file is not a database"):
        back_up(tmp_path / "file", data_dir, Words(), ignore)


def test_the_commands_back_up_and_restore(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    node(tmp_path / "data", 1, []).close()
    file, new = str(tmp_path / "file"), str(tmp_path / "new")
    assert cli.run(["backup", file, "--data-dir", str(tmp_path / "data")]) == 0
    assert cli.run(["restore", file, "--data-dir", new, "--members", "3"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith(f"{file}: cluster 000000000000004d up to entry 0, ")
    assert out[1].startswith(f"{new}: cluster ")
    assert cli.run(["restore", file, "--data-dir", new]) == 1
    assert (
        capsys.readouterr().err
        == f"trioraft: {new}: a node has kept something there already; give an empty directory\n"
    )


def test_wrong_uses_of_the_command_are_one_line(
    tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there, file = tmp_path / "there", str(tmp_path / "file")
    there.touch()
    wrong = {
        (
            "backup",
            str(there),
            "--data-dir",
            str(data_dir),
        ): f"{there}: exists already; give another name, or remove it",
        ("backup", str(there), "--peers", "127.0.0.1:1"): f"{there}: exists already; give another name, or remove it",
        ("backup", file, "--peers", "127.0.0.1:1", "--data-dir", str(data_dir)): "--peers is for a running cluster,",
        ("backup", file, "--timeout", "soon"): "--timeout='soon': allowed: seconds from 0 to 1000000",
    }
    for arguments, text in wrong.items():
        assert cli.run(list(arguments)) == WRONG
        out, error = capsys.readouterr()
        assert (out, error.count("\n")) == ("", 1)
        assert error.startswith(f"trioraft: {text}")


def test_a_backup_of_a_cluster_that_does_not_answer_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["backup", str(tmp_path / "file"), "--peers", "127.0.0.1:1", "--timeout", "0.5"]) == REFUSED
    out, error = capsys.readouterr()
    assert (out, error.count("\n")) == ("", 1)
    assert "no node could begin within 0.5 s; the last problem: no node answers at 127.0.0.1:1 " in error
    assert not os.listdir(tmp_path)
