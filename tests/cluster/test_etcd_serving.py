"""Clusters serve clients of etcd: at every node, across changes of the leader, and partly without a quorum."""

import base64
import json
import socket
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.cluster.harness import ROOT, clean_environment
from tests.etcd.replay import Stream
from tests.etcd.serving import Serving, ask, post

KEY = {"key": "YQ=="}
EVERYTHING = {"key": "AA==", "range_end": "AA=="}


def _watch(address: str, *bodies: dict[str, Any]) -> Stream:
    stream = Stream(address, "/v3/watch", "\n".join(map(json.dumps, bodies)).encode(), {})
    assert stream.opened.wait(10)
    return stream


async def _read(stream: Stream, count: int, within: float = 10) -> list[Any]:
    messages, _ = await trio.to_thread.run_sync(stream.read, count, within)
    return messages


async def test_every_node_serves_and_names_all_nodes_with_the_same_ids(tmp_path: Path) -> None:
    async with Serving(tmp_path, 3) as cluster:
        await cluster.wait_ready()
        revisions = []
        for i in range(3):
            status, answer = await cluster.post(i, "/v3/kv/put", {**KEY, "value": "MQ=="})
            assert status == 200
            revisions.append(int(answer["header"]["revision"]))
            for j in range(3):  # what one has acknowledged, all show
                _, found = await cluster.post(j, "/v3/kv/range", KEY)
                assert found["kvs"][0]["mod_revision"] == answer["header"]["revision"]
        assert revisions == sorted(set(revisions))
        headers = [(await cluster.post(i, "/v3/maintenance/status", {}))[1]["header"] for i in range(3)]
        assert len({header["cluster_id"] for header in headers}) == 1
        assert len({header["member_id"] for header in headers}) == 3
        assert len({header["raft_term"] for header in headers}) == 1

        urls = {f"http://{cluster.client_address(i)}" for i in range(3)}
        for i in range(3):
            with trio.fail_after(30):
                while await _client_urls(cluster, i) != urls:
                    await trio.sleep(0.2)
        (kept,) = (tmp_path / "node-1").glob("*/client-urls.json")
        assert kept.stat().st_mode & 0o777 == 0o600
        hashes = {(await cluster.post(i, "/v3/maintenance/hash", {}))[1]["hash"] for i in range(3)}
        assert len(hashes) == 1


async def _client_urls(cluster: Serving, i: int) -> set[str]:
    _, found = await cluster.post(i, "/v3/cluster/member/list", {})
    return {url for member in found["members"] for url in member.get("clientURLs", [])}


async def test_a_keep_alive_at_a_follower_of_a_stopped_leader_is_answered_by_the_next_one(tmp_path: Path) -> None:
    async with Serving(tmp_path, 3) as cluster:
        await cluster.wait_ready()
        leader = cluster.index(await cluster.wait_leader())
        follower = (leader + 1) % 3
        _, lease = await cluster.post(follower, "/v3/lease/grant", {"TTL": 60})
        cluster.pause(leader)
        try:
            status, answer = await cluster.post(follower, "/v3/lease/keepalive", {"ID": lease["ID"]})
            assert (status, answer["result"]["TTL"]) == (200, "60")
            status, answer = await cluster.post(follower, "/v3/kv/put", KEY)
            assert status == 200
            status, answer = await cluster.post(follower, "/v3/lease/timetolive", {"ID": lease["ID"]})
            assert 50 < int(answer["TTL"]) <= 60
        finally:
            cluster.resume(leader)


async def test_a_put_is_carried_out_once_whichever_node_is_asked_and_whoever_leads_meanwhile(tmp_path: Path) -> None:
    async with Serving(tmp_path, 3) as cluster:
        await cluster.wait_ready()
        outcomes = Counter[str]()
        ends = False

        async def put(i: int) -> None:
            while not ends:
                status, answer = await cluster.post(i, "/v3/kv/put", KEY)
                known = status == 200 or (status == 503 and answer["message"] == "etcdserver: no leader")
                outcomes["done" if status == 200 else "refused" if known else "unknown"] += 1

        async with trio.open_nursery() as nursery:
            for i in range(3):
                for _ in range(4):
                    nursery.start_soon(put, i)
            await trio.sleep(1)
            leader = cluster.index(await cluster.wait_leader())
            await cluster.kill(leader)
            await trio.sleep(2.5)
            await cluster.start(leader)
            await cluster.wait_leader()
            ends = True
        _, found = await cluster.post(0, "/v3/kv/range", KEY)
        carried_out = int(found["kvs"][0]["version"])
        assert outcomes["done"] > 100
        assert outcomes["done"] <= carried_out <= outcomes["done"] + outcomes["unknown"], outcomes


