"""The key-value store on real processes: the commands and the clients."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import trio

from tests.cluster.harness import LOOPBACK, ROOT, Cluster, clean_environment, free_ports
from trioraft import ClientSettings, NoAnswerError, open_client, sync
from trioraft.datagrams.endpoint import Domain
from trioraft.kv.commands import DELETED_MAX, OPERATIONS_MAX, Put


def settings_of(cluster: Cluster) -> ClientSettings:
    return ClientSettings.from_environ(cluster.shared)


def arguments(*words: str) -> list[str]:
    return [sys.executable, "-m", "trioraft", *words]


def environment(cluster: Cluster, **more: str) -> dict[str, str]:
    return {**clean_environment(), "PYTHONPATH": str(ROOT), **cluster.shared, **more}


async def command(cluster: Cluster, *words: str, stdin: bytes = b"") -> tuple[int, str, str]:
    done = await trio.run_process(
        arguments(*words),
        stdin=stdin,
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        env=environment(cluster),
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


# --- commands -----------------------------------------------------------------------------------------------


async def test_the_commands_put_get_list_and_delete(tmp_path: Path) -> None:
    async with Cluster(tmp_path, size=3) as cluster:
        await cluster.wait_leader()
        assert await command(cluster, "put", "a", "hello") == (0, "revision 2\n", "")
        assert await command(cluster, "get", "a") == (0, "hello\n", "")
        status, out, err = await command(cluster, "get", "nothing")
        assert (status, out) == (1, "")
        assert err.count("\n") == 1
        assert (await command(cluster, "put", "b", "-", stdin=b"\xff\n"))[0] == 0
        status, out, _ = await command(cluster, "list", "--format", "json")
        assert json.loads(out) == [
            {"key": "a", "value": "hello", "create_revision": 2, "mod_revision": 2, "version": 1},
            {
                "key": "b",
                "value": "/wo=",
                "value_encoding": "base64",
                "create_revision": 3,
                "mod_revision": 3,
                "version": 1,
            },
        ]
        assert json.loads((await command(cluster, "get", "a", "--format", "json"))[1])["value"] == "hello"
        for words in (("get", ""), ("put", "k" * 1537, "v"), ("watch", ""), ("put", "k", "v", "--lease", "x")):
            status, out, err = await command(cluster, *words)
            assert (status, out, err.count("\n")) == (2, "", 1), words
        status, _, err = await command(cluster, "put", "k", "-", stdin=bytes(2**20 + 1))
        assert (status, err) == (2, "trioraft: VALUE: too large; allowed: at most 1048576 bytes\n")
        assert (await command(cluster, "put", "k"))[2].endswith("(see `trioraft put --help`)\n")
        assert (await command(cluster, "cas", "a", "hello", "world"))[0] == 0
        assert (await command(cluster, "cas", "a", "hello", "world"))[0] == 1
        assert (await command(cluster, "cas", "c", "0", "new", "--revision"))[0] == 0
        assert await command(cluster, "get", "a", "--stale") == (0, "world\n", "")
        assert await command(cluster, "delete", "", "--prefix") == (0, "deleted 3\n", "")


async def test_more_keys_than_one_command_may_delete_are_deleted_in_parts(tmp_path: Path) -> None:
    async with Cluster(tmp_path, size=1) as cluster:
        await cluster.wait_leader()
        for start in range(0, 2 * DELETED_MAX, OPERATIONS_MAX):
            numbers = range(start, start + OPERATIONS_MAX)
            await cluster.client.txn((), [Put.of(f"many/{number:05}", "") for number in numbers])
        await cluster.client.put("other", "")
        count = numbers.stop
        assert await command(cluster, "delete", "--prefix", "many/") == (0, f"deleted {count}\n", "")
        assert [kv.key for kv in await cluster.client.list("")] == [b"other"]


async def test_the_commands_grant_leases_and_watch(tmp_path: Path) -> None:
    async with Cluster(tmp_path, size=1) as cluster:
        await cluster.wait_leader()
        status, out, _ = await command(cluster, "lease", "grant", "60", "--format", "json")
        lease = json.loads(out)["id"]
        await command(cluster, "put", "a", "1", "--lease", lease)
        assert json.loads((await command(cluster, "lease", "show", lease, "--format", "json"))[1])["keys"] == [
            {"key": "a"}
        ]
        assert (await command(cluster, "lease", "list"))[1] == f"{lease}\n"
        watch = await trio.lowlevel.open_process(
            arguments("watch", "a", "--revision", "2", "--format", "json"),
            stdout=subprocess.PIPE,
            env=environment(cluster),
        )
        assert (await command(cluster, "lease", "revoke", lease))[0] == 0
        lines = b""
        with trio.fail_after(20):
            while lines.count(b"\n") < 2:
                assert watch.stdout is not None
                lines += await watch.stdout.receive_some()
        watch.send_signal(signal.SIGINT)
        assert await watch.wait() == 0
        events = [json.loads(line) for line in lines.splitlines()]
        assert [event["type"] for event in events] == ["put", "delete"], "the lease has ended, and the key with it"
        status, _, err = await command(cluster, "lease", "keep-alive", lease, "--once")
        assert status == 1
        assert "there is no lease" in err


async def test_a_key_keeps_its_lease_or_says_that_it_has_left_it(tmp_path: Path) -> None:
    async with Cluster(tmp_path, size=1) as cluster:
        await cluster.wait_leader()
        lease = (await command(cluster, "lease", "grant", "60"))[1].strip()
        left = f"; the key has left its lease {lease} (--keep-lease keeps it)\n"
        assert await command(cluster, "put", "svc/me", "up", "--lease", lease) == (0, "revision 2\n", "")
        assert (await command(cluster, "cas", "svc/me", "up", "draining", "--keep-lease"))[:2] == (0, "revision 3\n")
        assert (await command(cluster, "put", "svc/me", "up", "--keep-lease"))[:2] == (0, "revision 4\n")
        assert (await command(cluster, "cas", "svc/me", "4", "new", "--revision", "--lease", lease))[0] == 0
        assert await command(cluster, "cas", "svc/me", "new", "up") == (0, f"revision 6{left}", "")
        assert (await command(cluster, "put", "svc/me", "up", "--lease", lease))[1] == "revision 7\n"
        out = (await command(cluster, "put", "svc/me", "up", "--format", "json"))[1]
        assert json.loads(out) == {"revision": 8, "left_lease": lease}
        assert (await command(cluster, "cas", "svc/me", "up", "x", "--lease", lease))[0] == 0
        assert (await command(cluster, "cas", "svc/me", "up", "y", "--keep-lease"))[0] == 1
        assert (await command(cluster, "put", "a", "1", "--keep-lease"))[1] == "revision 10\n", "it has none to keep"
        assert (await command(cluster, "cas", "a", "1", "2", "--keep-lease", "--lease", lease))[0] == 2
        await command(cluster, "lease", "revoke", lease)
        assert [kv.key for kv in await cluster.client.list()] == [b"a"]


async def test_a_command_without_a_quorum_says_so(tmp_path: Path) -> None:
    async with Cluster(tmp_path, size=3) as cluster:
        leader = cluster.index(await cluster.wait_leader())
        for index in range(3):
            if index != leader:
                await cluster.kill(index)
        await cluster.wait_for(lambda seen: seen.leader is None, 10)
        await trio.sleep(2.5)  # until the node that is left counts the others as not reachable
        status, out, err = await command(cluster, "put", "a", "1", "--timeout", "2")
        assert (status, out) == (1, "")
        assert "not proposed: no quorum: 1 of 3 reachable" in err


# --- locks --------------------------------------------------------------------------------------------------

# Writes a line at least every 20 ms for as long as it runs, and does not listen to SIGTERM.
WORKER = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True:
    line = f"{sys.argv[1]} {os.environ['TRIORAFT_FENCING_TOKEN']} {time.clock_gettime(time.CLOCK_BOOTTIME)}\\n"
    os.write(int(sys.argv[2]), line.encode())
    time.sleep(0.02)
"""


