"""A new cluster of what one node has: what it keeps, what it refuses, and what a crash leaves of it."""

import os
import random
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.driving import member_around
from tests.unit.test_backups import Words
from trioraft.cli import main as cli
from trioraft.cli.exits import REFUSED, WRONG
from trioraft.consensus import Core, Role, Timing
from trioraft.consensus.configuration import Configuration, decode_configuration, encode_configuration
from trioraft.consensus.events import Removed, StartWork
from trioraft.consensus.hard import FormationState, HardState
from trioraft.consensus.ledger import SnapshotInfo, Write
from trioraft.consensus.numbers import CLAIM_MAX
from trioraft.messages import TERM_LEAP, TERM_MAX, Entry, EntryKind, format_id
from trioraft.replica.sessions import Replica
from trioraft.storage.database import SqliteDisk, open_disk
from trioraft.storage.errors import RecoveryError, StorageError
from trioraft.storage.recovery import Recovered, make_new_cluster, open_survivor
from trioraft.storage.snapshots import SnapshotWriter, frame, path_of, read_chunks

CLUSTER, OTHER, GONE = 77, 5, 6
WORK = 4.0


def command(term: int, data: bytes) -> Entry:
    return Entry(term=term, kind=EntryKind.COMMAND, data=data)


def members(term: int, configuration: Configuration) -> Entry:
    return Entry(term=term, kind=EntryKind.CONFIGURATION, data=encode_configuration(configuration))


def member(data_dir: Path, **hard: Any) -> SqliteDisk:
    """Leave a member with a snapshot of two entries, and two further ones: a command, and a joint configuration."""
    disk = open_disk(data_dir)
    own = disk.node_id
    names = ((own, "node-3"), (OTHER, "node-1"))
    joint = Configuration((OTHER, own), old_voters=(OTHER, GONE), names=names)
    entries = (
        command(3, b"a"),
        members(3, Configuration((OTHER, GONE, own), names=names)),
        command(5, b"c"),
        members(6, joint),
    )
    state = HardState(7, OTHER, promise=3.0, work=6.0, work_term=6, formation=FormationState(cluster=CLUSTER))
    disk.save_now(Write(1, state, 1, entries))
    replica = Replica(Words())
    for index, entry in enumerate(entries[:2], 1):
        replica.apply(index, entry)
    writer = SnapshotWriter(disk.directory, 2)
    for chunk in replica.snapshot():
        writer.write(frame(chunk))
    snapshot = SnapshotInfo(2, 3, writer.size, writer.checksum, entries[1].data)
    assert writer.finish(snapshot)
    disk.save_now(Write(2, state, 0, (), snapshot, 2, 3))
    if hard:
        disk.save_now(Write(3, HardState(**hard)))
    return disk


def recover(data_dir: Path) -> Recovered:
    with open_survivor(data_dir) as survivor:
        return make_new_cluster(survivor, WORK)


def contents(directory: Path) -> tuple[object, ...]:
    """Read everything that a directory has of a node."""
    disk = SqliteDisk(directory)
    try:
        first = disk.log.base_index + 1
        snapshot = [*read_chunks(directory, disk.snapshot)] if disk.snapshot else []
        return disk.node_id, disk.hard, disk.log.entries(first, disk.log.last_index), disk.snapshot, snapshot
    finally:
        disk.close()


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    member(tmp_path / "data").close()
    return tmp_path / "data"


# --- what the new cluster has -------------------------------------------------------------------------------


def test_the_new_cluster_has_all_of_the_log_and_this_node_alone(data_dir: Path) -> None:
    before = contents(data_dir / "0")
    made = recover(data_dir)
    node, hard, entries, snapshot, chunks = contents(data_dir / "0")
    assert (node, made.aside) == (made.node, data_dir / "0" / f"aside-{before[0]:016x}")
    assert (snapshot, chunks) == before[3:]
    assert hard == HardState(
        term=7 + TERM_LEAP,
        voted_for=made.node,
        promise=3.0,
        work=6.0,
        work_term=7 + TERM_LEAP,
        formation=FormationState(cluster=made.cluster),
    )
    assert isinstance(entries, list)
    assert entries[:-1] == before[2]
    assert (entries[-1].term, entries[-1].kind) == (7 + TERM_LEAP, EntryKind.CONFIGURATION)
    alone = Configuration((made.node,), names=((made.node, "node-3"),))
    assert decode_configuration(entries[-1].data) == alone
    assert made.cluster != CLUSTER
    assert contents(made.aside) == before


