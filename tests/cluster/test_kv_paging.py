"""Answers larger than one message, on real processes."""

import json
import signal
import subprocess
from pathlib import Path

import pytest
import trio

from tests.cluster.harness import Cluster
from tests.cluster.test_kv import arguments, environment, settings_of
from trioraft import sync
from trioraft.client.client import Client
from trioraft.kv.commands import OPERATIONS_MAX, Event, Put, Range
from trioraft.kv.results import RangeResult

LARGE = 1_047_000


async def put_many(client: Client, keys: list[str]) -> None:
    for start in range(0, len(keys), OPERATIONS_MAX):
        await client.txn((), [Put.of(key, "value") for key in keys[start : start + OPERATIONS_MAX]])


async def test_a_watch_gives_every_change_whatever_its_size(tmp_path: Path) -> None:
    async with Cluster(tmp_path, size=1) as cluster:
        await cluster.wait_leader()
        client = cluster.client
        first = (await client.put("a/1", b"1" * LARGE)).revision
        await client.put("a/2", b"2" * LARGE)
        await client.put("a/2", b"3" * 2**20)
        expected = [(b"a/1", b"1"), (b"a/2", b"2"), (b"a/2", b"3")]
        with trio.fail_after(20):
            watch = client.watch("a/", prefix=True, revision=first, prev_kv=True)
            events = [await anext(watch) for _ in expected]
            assert [(event.kv.key, event.kv.value[:1]) for event in events] == expected
            assert events[2].prev_kv == events[1].kv

            def follow() -> list[tuple[bytes, bytes]]:
                with sync.Client(settings_of(cluster)) as blocking:
                    found = blocking.watch("a/", prefix=True, revision=first)
                    return [(event.kv.key, event.kv.value[:1]) for _, event in zip(expected, found, strict=False)]

            assert await trio.to_thread.run_sync(follow) == expected
            shown = await trio.lowlevel.open_process(
                arguments("watch", "a/", "--prefix", "--revision", str(first), "--format", "json"),
                stdout=subprocess.PIPE,
                env=environment(cluster),
            )
            assert shown.stdout is not None
            lines = b""
            while lines.count(b"\n") < len(expected):
                lines += await shown.stdout.receive_some()
            assert [json.loads(line)["value"][:1].encode() for line in lines.splitlines()] == [b"1", b"2", b"3"]
            shown.send_signal(signal.SIGINT)
            assert await shown.wait() == 0


async def test_a_revision_of_many_pages_goes_on_after_a_restart(tmp_path: Path) -> None:
    async with Cluster(tmp_path, size=1) as cluster:
        await cluster.wait_leader()
        client = cluster.client
        keys = [f"many/{number:06}{'x' * 209}" for number in range(9000)]
        await put_many(client, keys)
        watch = client.watch("many/", prefix=True, prev_kv=True)
        await watch.start()
        found: list[Event] = []
        deleted = await client.delete("many/", prefix=True)
        with trio.fail_after(30):
            found += [await anext(watch) for _ in range(10)]
            await cluster.kill(0)
            await cluster.start(0)
            found += [await anext(watch) for _ in range(len(keys) - 10)]
        assert [event.kv.key.decode() for event in found] == keys, "each once, in order"
        assert {event.kv.mod_revision for event in found} == {deleted.revision}
        assert all(event.prev_kv is not None and event.prev_kv.value == b"value" for event in found)


async def test_a_deletion_of_more_than_the_history_holds_can_be_watched(tmp_path: Path) -> None:
    async with Cluster(tmp_path, size=1) as cluster:
        await cluster.wait_leader()
        await cluster.wait_for(lambda seen: seen.nodes[0].status.cluster_version >= 3, 20)
        client = cluster.client
        for number in range(40):
            await client.put(f"large/{number:02}", bytes(1_000_000))
        deleted = await client.delete("large/", prefix=True)
        await client.put("other", "x")
        with trio.fail_after(20):
            watch = client.watch("large/", prefix=True, revision=deleted.revision)
            assert [(await anext(watch)).kv.key for _ in range(40)] == [b"large/%02d" % n for n in range(40)]


async def test_a_list_is_whole_whatever_is_written_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Cluster(tmp_path, size=1) as cluster:
        await cluster.wait_leader()
        client = cluster.client
        for number in range(40):
            await client.put(f"key/{number:02}", bytes(200_000))
        for number in range(2):
            await client.put(f"other/{number}", bytes(1_000_000))
        parts: list[int] = []
        read = Client.range

        async def read_and_write(self: Client, request: Range, *, stale: bool = False) -> RangeResult:
            found = await read(self, request, stale=stale)
            parts.append(len(found.kvs))
            if len(parts) == 1:
                await client.put("key/00", "changed")
                for number in range(18):  # as much as the history holds
                    await client.put(f"other/{number % 2}", bytes(1_000_000))
            if len(parts) in restart_after:
                await cluster.kill(0)
                await cluster.start(0)
            return found

        monkeypatch.setattr(Client, "range", read_and_write)
        for restart_after, first in ([], 200_000), ([3], len("changed")):
            parts.clear()
            with trio.fail_after(30):
                found = await client.list("key/")
            assert [kv.key for kv in found] == [b"key/%02d" % number for number in range(40)]
            assert len(found[0].value) == first
            assert (sum(parts) == 40) == (not restart_after), "only after a restart it is read again"
