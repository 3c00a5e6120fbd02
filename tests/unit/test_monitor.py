"""The monitor: its documents, its event stream, its pages, and how it stops."""

import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import msgspec
import pytest
import trio
import trio.testing
from quart import typing as quart_typing

from tests.unit.node_double import SERVICE, NodeDouble, make_status, open_doubles
from trioraft.address import Address
from trioraft.client.client import Client, open_client
from trioraft.client.status import ObservedNode
from trioraft.datagrams.endpoint import Domain
from trioraft.messages import AutopilotNote, Election, HookStatus, MemberStatus, NodeStatus
from trioraft.monitor import create_app
from trioraft.monitor.app import MonitorApp
from trioraft.monitor.feed import Feed
from trioraft.monitor.history import ElectionHistory
from trioraft.monitor.observation import Observation
from trioraft.settings.settings import MonitorSettings, PeerName

REFRESH = 0.4
STATIC = Path(__file__).parents[2] / "monitor" / "static"
LEADER = make_status(2, role="leader", leader=make_status(2).id, elections=(Election(4, make_status(2).id, 9.0),))
FOLLOWERS = (make_status(1, leader=LEADER.id), make_status(3, leader=LEADER.id))


def settings_for(doubles: tuple[NodeDouble, ...] = (), **facts: Any) -> MonitorSettings:
    peers = tuple(PeerName(*double.address) for double in doubles)
    defaults: dict[str, Any] = {"refresh_rate": REFRESH, "hostname": "watchtower", "discovery_interval": 0.1}
    return MonitorSettings(raft_service_name=SERVICE, peers=peers, **(defaults | facts))


async def until(condition: Callable[[], Any], seconds: float = 5.0) -> Any:
    with trio.fail_after(seconds):
        while not (result := condition()):
            await trio.sleep(0.01)
    return result


@asynccontextmanager
async def observed(*statuses: NodeStatus, **facts: Any) -> AsyncIterator[tuple[MonitorApp, tuple[NodeDouble, ...]]]:
    """Open an application over a client that has heard every double."""
    async with open_doubles(*statuses) as doubles:
        settings = settings_for(doubles, **facts)
        async with open_client(settings.client()) as client:
            await client.observe(settings.refresh_rate)
            await until(lambda: len(client.nodes) == len(statuses))
            yield create_app(settings, client), doubles


@asynccontextmanager
async def serving(*statuses: NodeStatus, **facts: Any) -> AsyncIterator[quart_typing.TestClientProtocol]:
    async with observed(*statuses, **facts) as (app, _), app.test_app() as running:
        yield running.test_client()


class QuietClient(Client):
    """A client without a network, for tests on virtual time: `nodes` is filled by hand."""

    def __init__(self) -> None:
        no_socket: Any = SimpleNamespace(path_bytes=lambda address: None)
        super().__init__(settings_for().client(), Domain.STATUS, no_socket)

    def hear(self, status: NodeStatus) -> None:
        self.nodes[status.id] = ObservedNode(status, Address("127.0.0.1", 7300), trio.current_time())
        self._tell()


# --- documents ----------------------------------------------------------------------------------------------


async def test_nodes_are_shown_as_the_nodes_tell_and_as_status_prints_them() -> None:
    async with observed(LEADER, *FOLLOWERS) as (app, doubles), app.test_app() as running:
        client = running.test_client()
        shown = json.loads(await (await client.get("/api/nodes")).get_data())
        assert list(shown) == ["nodes"]
        assert [node["name"] for node in shown["nodes"]] == ["node-1", "node-2", "node-3"]
        as_status = app.observation._client.cluster().to_json()["nodes"]
        for node, printed in zip(shown["nodes"], as_status, strict=True):
            assert 0 <= node.pop("age_seconds") < 2 * REFRESH
            assert node == json.loads(json.dumps(printed))
        assert {node["address"] for node in shown["nodes"]} == {str(double.address) for double in doubles}
        former = json.loads(await (await client.get("/nodes")).get_data())
        assert [node["id"] for node in former["nodes"]] == [node["id"] for node in shown["nodes"]]