async def test_without_a_quorum_what_needs_none_works_and_all_else_fails_soon_with_code_14(tmp_path: Path) -> None:
    async with Serving(tmp_path, 3) as cluster:
        await cluster.wait_ready()
        urls = {f"http://{cluster.client_address(i)}" for i in range(3)}
        with trio.fail_after(30):
            while await _client_urls(cluster, 0) != urls:
                await trio.sleep(0.2)
        await cluster.post(0, "/v3/kv/put", KEY)
        await cluster.post(0, "/v3/kv/range", KEY)
        await cluster.kill(1)
        await cluster.kill(2)
        # The first request is held as long as an election may take.
        status, answer = await cluster.post(0, "/v3/kv/put", KEY)
        assert (status, answer["code"]) == (503, 14)
        with trio.fail_after(30):
            while (await cluster.post(0, "/v3/kv/put", KEY))[1]["message"] != "etcdserver: no leader":
                pass
        began = time.monotonic()
        for path in ("/v3/kv/put", "/v3/kv/range", "/v3/kv/deleterange", "/v3/lease/grant", "/v3/lease/revoke"):
            body = {"ID": "1"} if path.endswith("revoke") else KEY
            status, answer = await cluster.post(0, path, body)
            assert (status, answer["code"], answer["message"]) == (503, 14, "etcdserver: no leader"), path
        status, answer = await cluster.post(0, "/v3/lease/keepalive", {"ID": "1"})
        assert (status, answer["error"]["grpc_code"]) == (503, 14)
        assert time.monotonic() - began < 6  # etcd takes 7 s for each

        status, answer = await cluster.post(0, "/v3/kv/range", {**KEY, "serializable": True})
        assert (status, answer["count"]) == (200, "1")
        assert await _client_urls(cluster, 0) == urls
        status, answer = await cluster.post(0, "/v3/maintenance/status", {})
        assert (status, answer["errors"]) == (200, ["etcdserver: no leader"])
        assert "leader" not in answer
        address = cluster.client_address(0)
        for path, wanted in (("/health", 503), ("/health?serializable=true", 200), ("/readyz", 503), ("/livez", 200)):
            assert (await trio.to_thread.run_sync(ask, address, path))[0] == wanted, path

        await cluster.kill(0)  # and it still knows the others' URLs after a restart
        await cluster.start(0)
        with trio.fail_after(30):
            while (await cluster.post(0, "/v3/cluster/member/list", {}))[0] != 200:
                await trio.sleep(0.2)
        assert await _client_urls(cluster, 0) == urls


async def test_10000_watches_in_one_stream_see_their_own_keys_and_are_freed_when_the_client_goes(
    tmp_path: Path,
) -> None:
    def key(number: int) -> str:
        return base64.b64encode(b"key%d" % number).decode()

    async with Serving(tmp_path) as cluster:
        await cluster.wait_ready()
        address = cluster.client_address(0)
        many = 10_000
        stream = await trio.to_thread.run_sync(
            partial(_watch, address, *({"create_request": {"key": key(number)}} for number in range(many)))
        )
        assert len(await _read(stream, many, 60)) == many
        for number in (0, 4711, many - 1):
            await cluster.post(0, "/v3/kv/put", {"key": key(number)})
        events = await _read(stream, 3)
        assert [one["result"].get("watch_id", "0") for one in events] == ["0", "4711", str(many - 1)]
        assert await _watches(address) == many
        stream.close()
        with trio.fail_after(20):
            while await _watches(address):
                await trio.sleep(0.1)


async def _watches(address: str) -> int:
    _, text = await trio.to_thread.run_sync(ask, address, "/metrics")
    (line,) = (line for line in text.decode().splitlines() if line.startswith("etcd_debugging_mvcc_watcher_total "))
    return int(float(line.split()[1]))


