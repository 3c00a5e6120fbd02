"""What Patroni does on trioraft, in full (`tests/run full patroni`); the short version is test_patroni.py."""

import base64
import json
import threading
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import trio

from tests.cluster.test_patroni import is_streaming, replicas, wait
from tests.etcd.patroni import Replica
from tests.etcd.replay import Stream
from tests.etcd.serving import Serving


class Writer:
    """Writes rows to whichever replica takes them, and records who has taken which."""

    def __init__(self, replicas: list[Replica]) -> None:
        self._replicas = replicas
        self._stopped = threading.Event()
        self.taken: list[tuple[float, float, str, int]] = []  # when it was begun and acknowledged, by whom, and which
        self._threads = [threading.Thread(target=self._run, args=(one,), daemon=True) for one in replicas]
        for thread in self._threads:
            thread.start()

    def _run(self, replica: Replica) -> None:
        number = 0
        while not self._stopped.is_set():
            number += 1
            began = time.monotonic()
            row = f"insert into kept values ('{replica.name}', {number})"  # noqa: S608 - both are our own
            if replica.query(row) == "":
                self.taken.append((began, time.monotonic(), replica.name, number))
            else:
                time.sleep(0.2)

    def stop(self) -> None:
        """Stop, and wait for what is under way."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(30)

    def check_one_at_a_time(self) -> None:
        """Check that no two replicas have taken rows at once."""
        for (_, acknowledged, name, _), (began, _, other, _) in pairwise(sorted(self.taken)):
            assert name == other or began >= acknowledged, f"{name} and {other} took rows at once"

    def lost(self, replica: Replica) -> set[tuple[str, int]]:
        """Return what was acknowledged and is not there."""
        found = replica.query("select who || ' ' || n from kept") or ""
        there = {(line.split()[0], int(line.split()[1])) for line in found.splitlines()}
        return {(name, number) for _, _, name, number in self.taken} - there


async def _start(found: list[Replica]) -> Replica:
    found[0].start()
    await wait(lambda: found[0].is_primary, "the first one bootstraps")
    for one in found[1:]:
        one.start()
    await wait(partial(is_streaming, found[0], len(found) - 1), "the others follow")
    await wait(lambda: found[0].query("create table kept (who text, n int)") == "", "a table")
    return found[0]


async def _primary(all_: list[Replica], without: Replica) -> Replica:
    others = [one for one in all_ if one is not without]
    found: Replica = await wait(lambda: next((one for one in others if one.is_primary), None), "another primary")
    return found


async def test_switchover_pause_and_a_killed_primary_lose_nothing_that_was_committed(tmp_path: Path) -> None:
    async with Serving(tmp_path, 3) as cluster:
        await cluster.wait_ready()
        async with replicas(cluster, 3, synchronous_mode=True) as found:
            first = await _start(found)
            writer = Writer(found)
            try:
                await wait(lambda: len(writer.taken) > 10, "rows")
                body = {"leader": first.name, "candidate": found[1].name}
                await wait(lambda: first.rest_api("/switchover", body)[0] == 200, "a switchover")
                second = await _primary(found, first)
                await wait(lambda: writer.taken[-1][2] == second.name, "rows at the new primary")

                await wait(lambda: second.rest_api("/config", {"pause": True}, "PATCH")[0] == 200, "a pause")
                leader = cluster.index(await cluster.wait_leader())
                await cluster.kill(leader)
                await trio.sleep(8)
                assert second.is_primary
                await cluster.start(leader)
                await wait(lambda: second.rest_api("/config", {"pause": None}, "PATCH")[0] == 200, "no pause")
                await trio.sleep(3)

                second.kill()
                third = await _primary(found, second)
                await wait(lambda: writer.taken[-1][2] == third.name, "rows at the third primary")
            finally:
                writer.stop()
            writer.check_one_at_a_time()
            assert not writer.lost(third)


async def _longest_gap(cluster: Serving, observer: int, scope: str, act: Callable[[], Any], seconds: float) -> float:
    """Return the longest time between two renewals of the leader lock that another node sees."""
    times: list[float] = []
    key = base64.b64encode(f"/service/{scope}/status".encode()).decode()  # it is put at each renewal
    request = {"create_request": {"key": key}}
    stream = Stream(cluster.client_address(observer), "/v3/watch", json.dumps(request).encode(), {})

    def watch() -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            messages, _ = stream.read(1, 0.5)
            times.extend(time.monotonic() for message in messages if message["result"].get("events"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, watch)
        await trio.sleep(4)
        await act()
    stream.close()
    return max(after - before for before, after in pairwise(times))


async def test_a_leader_of_trioraft_that_is_killed_or_stopped_does_not_end_the_primary(tmp_path: Path) -> None:
    async with Serving(tmp_path, 3) as cluster:
        await cluster.wait_ready()
        for how in ("killed", "stopped"):
            leader = cluster.index(await cluster.wait_leader())
            others = [i for i in range(3) if i != leader]
            async with replicas(cluster, 1, hosts=[others[0]], scope=how) as (replica,):
                primary = await _start([replica])
                writer = Writer([primary])

                async def act(leader: int = leader, how: str = how) -> None:
                    if how == "killed":
                        await cluster.kill(leader)
                    else:
                        cluster.pause(leader)

                try:
                    gap = await _longest_gap(cluster, others[1], how, act, 20)
                finally:
                    writer.stop()
                print(f"the leader of trioraft was {how}: renewals of the leader lock were at most {gap:.1f} s apart")
                assert primary.is_primary
                assert gap < 10
            if how == "killed":
                await cluster.start(leader)
            else:
                cluster.resume(leader)
            await cluster.wait_ready()


async def test_one_node_serves_patroni_with_a_retry_timeout_of_3_seconds(tmp_path: Path) -> None:
    async with Serving(tmp_path, 1) as cluster:
        await cluster.wait_ready()
        async with replicas(cluster, 2, retry_timeout=3) as found:
            primary = await _start(found)
            writer = Writer(found)
            await trio.sleep(30)
            writer.stop()
            assert primary.is_primary
            assert {name for _, _, name, _ in writer.taken} == {primary.name}