async def test_the_cluster_document_names_leader_term_and_elections() -> None:
    async with serving(LEADER, *FOLLOWERS) as client:
        response = await client.get("/api/cluster")
        document = json.loads(await response.get_data())
    assert response.content_type == "application/json"
    assert response.headers["Cache-Control"] == "no-store"
    assert (document["leader"], document["term"], document["cluster_id"]) == (LEADER.id, 4, LEADER.cluster_id)
    (election,) = document["elections"]
    assert (election["term"], election["leader"], election["name"]) == (4, LEADER.id, "node-2")
    assert document["monitor"]["hostname"] == "watchtower"
    assert document["monitor"]["refresh_seconds"] == REFRESH


async def test_the_cluster_document_tells_what_it_survives_and_what_the_autopilot_did() -> None:
    members = tuple(MemberStatus(make_status(number).id, f"node-{number}", "voter") for number in (1, 2, 3))
    notes = (AutopilotNote("changed", "node-3 joined", 60.0), AutopilotNote("declined", "node-4 stays", 5.0))
    leader = msgspec.structs.replace(
        LEADER, members=members, autopilot=notes, voter=True, commit_index=7, applied_index=6, last_index=8
    )
    async with serving(leader, *FOLLOWERS) as client:
        document = json.loads(await (await client.get("/api/cluster")).get_data())
    assert (document["survives"], document["survives_text"]) == (1, "3 voters: survives 1 failure")
    told = [(note["kind"], note["text"], note["name"]) for note in document["autopilot"]]
    assert told == [("declined", "node-4 stays", "node-2"), ("changed", "node-3 joined", "node-2")]
    age = datetime.fromisoformat(document["monitor"]["time"]) - datetime.fromisoformat(document["autopilot"][1]["at"])
    assert 60 <= age.total_seconds() < 62
    shown = next(node for node in document["nodes"] if node["id"] == LEADER.id)
    indexes = [shown[name] for name in ("voter", "commit_index", "applied_index", "last_index")]
    assert indexes == [True, 7, 6, 8]


async def test_a_found_address_without_a_node_and_two_clusters_are_reported() -> None:
    stranger = make_status(9, cluster_id="00000000000000c2")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        async with observed(LEADER, stranger) as (app, doubles):
            client = app.observation._client
            settings = settings_for(doubles)
            client._list([Address.of(*deaf.getsockname())], trio.current_time())
            document = create_app(settings, client).observation.document()
    assert document.silent == (f"127.0.0.1:{deaf_port(document.silent)}",)
    (problem,) = [text for text in document.problems if "different clusters" in text]
    assert "00000000000000c1" in problem
    assert "00000000000000c2" in problem


async def test_each_of_two_clusters_is_told_by_itself() -> None:
    other = "00000000000000c2"
    strange = make_status(9, cluster_id=other, role="leader", leader=make_status(9).id, term=2)
    notes = (AutopilotNote("declined", "node-8 stays", 5.0),)
    strange = msgspec.structs.replace(strange, autopilot=notes)
    async with serving(LEADER, *FOLLOWERS, strange) as client:
        document = json.loads(await (await client.get("/api/cluster")).get_data())
    assert (document["leader"], document["term"]) == (LEADER.id, 4)
    told = [(each["cluster_id"], each["leader"], each["term"]) for each in document["clusters"]]
    assert told == [(LEADER.cluster_id, LEADER.id, 4), (other, strange.id, 2)]
    assert [note["text"] for note in document["autopilot"]] == ["node-8 stays"]


def deaf_port(silent: tuple[str, ...]) -> str:
    return silent[0].rpartition(":")[2]