async def locked_worker(cluster: Cluster, name: str, file: Path) -> trio.Process:
    with file.open("ab") as output:
        return await trio.lowlevel.open_process(
            arguments("lock", "job", "--ttl", "3", "--", sys.executable, "-c", WORKER, name, str(output.fileno())),
            pass_fds=[output.fileno()],
            env=environment(cluster),
        )


def runs(file: Path) -> list[tuple[str, int, float, float]]:
    """Return who ran, with which token, and from when to when."""
    found: dict[tuple[str, int], list[float]] = {}
    for line in file.read_text().splitlines():
        name, token, at = line.split()
        found.setdefault((name, int(token)), []).append(float(at))
    return [(name, token, min(times), max(times)) for (name, token), times in found.items()]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_locked_command_has_ended_before_the_next_one_runs(tmp_path: Path, how: signal.Signals) -> None:
    file = tmp_path / "lines"
    async with Cluster(tmp_path, size=3) as cluster:
        await cluster.wait_leader()
        first = await locked_worker(cluster, "first", file)
        try:
            with trio.fail_after(10):
                while not file.read_bytes():
                    await trio.sleep(0.05)
            second = await locked_worker(cluster, "second", file)
            try:
                await trio.sleep(4)  # longer than the lease: it is kept alive
                first.send_signal(how)
                with trio.fail_after(15):
                    while b"second" not in file.read_bytes():
                        await trio.sleep(0.05)
                await trio.sleep(0.3)
            finally:
                second.terminate()
                with trio.fail_after(10):
                    await second.wait()
        finally:
            first.kill()
            await first.wait()
    (name, token, _, ended), (other, other_token, began, _) = runs(file)
    assert (name, other) == ("first", "second")
    assert ended < began
    assert token < other_token