async def test_a_watch_is_cancelled_tells_its_progress_and_divides_large_messages_where_it_may(
    tmp_path: Path,
) -> None:
    async with Serving(tmp_path) as cluster:
        await cluster.wait_ready()
        address = cluster.client_address(0)
        create = {**EVERYTHING, "fragment": True, "watch_id": "5", "prev_kv": True}
        big = "YWFh" * 300_000
        await cluster.post(0, "/v3/kv/put", {"key": "Yg==", "value": big})
        _, before = await cluster.post(0, "/v3/kv/put", {"key": "Yw==", "value": big})
        stream = await trio.to_thread.run_sync(
            partial(
                _watch,
                address,
                {"create_request": create},
                {"progress_request": {}},
                {"cancel_request": {"watch_id": 9}},
            )
        )
        created, progress = await _read(stream, 2)
        assert created["result"]["watch_id"] == "5"
        assert progress["result"] == {"header": before["header"], "watch_id": "-1"}
        await cluster.post(0, "/v3/kv/deleterange", {"key": "Yg==", "range_end": "ZA=="})
        first, second = await _read(stream, 2)
        assert first["result"]["fragment"] is True
        assert "fragment" not in second["result"]
        assert [one["result"]["events"][0]["kv"]["key"] for one in (first, second)] == ["Yg==", "Yw=="]
        stream.close()


async def test_sigterm_ends_open_streams_in_order_and_the_port_is_free_again(tmp_path: Path) -> None:
    async with Serving(tmp_path, 1) as cluster:
        await cluster.wait_ready()
        with socket.create_connection(("127.0.0.1", cluster.clients[0]), 10) as connection:
            body = json.dumps({"create_request": KEY}).encode()
            head = b"POST /v3/watch HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % len(body)
            connection.sendall(head + body)
            connection.settimeout(10)
            assert b"200" in await trio.to_thread.run_sync(connection.recv, 65536)
            assert await cluster.stop(0) == 0
            rest = b""
            while data := await trio.to_thread.run_sync(connection.recv, 65536):
                rest += data
            assert rest.endswith(b"0\r\n\r\n")
        await cluster.start(0)
        await cluster.wait_ready()


async def test_browsers_are_refused_and_pages_are_served_alone_where_the_api_is_off(tmp_path: Path) -> None:
    async with Serving(tmp_path, 1, {"CLIENT_API": "off"}) as cluster:
        await cluster.wait_leader()
        address = cluster.client_address(0)
        with trio.fail_after(30):
            while (await trio.to_thread.run_sync(ask, address, "/readyz"))[0] != 200:
                await trio.sleep(0.1)
        assert post(address, "/v3/kv/put", KEY) == (404, b"Not Found\n")
        assert ask(address, "/leader")[0] == 200
        for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}):
            status, text = ask(address, "/health", headers=headers)
            assert status == 403
            assert b"not" in text
        metrics = ask(address, "/metrics")[1].decode()
        assert "etcd_server_has_leader 1.0" in metrics
        assert 'trioraft_role{role="leader"} 1.0' in metrics


async def test_a_large_range_is_whole_and_nobody_loses_the_leadership_over_it(tmp_path: Path) -> None:
    async with Serving(tmp_path) as cluster:
        await cluster.wait_ready()
        puts = [{"request_put": {"key": f"a2V5{number:04d}", "value": "YWFh" * 500}} for number in range(2000)]
        for start in range(0, 2000, 100):
            status, _ = await cluster.post(0, "/v3/kv/txn", {"success": puts[start : start + 100]})
            assert status == 200
        before = await cluster.wait_leader()
        status, found = await cluster.post(0, "/v3/kv/range", EVERYTHING)
        assert (status, len(found["kvs"])) == (200, 2001)
        assert found["count"] == "2001"
        assert (await cluster.wait_leader()).status.term == before.status.term


@pytest.mark.parametrize("port", ["", "1"])
def test_a_node_without_the_port_loads_nothing_of_it(port: str) -> None:
    program = (
        "import sys, trioraft.daemon as d\n"
        "from trioraft.settings.settings import NodeSettings\n"
        f"if {port!r}: d._load_client_port()\n"
        "print(sorted({'h11', 'prometheus_client', 'trioraft.etcd'} & set(sys.modules)))"
    )
    environment = {**clean_environment(), "PYTHONPATH": str(ROOT)}
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    )
    loaded = ["h11", "prometheus_client", "trioraft.etcd"] if port else []
    assert found.stdout.strip() == str(loaded)