async def test_numbers_that_json_does_not_have_become_null() -> None:
    client = QuietClient()
    client.hear(make_status(1, uptime_seconds=math.nan, hook=HookStatus(since_seconds=math.inf)))
    test_client = create_app(settings_for(), client).test_client()
    (node,) = json.loads(await (await test_client.get("/api/nodes")).get_data())["nodes"]
    assert node["uptime_seconds"] is None
    assert node["hook"]["since_seconds"] is None


async def test_a_silent_node_is_unreachable_within_two_refresh_intervals_and_no_leader_is_named() -> None:
    async with observed(LEADER, *FOLLOWERS) as (app, doubles):
        await until(lambda: app.observation.document().leader == LEADER.id)
        doubles[0].is_silent = True
        silent_since = trio.current_time()
        await until(lambda: app.observation.document().leader is None)
        assert trio.current_time() - silent_since < 2 * REFRESH + 0.1
        reachable = {node.name: node.reachable for node in app.observation.nodes()}
        assert reachable == {"node-1": True, "node-2": False, "node-3": True}


# --- elections ----------------------------------------------------------------------------------------------


def test_history_takes_the_earliest_account_of_an_election_and_keeps_forgotten_ones() -> None:
    history = ElectionHistory()
    history.record(make_status(1, elections=(Election(4, "b", 5.0), Election(3, "a", 50.0))), 1000.0)
    history.record(make_status(2, elections=(Election(4, "b", 8.0),)), 1001.0)
    history.record(make_status(3, term=5, leader="c"), 1002.0)
    history.record(make_status(3, term=5, leader="c"), 1010.0)
    history.record(make_status(1, role="leader", term=6, leader=make_status(1).id), 1011.0)
    told = [(one.term, one.leader, one.at, one.name) for one in history.recent({"b": "node-b"})]
    assert told == [
        (6, make_status(1).id, 1011.0, ""),
        (5, "c", 1002.0, ""),
        (4, "b", 993.0, "node-b"),
        (3, "a", 950.0, ""),
    ]


def test_history_is_bounded_and_ignores_impossible_times() -> None:
    history = ElectionHistory()
    for ago in (math.nan, math.inf, -1.0, 10.0**12):
        history.record(make_status(1, elections=(Election(1, "a", ago),)), 1000.0)
    assert history.recent({}) == ()
    for term in range(200):
        history.record(make_status(1, term=term, leader="a"), 1000.0 + term)
    assert [one.term for one in history.recent({})] == list(range(199, 149, -1))


# --- events -------------------------------------------------------------------------------------------------


def document_in(event: bytes) -> Any:
    found = re.fullmatch(rb"event: cluster\nretry: \d+\ndata: (.*)\n\n", event)
    assert found is not None
    return json.loads(found[1])


@asynccontextmanager
async def running_feed(client: Client, refresh: float) -> AsyncIterator[Feed]:
    feed = Feed(Observation(settings_for(refresh_rate=refresh), client))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed.run)
        yield feed
        nursery.cancel_scope.cancel()


async def test_a_listener_gets_a_document_at_once_and_at_every_change(autojump_clock: trio.testing.MockClock) -> None:
    client = QuietClient()
    client.hear(make_status(1))
    async with running_feed(client, refresh=60.0) as feed:
        await trio.sleep(1)
        listener = aiter(feed.listen())
        began = trio.current_time()
        assert document_in(await anext(listener))["leader"] is None
        assert trio.current_time() == began
        client.hear(make_status(1, role="leader"))
        assert document_in(await anext(listener))["leader"] == make_status(1).id
        assert trio.current_time() - began < 0.1


async def test_a_slow_listener_gets_only_the_newest(autojump_clock: trio.testing.MockClock) -> None:
    client = QuietClient()
    async with running_feed(client, refresh=60.0) as feed:
        listener = aiter(feed.listen())
        await anext(listener)
        for term in range(1, 50):
            client.hear(make_status(1, term=term))
            await trio.sleep(0.5)
        assert document_in(await anext(listener))["term"] == 49
        began = trio.current_time()
        assert await anext(listener) == b": still here\n\n"
        assert trio.current_time() - began == pytest.approx(10)