async def test_a_locked_command_gives_its_exit_status_and_leaves_nothing_behind(tmp_path: Path) -> None:
    async with Cluster(tmp_path, size=1) as cluster:
        await cluster.wait_leader()
        script = "sleep 1000 & echo $! $TRIORAFT_FENCING_TOKEN; exit 7"
        status, out, err = await command(cluster, "lock", "job", "--", "sh", "-c", script)
        assert (status, err) == (7, "")
        child, token = map(int, out.split())
        assert token > 0
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)
        assert (await command(cluster, "list", "--format", "json"))[1] == "[]\n", "the lock is free"
        assert (await command(cluster, "lock", "job", "--", "sh", "-c", "kill -9 $$"))[0] == 128 + 9
        assert (await command(cluster, "lock", "job", "--", "/nonexistent"))[0] == 2


async def test_a_command_that_is_told_to_end_while_it_waits_for_a_lock_leaves_the_queue(tmp_path: Path) -> None:
    async with Cluster(tmp_path, size=1) as cluster:
        await cluster.wait_leader()
        async with cluster.client.lock("job"):
            waiting = await trio.lowlevel.open_process(
                arguments("lock", "job", "--ttl", "100", "--", "true"), env=environment(cluster)
            )
            with trio.fail_after(20):
                while len(await cluster.client.list("trioraft/locks/", keys_only=True)) < 2:
                    await trio.sleep(0.05)
                waiting.terminate()
                assert await waiting.wait() == 128 + signal.SIGTERM
            assert len(await cluster.client.leases()) == 1


async def test_a_lock_that_is_held_is_waited_for_only_so_long(tmp_path: Path) -> None:
    async with Cluster(tmp_path, size=1) as cluster:
        await cluster.wait_leader()
        async with cluster.client.lock("job"):
            status, out, err = await command(cluster, "lock", "job", "--wait", "1", "--", "echo", "ran")
        assert (status, out) == (1, "")
        assert "held by somebody else" in err


async def test_a_command_whose_lock_may_be_lost_is_told_to_end(tmp_path: Path) -> None:
    script = "trap 'echo told; exit 9' TERM; echo runs; while true; do sleep 0.05; done"
    async with Cluster(tmp_path, size=1) as cluster:
        await cluster.wait_leader()
        locked = await trio.lowlevel.open_process(
            arguments("lock", "job", "--ttl", "2", "--", "sh", "-c", script),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(cluster),
        )
        assert locked.stdout is not None
        assert locked.stderr is not None
        with trio.fail_after(15):
            assert await locked.stdout.receive_some() == b"runs\n"
            cluster.pause(0)
            assert await locked.stdout.receive_some() == b"told\n"
            cluster.resume(0)
            assert await locked.wait() == 1
            said = await locked.stderr.receive_some()
    line = b"trioraft: the lock job is not held: the command was ended in time, because no keep-alive was answered\n"
    assert said.endswith(line)


async def test_nodes_of_one_data_directory_lead_with_their_own_commands(tmp_path: Path) -> None:
    """They are of different services and are started at once, so that neither leads before the other is there."""
    data = tmp_path / "data"
    files = [tmp_path / f"out {number}" for number in range(2)]
    nodes = []
    try:
        for file, port in zip(files, free_ports(2), strict=True):
            command = ["sh", "-c", f"echo \"$0 $TRIORAFT_FENCING_TOKEN\" >'{file}'; exec sleep 1000", "it's"]
            nodes.append(
                await trio.lowlevel.open_process(
                    arguments("lead", "--", *command),
                    env={
                        **clean_environment(),
                        "BIND_HOST": LOOPBACK,
                        "BIND_PORT": str(port),
                        "PEERS": f"{LOOPBACK}:{port}",
                        "APP_NAME": f"service-{port}",
                        "PYTHONPATH": str(ROOT),
                        "DATA_DIR": str(data),
                        "BOOTSTRAP_EXPECT": "1",
                        "ELECTION_TIMEOUT_LOWER_MILLIS": "600",
                        "ELECTION_TIMEOUT_UPPER_MILLIS": "1200",
                        "HEARTBEAT_REPEAT_MILLIS": "100",
                    },
                )
            )
        for file in files:
            with trio.fail_after(30):
                while not file.exists() or not file.read_text():
                    await trio.sleep(0.05)
            name, token = file.read_text().split()
            assert name == "it's"
            assert int(token) > 0
        assert sorted(path.name for path in data.iterdir()) == ["0", "1"]
    finally:
        for node in nodes:
            node.terminate()
        with trio.fail_after(15):
            assert [await node.wait() for node in nodes] == [0] * len(nodes)


