"""Backups of running clusters: what is in them, what may be lost on the way, and what is left behind.

The nodes and the client run under the mocked clock; their backups are real files. What threads do is done at once
here, because the clock would jump ahead of a real thread. Real ones are in ``tests/cluster/test_backup.py``.
"""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.unit.memory_client import CLIENT_PORT, KeyValueCluster, cut, memory_client
from trioraft.client.backup import fetch_backup
from trioraft.client.client import Client
from trioraft.kv.codec import Box, unpack
from trioraft.kv.service import KeyValueService
from trioraft.messages import (
    BackupPart,
    ClientResponse,
    EndBackup,
    ReadBackup,
    Refusal,
    StartBackup,
    Transfer,
    format_id,
)
from trioraft.node.backups import BACKUPS_MAX, IDLE_SECONDS
from trioraft.replica.sessions import Replica
from trioraft.storage.backup_file import Backup, read_about, read_chunks_of
from trioraft.storage.errors import BackupError, FileIsThereError

SEEDS = range(3)
VALUES = {f"key {number:02}".encode(): bytes([number]) * 100_000 for number in range(12)}


class Part(Box[BackupPart], frozen=True, array_like=True):
    """The box for an answer."""


class Seen:
    """Remembers the progress that is reported, and does something at each step."""

    def __init__(self, at_step: Callable[[str, int], None] = lambda what, done: None) -> None:
        self.steps: list[tuple[str, int, int | None]] = []
        self.problems: list[str] = []
        self._at_step = at_step

    def progress(self, what: str, done: int, of: int | None) -> None:
        self.steps.append((what, done, of))
        self._at_step(what, done)

    def problem(self, text: str) -> None:
        self.problems.append(text)


@asynccontextmanager
async def running(tmp_path: Path, seed: int = 1) -> AsyncIterator[tuple[KeyValueCluster, Client]]:
    """Run a cluster whose nodes have directories, with a state of 1.2 MB, and a client."""
    try:
        async with trio.open_nursery() as nursery:
            cluster = KeyValueCluster(nursery, 3, seed, max_datagram_bytes=16_000)
            for index, disk in enumerate(cluster.disks):
                disk.directory = tmp_path / f"node-{index + 1}"
                disk.directory.mkdir()
                (disk.directory / "backup-left").touch()
            await cluster.start()
            await cluster.leader()
            async with memory_client(cluster.network, cluster.addresses) as client:
                for key, value in VALUES.items():
                    await client.put(key, value)
                yield cluster, client
            nursery.cancel_scope.cancel()
    except BaseException:
        print(f"seed {seed}")
        raise