async def test_a_storm_of_changes_goes_out_in_few_documents(autojump_clock: trio.testing.MockClock) -> None:
    client = QuietClient()
    received: list[int] = []

    async def read(feed: Feed) -> None:
        async for event in feed.listen():
            received.append(document_in(event)["term"])

    async with running_feed(client, refresh=60.0) as feed, trio.open_nursery() as nursery:
        nursery.start_soon(read, feed)
        for term in range(1, 1001):
            client.hear(make_status(1, term=term))
            await trio.sleep(0.001)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert received[-1] == 1000
    assert len(received) < 60


async def test_ages_are_sent_again_but_not_with_every_status(autojump_clock: trio.testing.MockClock) -> None:
    client = QuietClient()
    client.hear(make_status(1))
    times: list[float] = []

    async def read(feed: Feed) -> None:
        async for _ in feed.listen():
            times.append(trio.current_time())

    async with running_feed(client, refresh=1.0) as feed, trio.open_nursery() as nursery:
        await trio.sleep(0.5)
        nursery.start_soon(read, feed)
        for _ in range(1000):
            client.hear(make_status(1, uptime_seconds=trio.current_time()))
            await trio.sleep(0.01)
        while_heard = len(times)
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert 35 <= while_heard <= 41
    assert 10 <= len(times) - while_heard <= 11


async def test_a_status_that_changes_nothing_is_shown_soon(autojump_clock: trio.testing.MockClock) -> None:
    client = QuietClient()
    client.hear(make_status(1))
    async with running_feed(client, refresh=1.0) as feed:
        listener = aiter(feed.listen())
        await anext(listener)
        await anext(listener)
        await trio.sleep(0.1)
        client.hear(make_status(1))
        heard_at = trio.current_time()
        (node,) = document_in(await anext(listener))["nodes"]
        assert trio.current_time() - heard_at <= 0.25
        assert node["age_seconds"] <= 0.25


async def test_closing_the_feed_ends_every_stream(autojump_clock: trio.testing.MockClock) -> None:
    async with running_feed(QuietClient(), refresh=60.0) as feed:
        streams = [aiter(feed.listen()) for _ in range(3)]
        for stream in streams:
            await anext(stream)
        feed.close()
        for stream in [*streams, aiter(feed.listen())]:
            with pytest.raises(StopAsyncIteration):
                await anext(stream)


async def test_the_stream_is_served_as_server_sent_events() -> None:
    async with observed(LEADER, *FOLLOWERS) as (app, doubles), app.test_app() as running:
        opened: Any = running.test_client().request("/api/events")
        async with opened as connection:
            await connection.send_complete()
            first = document_in(await connection.receive())
            assert first["leader"] == LEADER.id
            assert connection.headers["Content-Type"].startswith("text/event-stream")
            assert connection.headers["Cache-Control"] == "no-store"
            doubles[1].tell(term=5, role="leader", leader=doubles[1].status.id)
            with trio.fail_after(REFRESH):
                while document_in(await connection.receive())["leader"] != doubles[1].status.id:
                    pass
            app.feed.close()
        head = await running.test_client().head("/api/events")
        assert head.status_code == 200


# --- pages --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/docs", "/api/cluster", "/static/monitor.js", "/nowhere"])
async def test_every_answer_forbids_what_is_not_its_own(path: str) -> None:
    response = await create_app(settings_for(), QuietClient()).test_client().get(path)
    assert response.status_code == (404 if path == "/nowhere" else 200)
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_root_path_is_honoured_whether_or_not_the_proxy_cuts_it_off() -> None:
    client = create_app(settings_for(root_path="/raft/monitor"), QuietClient()).test_client()
    whole = await (await client.get("/raft/monitor/")).get_data(as_text=True)
    assert 'data-events="/raft/monitor/api/events"' in whole
    for path in ("/", "/raft/monitor"):
        assert await (await client.get(path)).get_data(as_text=True) == whole
    for path in ("/api/cluster", "/raft/monitor/api/cluster"):
        assert (await client.get(path)).status_code == 200
    assert (await client.get("/raft/monitors/api/cluster")).status_code == 404