# --- programs without trio ----------------------------------------------------------------------------------


async def test_a_program_without_trio_uses_the_cluster(tmp_path: Path) -> None:
    async with Cluster(tmp_path, size=3) as cluster:
        await cluster.wait_leader()
        await trio.to_thread.run_sync(blocking_program, settings_of(cluster))


def blocking_program(settings: ClientSettings) -> None:
    with sync.Client(settings) as client:
        revision = client.put("greeting", "hello").revision
        kv = client.get("greeting")
        assert kv is not None
        assert (kv.value, kv.mod_revision) == (b"hello", revision)
        events = client.watch("greeting", revision=revision)
        assert next(events).kv.value == b"hello"
        assert client.cas("greeting", "hello", "bye") == revision + 1
        assert next(events).kv.value == b"bye"
        assert [kv.key for kv in client.list("greet")] == [b"greeting"]

        def put(number: int) -> None:
            client.put(f"key-{number}", str(number))

        threads = [threading.Thread(target=put, args=(number,)) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(client.list("key-")) == 20
        with client.lock("job", ttl=5) as lock:
            assert lock.fencing_token > revision
            with sync.Client(settings) as other, pytest.raises(NoAnswerError, match="held by somebody else"):
                other.lock("job", wait=0.5).__enter__()
        with sync.Client(settings) as other, other.lock("job", timeout=5) as again:
            assert again.fencing_token > lock.fencing_token
        assert client.delete("greeting").deleted == 1
    with sync.Client(ClientSettings(app_name="trioraft", peers=()), timeout=0.2) as client:
        started = time.monotonic()
        with pytest.raises(NoAnswerError, match="no node"):
            client.put("a", "1")
        assert time.monotonic() - started < 2


async def test_a_program_with_asyncio_uses_the_cluster(tmp_path: Path) -> None:
    async with Cluster(tmp_path, size=1) as cluster:
        await cluster.wait_leader()
        settings = settings_of(cluster)

        async def main() -> list[bytes]:
            with sync.Client(settings) as client:
                await asyncio.gather(*(asyncio.to_thread(client.put, f"key-{n}", str(n)) for n in range(10)))
                return [kv.value for kv in await asyncio.to_thread(client.list, "key-")]

        found = await trio.to_thread.run_sync(asyncio.run, main())
        assert found == [str(n).encode() for n in range(10)]


async def test_keys_of_the_cluster_are_needed(tmp_path: Path) -> None:
    async with Cluster(tmp_path, size=1, environment={"CLUSTER_KEY": "ab" * 32}) as cluster:
        await cluster.wait_leader()
        await cluster.client.put("a", "1")
        without_key = {name: value for name, value in cluster.shared.items() if name != "CLUSTER_KEY"}
        async with open_client(ClientSettings.from_environ(without_key), Domain.CLIENT) as stranger:
            with trio.move_on_after(1) as scope:
                await stranger.get("a")
            assert scope.cancelled_caught


async def test_thousands_of_watches_that_were_given_up_do_not_keep_their_client_waiting(tmp_path: Path) -> None:
    async with Cluster(tmp_path, size=3) as cluster, open_client(settings_of(cluster)) as client:
        await cluster.wait_leader()
        begun, ended = 0, 0

        async def watch() -> None:
            nonlocal begun, ended
            begun += 1
            with trio.move_on_after(0.2):
                await client.watch("k", revision=1).__anext__()
            ended += 1

        with trio.fail_after(60):
            await client.put("other", "value")
            async with client.lock("l", 5):
                until = trio.current_time() + 8
                async with trio.open_nursery() as nursery:
                    while begun < 8000 and trio.current_time() < until:
                        for _ in range(100):
                            nursery.start_soon(watch)
                        await trio.sleep(0.05)
                with trio.fail_after(4):
                    await client.put("other", "again")
                await trio.sleep(2)
        assert begun == ended