@pytest.fixture(autouse=True)
def _threads_take_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run_sync(function: Callable[..., object], *arguments: object) -> object:
        await trio.lowlevel.checkpoint()
        return function(*arguments)

    monkeypatch.setattr(trio.to_thread, "run_sync", run_sync)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the path for a backup, in a directory of its own."""
    (tmp_path / "backups").mkdir()
    return tmp_path / "backups" / "file"


def content(file: Path) -> bytes:
    return file.read_bytes()


def left(cluster: KeyValueCluster) -> list[Path]:
    return [path for disk in cluster.disks for path in disk.directory.glob("backup-*")]


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    with trio.fail_after(seconds):
        while not condition():
            await trio.sleep(0.05)


def restored(path: Path, about: Backup) -> tuple[KeyValueService, frozenset[int]]:
    """Read the store and the sessions from a backup."""
    service = KeyValueService()
    replica = Replica(service)
    replica.restore(about.index, read_chunks_of(path, about))
    return service, replica.sessions


async def ask(client: Client, index: int, command: StartBackup | ReadBackup | EndBackup) -> ClientResponse:
    return await client.command(format_id(index + 1), command)


async def start(client: Client, index: int) -> int:
    response = await ask(client, index, StartBackup())
    assert response.done, response.detail
    return unpack(response.data, Part).backup


# --- what is in it ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_follower_makes_the_backup_and_it_arrives_whole_whatever_is_lost_and_doubled(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, file: Path, seed: int
) -> None:
    async with running(tmp_path, seed) as (cluster, client):
        assert not left(cluster)  # what a crash had left was removed
        digest = await cluster.same_state()
        cluster.network.loss, cluster.network.duplication = 0.1, 0.3
        seen = Seen()
        about = await fetch_backup(client, file, seen)
        cluster.network.loss = 0.0
        leader = await cluster.leader()
        status = cluster.nodes[leader].status()
        assert about == read_about(file)
        assert (format_id(about.cluster), about.term) == (status.cluster_id, status.term)
        service, sessions = restored(file, about)
        assert service.store.digest() == digest
        assert len(sessions) == 1
        assert not seen.problems
        assert all(f"node-{leader + 1}" not in what for what, _, _ in seen.steps)
        size = len(content(file))
        assert seen.steps[-1][1:] == (size, size)
        assert os.listdir(file.parent) == ["file"]
        await until(lambda: not left(cluster), IDLE_SECONDS + 1)  # the message that nobody wants it may be lost


async def test_a_backup_has_all_that_was_acknowledged_before_even_from_a_follower_that_was_away(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, file: Path
) -> None:
    async with running(tmp_path) as (cluster, client):
        leader = await cluster.leader()
        away, other = (index for index in range(3) if index != leader)
        cut(cluster, cluster.address(away).port)
        for to in (other, leader, other):
            assert (await client.command(None, Transfer(to + 1), 60)).done
        await client.put("key", "the newest")
        term = cluster.nodes[other].status().term
        assert cluster.nodes[away].status().term < term
        cut(cluster)
        with trio.fail_after(30):
            while not (response := await ask(client, away, StartBackup())).done:
                assert response.code in {Refusal.NO_LEADER, Refusal.NOT_LEADER}
                await trio.sleep(0.01)
        kept = cluster.disks[away].directory / f"backup-{format_id(unpack(response.data, Part).backup)}"
        await until(lambda: _is_whole(kept))
        about = read_about(kept)
        service, _ = restored(kept, about)
        assert about.term == term
        assert service.store.digest() == cluster.services[other].store.digest()


def _is_whole(path: Path) -> bool:
    try:
        read_about(path)
    except BackupError:
        return False
    return True


# --- what goes wrong ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
async def test_another_node_makes_the_backup_anew_when_one_dies(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, file: Path, seed: int
) -> None:
    async with running(tmp_path, seed) as (cluster, client), trio.open_nursery() as nursery:
        digest = await cluster.same_state()
        killed: list[str] = []

        def kill(what: str, done: int) -> None:
            if what.startswith("fetching") and not killed:
                killed.append(what.removeprefix("fetching from "))
                nursery.start_soon(cluster.kill, int(killed[0].removeprefix("node-")) - 1)

        seen = Seen(kill)
        about = await fetch_backup(client, file, seen)
        assert restored(file, about)[0].store.digest() == digest
        [problem] = seen.problems
        assert problem.startswith(f"{killed[0]}: node ")
        assert problem.endswith("did not answer within 5 s; starting again")
        assert os.listdir(file.parent) == ["file"]


async def test_a_node_drops_a_backup_when_its_client_is_silent(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, file: Path
) -> None:
    async with running(tmp_path) as (cluster, client):
        backup = await start(client, 0)
        await until(lambda: left(cluster))
        for _ in range(3):
            await trio.sleep(IDLE_SECONDS - 5)
            assert (await ask(client, 0, ReadBackup(backup))).done
        cut(cluster, CLIENT_PORT)
        await trio.sleep(IDLE_SECONDS - 5)
        assert left(cluster)
        await until(lambda: not left(cluster), 10)
        cut(cluster)
        response = await ask(client, 0, ReadBackup(backup))
        assert (response.done, response.code) == (False, Refusal.REFUSED)
        assert "has no backup" in response.detail


async def test_a_node_keeps_only_a_few_backups_at_a_time(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, file: Path
) -> None:
    async with running(tmp_path) as (cluster, client):
        cluster.network.duplication = 0.5
        backups = [await start(client, 0) for _ in range(BACKUPS_MAX)]
        response = await ask(client, 0, StartBackup())
        assert (response.done, response.code) == (False, Refusal.BUSY)
        assert (await ask(client, 0, EndBackup(backups[0]))).done
        await until(lambda: len(left(cluster)) < BACKUPS_MAX)
        await start(client, 0)
        await cluster.kill(0)
        assert not left(cluster)


async def test_a_request_that_is_repeated_begins_one_backup(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, file: Path
) -> None:
    async with running(tmp_path) as (cluster, client), trio.open_nursery() as nursery:
        one_way = (cluster.address(0).port, CLIENT_PORT)
        cluster.network.carries = lambda source, to: (source.port, to.port) != one_way
        backups: list[int] = []

        async def begin() -> None:
            backups.append(await start(client, 0))

        nursery.start_soon(begin)
        await trio.sleep(2)
        assert not backups
        cut(cluster)
        await until(lambda: backups)
        assert [path.name for path in left(cluster)] == [f"backup-{format_id(backups[0])}"]


async def test_without_a_quorum_there_is_no_backup_and_the_error_says_why(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, file: Path
) -> None:
    async with running(tmp_path) as (cluster, client):
        leader = await cluster.leader()
        await cluster.kill(leader)
        await cluster.kill((leader + 1) % 3)
        await trio.sleep(30)
        with pytest.raises(BackupError, match=r"no node could begin within 10 s; .* no quorum: 1 of 3 reachable"):
            await fetch_backup(client, file, Seen())
        assert not os.listdir(file.parent)


async def test_a_cancelled_backup_leaves_nothing_here_or_at_the_node(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, file: Path
) -> None:
    async with running(tmp_path) as (cluster, client):
        with trio.CancelScope() as scope:

            def cancel(what: str, done: int) -> None:
                if what.startswith("fetching") and done > 100_000:
                    scope.cancel()

            await fetch_backup(client, file, Seen(cancel))
        assert scope.cancelled_caught
        assert not os.listdir(file.parent)
        await until(lambda: not left(cluster))


async def test_a_backup_that_was_damaged_on_the_way_is_fetched_again(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, file: Path
) -> None:
    async with running(tmp_path) as (cluster, client):
        damaged: list[Path] = []

        def damage(what: str, done: int) -> None:
            if what.startswith("fetching") and not damaged:
                damaged.extend(left(cluster))
                with damaged[0].open("r+b") as kept:
                    kept.seek(-1000, os.SEEK_END)
                    kept.write(b"damage")

        seen = Seen(damage)
        about = await fetch_backup(client, file, seen)
        [problem] = seen.problems
        assert "what it gave is no whole backup" in problem
        assert restored(file, about)[0].store.digest() == await cluster.same_state()


async def test_a_node_whose_disk_takes_no_backup_goes_on_and_another_one_makes_it(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, file: Path
) -> None:
    async with running(tmp_path) as (cluster, client):
        leader = await cluster.leader()
        first = min(index for index in range(3) if index != leader)
        cluster.disks[first].directory.rmdir()
        seen = Seen()
        await fetch_backup(client, file, seen)
        [problem] = seen.problems
        assert f"node-{first + 1}: " in problem
        assert "No such file or directory" in problem
        assert first in cluster.nodes
        assert os.listdir(file.parent) == ["file"]


async def test_a_file_that_exists_is_refused_before_anybody_is_asked(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, file: Path
) -> None:
    os.symlink("nowhere", file)
    async with running(tmp_path) as (_, client):
        before = trio.current_time()
        with pytest.raises(FileIsThereError, match="file: exists already"):
            await fetch_backup(client, file, Seen())
        assert trio.current_time() == before
    assert os.listdir(file.parent) == ["file"]