async def test_texts_of_the_environment_are_escaped() -> None:
    settings = settings_for(hostname="<b>here</b>", api_title="<i>title</i>", api_description='"><script>')
    client = create_app(settings, QuietClient()).test_client()
    page = await (await client.get("/")).get_data(as_text=False)
    assert b"&lt;b&gt;here&lt;/b&gt;" in page
    assert b"<b>" not in page
    assert b'"><script>' not in page
    assert b"<i>" not in await (await client.get("/docs")).get_data(as_text=False)


async def test_own_templates_take_the_place_of_the_monitors(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("mine: {{ service }} {{ hostname }} {{ url_for('events') }}")
    client = create_app(settings_for(templates_dir=tmp_path), QuietClient()).test_client()
    assert await (await client.get("/")).get_data(as_text=True) == "mine: monitored watchtower /api/events"
    assert (await client.get("/docs")).status_code == 200


async def test_the_style_sheet_imports_all_the_others_and_each_is_served() -> None:
    client = create_app(settings_for(root_path="/raft"), QuietClient()).test_client()
    rules = await (await client.get("/raft/static/monitor.css")).get_data(as_text=True)
    imported = re.findall(r'^@import url\("([a-z]+\.css)"\);$', rules, re.MULTILINE)
    assert rules.count("@import") == len(imported)
    assert sorted(["docs.css", "monitor.css", *imported]) == sorted(path.name for path in STATIC.glob("*.css"))
    for name in imported:
        response = await client.get(f"/raft/static/{name}")
        assert (response.status_code, response.mimetype) == (200, "text/css")


async def test_files_outside_the_served_directories_are_not_served() -> None:
    client = create_app(settings_for(), QuietClient()).test_client()
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static/swagger-ui/../__init__.py"):
        assert (await client.get(path)).status_code == 404


async def test_only_reading_is_allowed() -> None:
    client = create_app(settings_for(), QuietClient()).test_client()
    for path in ("/", "/api/nodes", "/api/events", "/healthz"):
        assert (await client.post(path)).status_code == 405
    assert json.loads(await (await client.get("/healthz")).get_data()) == {"status": "ok"}


# --- the API's description ----------------------------------------------------------------------------------


def references_in(document: Any) -> Iterator[str]:
    if isinstance(document, dict):
        yield from (value for key, value in document.items() if key == "$ref")
        document = list(document.values())
    if isinstance(document, list):
        for item in document:
            yield from references_in(item)


async def test_openapi_has_the_configured_texts_and_describes_what_is_answered() -> None:
    settings = settings_for(
        api_title="Our cluster",
        api_maintainer="Ops",
        api_email="ops@example.org",
        api_description="What runs where.",
        openapi_path="/schema.json",
        docs_path="/manual",
        api_prefix="/v1",
        root_path="/raft",
    )
    quiet = QuietClient()
    quiet.hear(LEADER)
    client = create_app(settings, quiet).test_client()
    document = json.loads(await (await client.get("/raft/schema.json")).get_data())
    assert document["info"]["title"] == "Our cluster"
    assert document["info"]["description"] == "What runs where."
    assert document["info"]["contact"] == {"name": "Ops", "email": "ops@example.org"}
    assert [server["url"] for server in document["servers"]] == ["/raft"]
    paths = document["paths"]
    assert set(paths) == {"/v1/nodes", "/v1/cluster", "/v1/events", "/healthz", "/nodes"}
    assert paths["/nodes"]["get"]["deprecated"]
    names = [path["get"]["operationId"] for path in paths.values()]
    assert len(set(names)) == len(names)
    for reference in references_in(document):
        assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"]
    described = document["components"]["schemas"]["Node"]["properties"]
    assert described["voter"]["type"] == "boolean"
    assert {described[name]["type"] for name in ("commit_index", "applied_index", "last_index")} == {"integer"}
    assert {"kind", "text", "at"} <= {*document["components"]["schemas"]["AutopilotRecord"]["required"]}
    assert "text/event-stream" in paths["/v1/events"]["get"]["responses"]["200"]["content"]
    for path in ("/v1/nodes", "/v1/cluster", "/healthz"):
        answer = json.loads(await (await client.get(f"/raft{path}")).get_data())
        schema = paths[path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        jsonschema.validate(answer, {**schema, "components": document["components"]})
    assert (await client.get("/raft/manual")).status_code == 200
    assert (await client.get("/raft/docs")).status_code == 404


async def test_an_empty_prefix_puts_the_api_at_the_root() -> None:
    client = create_app(settings_for(api_prefix=""), QuietClient()).test_client()
    for path in ("/nodes", "/cluster", "/"):
        assert (await client.get(path)).status_code == 200


# --- the process --------------------------------------------------------------------------------------------

SERVE = """
import os, trio
from trioraft.monitor import run_monitor
from trioraft.settings.settings import MonitorSettings, load
try:
    trio.run(run_monitor, load(MonitorSettings, os.environ))
except OSError as error:
    raise SystemExit(str(error))
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def monitor_process(port: int, *, before: str = "", **environ: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", before + SERVE],
        env={**os.environ, "PEERS": "127.0.0.1:9", "BIND_PORT": str(port), **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def connect(port: int, request: str, *, receive_buffer: int | None = None) -> socket.socket:
    deadline = time.monotonic() + 60
    while True:
        client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            client.connect(("127.0.0.1", port))
        except ConnectionRefusedError:
            client.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
            continue
        client.settimeout(10)
        client.sendall(f"GET {request} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        return client


@pytest.mark.parametrize("root", ["", "/raft/monitor"])
def test_pages_link_only_to_what_is_served_here(root: str) -> None:
    port = free_port()
    with monitor_process(port, ROOT_PATH=root):
        connect(port, "/").close()

        def get(path: str) -> bytes:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as response:
                return bytes(response.read())

        for page in ("/", "/docs"):
            text = get(root + page).decode()
            links = re.findall(r'(?:href|src|data-openapi)="([^"#][^"]*)"', text)
            assert len(links) >= 4
            for link in links:
                assert link.startswith(f"{root}/")
                assert get(link)
            assert "://" not in text
            assert not re.search(r"<script(?![^>]*src)|<style|style=|\son\w+=", text)


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_the_monitor_stops_at_once_although_browsers_listen(stop: signal.Signals) -> None:
    port = free_port()
    # Else it would stop in any case.
    endless_grace = "import trioraft.monitor.server; trioraft.monitor.server._GRACE = float('inf')\n"
    with monitor_process(port, before=endless_grace) as process:
        listeners = [connect(port, path) for path in ("/api/events", "/api/events", "/healthz")]
        for listener in listeners:
            assert b"200" in listener.recv(100)
        process.send_signal(stop)
        assert process.wait(60) == 0
        for listener in listeners:
            with listener:
                while listener.recv(65536):
                    pass


def test_a_browser_that_stopped_reading_is_given_up_and_does_not_keep_the_monitor_from_stopping() -> None:
    port = free_port()
    peers = ",".join(f"127.0.0.1:{number}" for number in range(10001, 10200))
    with (
        monitor_process(port, PEERS=peers, REFRESH_RATE_MILLIS="100") as process,
        connect(port, "/api/events", receive_buffer=4096) as stalled,
    ):
        assert stalled.recv(1) == b"H"
        time.sleep(2)
        process.terminate()
        assert process.wait(9) == 0


def test_a_taken_port_is_reported_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with monitor_process(port) as process:
            output, _ = process.communicate(timeout=20)
    assert process.returncode == 1
    assert output.strip() == (
        f"the monitor cannot listen on 127.0.0.1:{port}: address already in use;"
        " end what listens there, or set BIND_PORT"
    )