def test_a_known_term_that_leaves_no_room_does_not_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An earlier release believed in such a term; no entry has it, because no election can follow it."""
    formed = FormationState(cluster=CLUSTER)
    member(tmp_path, term=TERM_MAX, work=1e8, formation=formed).close()
    assert cli.run(["recover", "--data-dir", str(tmp_path)]) == WRONG
    out = capsys.readouterr().out
    assert f"has terms above {6 + TERM_LEAP}," in out
    assert f"has terms below {TERM_MAX}, which this node knows" in out
    made = recover(tmp_path)
    disk = open_disk(tmp_path)
    assert (made.term, disk.hard.term, disk.hard.work) == (6 + TERM_LEAP, 6 + TERM_LEAP, CLAIM_MAX)
    disk.close()


def test_a_log_whose_terms_leave_no_room_is_refused(data_dir: Path) -> None:
    disk = open_disk(data_dir)
    disk.save_now(Write(9, disk.hard, disk.log.last_index + 1, (command(TERM_MAX - 1, b"x"),)))
    disk.close()
    before = contents(data_dir / "0")
    with pytest.raises(
        RecoveryError, match=r"leaves no room for the terms of another cluster; containers/OPERATING\.md says"
    ):
        recover(data_dir)
    assert contents(data_dir / "0") == before


def test_leader_work_waits_for_old_work_that_may_run_longer(data_dir: Path) -> None:
    with open_survivor(data_dir) as survivor:
        make_new_cluster(survivor, 9.5)
    disk = open_disk(data_dir)
    assert disk.hard.work == 9.5
    disk.close()


def test_the_new_node_leads_alone_commits_everything_and_lets_old_work_end(data_dir: Path) -> None:
    made = recover(data_dir)
    disk = open_disk(data_dir)
    timing = Timing(1.0, 2.0, 0.2, 1.0)
    core = Core(
        disk.node_id,
        disk.hard,
        disk.log,
        timing,
        snapshot=disk.snapshot,
        expect=3,
        random_source=random.Random(1),
        now=0,
    )
    now, wake_at, seen = 0.0, 0.0, []
    member = member_around(core, lambda: now)
    started = None
    while started is None and now < 30:
        if wake_at >= now:
            now = wake_at
            member.handle_timer(now)
        turn = member.turn(now)
        for event in turn.events:
            seen.append(event)
            if isinstance(event, StartWork):
                started = (now, event.token)
        assert not turn.send  # there is no other member to send to
        if turn.write is not None:
            disk.save_now(turn.write)
            member.persisted(turn.write.number, now)
        member.apply(turn.apply)
        wake_at = now if member.wants_turn else turn.wake_at
    assert core.role is Role.LEADER
    assert core.state is not None
    assert core.state.commit_index == core.state.log.last_index == 6
    assert core.configuration.members == (made.node,)
    assert not any(isinstance(event, Removed) for event in seen)
    assert started is not None
    assert started[0] >= 6.0
    assert started[1] > 7 + TERM_LEAP
    disk.close()


def test_an_empty_log_makes_a_cluster_too(tmp_path: Path) -> None:
    disk = open_disk(tmp_path)
    disk.save_now(Write(1, HardState(1, formation=FormationState(CLUSTER, members=(disk.node_id, OTHER)))))
    disk.close()
    with open_survivor(tmp_path) as survivor:
        assert survivor.configuration.voters == tuple(sorted((disk.node_id, OTHER)))
        assert survivor.committed == 0
        made = make_new_cluster(survivor, WORK)
    disk = open_disk(tmp_path)
    assert (disk.node_id, disk.log.last_index, disk.log.configuration.voters) == (made.node, 1, (made.node,))
    disk.close()


def test_a_log_that_was_not_synced_is_kept_too(tmp_path: Path) -> None:
    disk = open_disk(tmp_path, "memory")
    hard = HardState(2, formation=FormationState(CLUSTER, members=(disk.node_id, OTHER)))
    disk.save_now(Write(1, hard, 1, (command(2, b"a"),)))
    disk.close()
    made = recover(tmp_path)
    disk = open_disk(tmp_path, "memory")  # else it would come back as yet another node, with nothing
    assert (disk.node_id, disk.log.last_index) == (made.node, 2)
    disk.close()


def test_of_several_nodes_the_one_whose_log_goes_furthest_is_taken(tmp_path: Path) -> None:
    ends = [(3, 9), (5, 2), (5, 1)]
    disks = [open_disk(tmp_path) for _ in ends]
    for disk, (term, count) in zip(disks, ends, strict=True):
        hard = HardState(term, formation=FormationState(CLUSTER, members=(1, 2, 3)))
        disk.save_now(Write(1, hard, 1, tuple(command(term, b"") for _ in range(count))))
        disk.close()
    with open_survivor(tmp_path) as survivor:
        assert survivor.disk.directory == tmp_path / "1"
        assert survivor.others == (tmp_path / "0", tmp_path / "2")
    with open_survivor(tmp_path / "0") as survivor:
        assert (survivor.disk.directory, survivor.others) == (tmp_path / "0", ())


# --- what is refused ------------------------------------------------------------------------------------------


def test_a_running_node_is_refused_and_none_can_start_meanwhile(data_dir: Path) -> None:
    disk = open_disk(data_dir)
    with pytest.raises(RecoveryError, match="data/0: its node runs; stop it first"):
        recover(data_dir)
    disk.close()
    with open_survivor(data_dir) as survivor:
        other = open_disk(data_dir)
        assert other.directory != survivor.disk.directory
        other.close()


def test_a_removed_node_is_refused(tmp_path: Path) -> None:
    member(tmp_path, term=7, formation=FormationState(cluster=CLUSTER), removed=True).close()
    with pytest.raises(RecoveryError, match="was removed from its cluster"):
        recover(tmp_path)


def test_a_node_without_a_cluster_is_refused(tmp_path: Path) -> None:
    open_disk(tmp_path).close()
    with pytest.raises(RecoveryError, match="no member of a cluster yet"):
        recover(tmp_path)


def test_a_directory_without_a_node_is_refused_and_left_alone(tmp_path: Path) -> None:
    for wrong in (tmp_path, tmp_path / "missing"):
        with pytest.raises(RecoveryError, match="no node has kept anything there"):
            recover(wrong)
    assert not list(tmp_path.iterdir())


def test_nodes_of_two_clusters_are_refused(data_dir: Path) -> None:
    disk = open_disk(data_dir)
    other = open_disk(data_dir)
    other.save_now(Write(1, HardState(1, formation=FormationState(cluster=OTHER))))
    disk.close()
    other.close()
    with pytest.raises(RecoveryError, match="nodes of several clusters"):
        recover(data_dir)


def test_damaged_data_is_refused(data_dir: Path) -> None:
    disk = open_disk(data_dir)
    disk.close()
    assert disk.snapshot is not None
    path = path_of(disk.directory, disk.snapshot)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"x")
    with pytest.raises(StorageError, match="does not match its checksum"):
        recover(data_dir)
    path.unlink()
    with pytest.raises(StorageError, match="No such file"):
        recover(data_dir)
    path.write_bytes(whole)
    (data_dir / "0" / "trioraft.db").write_bytes(b"torn" * 300)
    with pytest.raises(StorageError, match="file is not a database"):
        recover(data_dir)


# --- what a crash leaves ----------------------------------------------------------------------------------------


def crash_at(step: int, data_dir: Path) -> bool:
    """Recover in another process, which ends at one of its steps; return whether it got that far."""
    child = os.fork()
    if child == 0:
        left = [step]

        def count(_: object = None) -> None:
            left[0] -= 1
            if left[0] < 0:
                os._exit(1)

        def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
            db: sqlite3.Connection = really_connect(*arguments, **options)
            db.set_trace_callback(count)
            return db

        really_connect = sqlite3.connect
        pytest.MonkeyPatch().setattr(sqlite3, "connect", connect)
        sys.addaudithook(lambda event, _: count() if event.startswith(("open", "os.", "shutil.")) else None)
        try:
            with open_survivor(data_dir) as survivor:
                make_new_cluster(survivor, WORK)
                count()
            os._exit(0)
        finally:
            os._exit(2)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in {0, 1}
    return status == 1


def crashes(data_dir: Path, work_in: Path) -> Iterator[Path]:
    """Yield the directory that a crash at each step leaves."""
    step = 0
    while True:
        copy = work_in / f"step-{step}"
        shutil.copytree(data_dir, copy)
        if not crash_at(step, copy):
            return
        yield copy
        step += 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of fork beside threads that other tests have left
def test_a_crash_at_any_step_leaves_the_old_node_or_the_new_one(data_dir: Path, tmp_path: Path) -> None:
    before = contents(data_dir / "0")
    steps, new = 0, 0
    for left in crashes(data_dir, tmp_path):
        steps += 1
        after = contents(left / "0")
        if after != before:
            new += 1
            node, hard = after[:2]
            assert isinstance(hard, HardState)
            assert (node, hard.term) == (hard.voted_for, 7 + TERM_LEAP)
            assert contents(left / "0" / f"aside-{before[0]:016x}") == before
        else:
            made = recover(left)  # what the crash has left does not matter
            assert contents(made.aside) == before
            assert not (left / "0" / "recovering").exists()
    assert 0 < new < steps
    assert steps > 30


# --- the command ------------------------------------------------------------------------------------------------


def test_the_command_says_what_it_costs_and_does_it_when_told_to(
    data_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(data_dir / "0")
    own = format_id(int(str(before[0])))
    monkeypatch.setenv("DATA_DIR", str(data_dir))
    assert cli.run(["recover"]) == WRONG
    out, error = capsys.readouterr()
    assert f"{data_dir}/0: node {own} of cluster {format_id(CLUSTER)}, in term 7\nlast entry: 4, of term 6\n" in out
    assert "surely committed: entries up to 2, which its snapshot has" in out
    assert f"node-1 ({format_id(OTHER)}) voter" in out
    assert f"node-3 ({own}) new voter, this node" in out
    assert "is lost" in out
    assert f"has terms above {7 + TERM_LEAP}," in out
    assert error.startswith("trioraft: nothing was done; when a quorum can be started again, do that;")
    assert error.count("\n") == 1

    assert cli.run(["recover", "--force-new-cluster"]) == WRONG  # there is no terminal
    assert capsys.readouterr().err == "trioraft: nothing was done; there is no terminal to ask at, so say --yes\n"
    assert contents(data_dir / "0") == before

    assert cli.run(["recover", "--force-new-cluster", "--yes", "--data-dir", str(data_dir / "0")]) == 0
    out, error = capsys.readouterr()
    assert not error
    node, hard = contents(data_dir / "0")[:2]
    assert isinstance(hard, HardState)
    assert f"cluster {format_id(hard.formation.cluster)}, whose only member is this node, now {node:016x};" in out
    assert f"the data as it was: {data_dir}/0/aside-{own}\n" in out
    assert "mv DATA_DIR DATA_DIR.old" in out


@pytest.mark.parametrize(("answer", "status"), [("y\n", 0), ("\n", REFUSED)])
def test_the_command_asks_before_it_changes_anything(data_dir: Path, answer: str, status: int) -> None:
    before = contents(data_dir / "0")
    arguments = [sys.executable, "-m", "trioraft", "recover", "--force-new-cluster", "--data-dir", str(data_dir)]
    terminal, theirs = os.openpty()
    child = os.posix_spawn(
        sys.executable,
        arguments,
        os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, theirs, descriptor) for descriptor in (0, 1, 2)],
        setsid=True,
    )
    os.close(theirs)
    os.write(terminal, answer.encode())
    shown = b""
    while True:
        try:
            shown += os.read(terminal, 65536)
        except OSError:  # it has ended
            break
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == status, shown.decode()
    assert b"Make the new cluster? [y/N]" in shown
    assert (contents(data_dir / "0") == before) == (status != 0)


def test_wrong_data_ends_the_command_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["recover", "--force-new-cluster", "--yes", "--data-dir", str(tmp_path)]) == REFUSED
    assert capsys.readouterr().err == (
        f"trioraft: {tmp_path}: no node has kept anything there; give the DATA_DIR of a stopped member\n"
    )
