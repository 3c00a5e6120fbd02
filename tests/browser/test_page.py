"""The monitor's page in a real browser, on a real cluster."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.conftest import REFRESH, ROOT, Cluster, Window, fetch, free_ports, running
from tests.unit.node_double import SERVICE

SHOWS_ROLE = "([id, role]) => document.querySelector(`tr[data-id='${id}'] .badge`)?.textContent === role"
# The process that is killed, the datagram that is missed, the frame that is drawn: none of it is instant.
SLACK = 0.3


def row_of(page: Page, node: Any) -> Locator:
    return page.get_by_role("row").filter(has=page.get_by_role("rowheader").filter(has_text=node["id"]))


def node_of(status: Any, node_id: str) -> Any:
    return next(node for node in status["nodes"] if node["id"] == node_id)


def test_the_page_shows_the_cluster_and_follows_it_through_the_death_of_its_leader(
    cluster: Cluster, window: Window
) -> None:
    page = window.page
    status = cluster.wait_for_leader()
    leader = node_of(status, status["leader"])
    page.goto(cluster.url)
    expect(page.get_by_role("heading", name=f"{leader['name']} is the leader")).to_be_visible()
    expect(page.locator("#connection-text")).to_have_text("live")
    expect(page.get_by_role("rowheader")).to_have_count(3)
    for node in status["nodes"]:
        row = row_of(page, node)
        expect(row).to_contain_text(node["name"])
        expect(row).to_contain_text(node["address"])
        expect(row.locator(".badge")).to_have_text("leader" if node is leader else "follower")
        expect(row.get_by_role("cell").nth(1)).to_have_text(f"{leader['name']}in term {node['term']}")
        expect(row.get_by_role("cell").nth(5)).to_have_text("just now")
    expect(row_of(page, leader)).to_contain_text("leader script running")
    elections = page.get_by_role("region", name="Recent elections").get_by_role("listitem")
    expect(elections.first).to_contain_text(f"Term {status['term']}{leader['name']}")
    expect(page.get_by_text("Seen by the monitor on")).to_contain_text(socket.gethostname())
    window.screenshot("monitor-leader")

    os.kill(leader["pid"], signal.SIGKILL)
    window.wait_for(SHOWS_ROLE, 2 * REFRESH + SLACK, leader["id"], "unreachable")
    status = cluster.wait_for_leader(besides=leader["id"])
    successor = node_of(status, status["leader"])
    window.wait_for(SHOWS_ROLE, REFRESH + SLACK, successor["id"], "leader")
    expect(page.get_by_role("heading", name=f"{successor['name']} is the leader")).to_be_visible()
    expect(page.get_by_role("status")).to_contain_text(f"{successor['name']} is the leader")
    expect(page).to_have_title(f"{successor['name']} leads · trioraft")
    expect(row_of(page, leader)).to_contain_text("was leader")
    expect(page.locator("#figure-reachable")).to_have_text("2 of 3")
    expect(elections.first).to_contain_text(f"Term {status['term']}{successor['name']}")
    window.screenshot("monitor-successor")

    os.kill(successor["pid"], signal.SIGKILL)
    expect(page.get_by_role("heading", name="There is no leader")).to_be_visible(timeout=5000)
    expect(page.get_by_role("status")).to_contain_text("There is no leader")
    expect(page).to_have_title("There is no leader · trioraft")
    window.screenshot("monitor-no-leader")
    window.check(cluster.url)


def test_a_paused_node_is_unreachable_within_two_refresh_intervals_and_comes_back(
    cluster: Cluster, window: Window
) -> None:
    status = cluster.wait_for_leader()
    paused = next(node for node in status["nodes"] if node["role"] == "follower")
    window.page.goto(cluster.url)
    window.wait_for(SHOWS_ROLE, 5, paused["id"], "follower")
    os.kill(paused["pid"], signal.SIGSTOP)
    try:
        window.wait_for(SHOWS_ROLE, 2 * REFRESH + SLACK, paused["id"], "unreachable")
        age = row_of(window.page, paused).get_by_role("cell").nth(5)
        expect(age).to_have_text("4 s ago", timeout=5000)  # it grows although nothing arrives
    finally:
        os.kill(paused["pid"], signal.SIGCONT)
    window.wait_for(SHOWS_ROLE, 2 * REFRESH + SLACK, paused["id"], "follower")
    window.check(cluster.url)


def test_details_stay_open_while_the_page_updates(cluster: Cluster, window: Window) -> None:
    status = cluster.wait_for_leader()
    node = status["nodes"][0]
    page = window.page
    page.goto(cluster.url)
    button = row_of(page, node).get_by_role("button", name=f"Details of {node['name']}")
    expect(button).to_have_attribute("aria-expanded", "false")
    button.focus()
    page.keyboard.press("Enter")
    details = page.locator(f"#{button.get_attribute('aria-controls')}")
    expect(details).to_contain_text(f"{node['pid']}, up ")
    before = details.inner_text()
    expect(details).not_to_have_text(before, timeout=5000)
    expect(details).to_be_visible()
    expect(button).to_be_focused()
    expect(details).to_contain_text(node["cluster_id"])
    window.screenshot("monitor-details")
    window.check(cluster.url)


def test_a_dark_and_a_narrow_screen_show_the_same(cluster: Cluster, browser: Browser) -> None:
    status = cluster.wait_for_leader()
    for name, width, scheme in (("dark", 1280, "dark"), ("narrow", 360, "light"), ("narrow-dark", 360, "dark")):
        window = Window(browser, viewport={"width": width, "height": 800}, color_scheme=scheme)
        window.page.goto(cluster.url)
        for node in status["nodes"]:
            expect(row_of(window.page, node).locator(".badge")).to_be_visible()
        assert window.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        window.screenshot(f"monitor-{name}")
        window.check(cluster.url)
        window.context.close()


def test_the_documentation_works_offline(cluster: Cluster, window: Window) -> None:
    page = window.page
    page.goto(f"{cluster.url}/")
    page.get_by_role("link", name="API").click()
    expect(page.locator(".opblock")).to_have_count(5)
    page.locator("#operations-default-get_healthz").get_by_role("button").first.click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    expect(page.locator(".live-responses-table .response .highlight-code").first).to_contain_text('"status": "ok"')
    window.screenshot("monitor-docs")
    window.check(cluster.url)


# --- without a cluster of its own ---------------------------------------------------------------------------


@contextmanager
def monitor_of(peers: str, port: int, service: str = "") -> Iterator[subprocess.Popen[bytes]]:
    environ = {"PEERS": peers, "BIND_PORT": str(port), "RAFT_SERVICE_NAME": service}
    with running("monitor", environ=environ) as process:
        fetch(f"http://127.0.0.1:{port}/healthz")
        yield process


def test_a_lost_connection_is_shown_and_comes_back(window: Window) -> None:
    (port,) = free_ports(socket.SOCK_STREAM, 1)
    url, page = f"http://127.0.0.1:{port}", window.page
    with monitor_of("127.0.0.1:9", port):
        page.goto(url)
        expect(page.get_by_role("heading", name="No replica has answered yet")).to_be_visible()
        expect(page.get_by_text("no replica has answered there: 127.0.0.1:9")).to_be_visible()
        expect(page.get_by_role("alert")).to_be_hidden()
        window.check(url)
    expect(page.get_by_role("alert")).to_contain_text("Connection to the monitor lost.")
    expect(page.locator("#connection-text")).to_have_text("connection lost")
    expect(page.locator("#lost-detail")).to_contain_text("What is shown here is 2 s old")
    window.screenshot("monitor-lost")
    with monitor_of("127.0.0.1:9", port):
        expect(page.locator("#connection-text")).to_have_text("live", timeout=10_000)
        expect(page.get_by_role("alert")).to_be_hidden()


def test_a_banner_says_that_a_node_without_a_key_can_be_reached(window: Window, tmp_path: Path) -> None:
    (udp,), (port,) = free_ports(socket.SOCK_DGRAM, 1), free_ports(socket.SOCK_STREAM, 1)
    where = {"BIND_HOST": "0.0.0.0", "BIND_PORT": str(udp), "PEERS": f"127.0.0.1:{udp}"}  # noqa: S104 - what is tested
    environ = {**where, "UNSEALED": "allowed", "DATA_DIR": str(tmp_path), "NODE_NAME": "open"}
    with running("node", environ=environ), monitor_of(f"127.0.0.1:{udp}", port):
        window.page.goto(f"http://127.0.0.1:{port}")
        expect(window.page.get_by_role("alert")).to_contain_text("Not sealed: open. Whoever can reach a node")
        window.screenshot("monitor-not-sealed")


def test_a_page_is_loaded_again_when_one_of_its_files_could_not_be_fetched(window: Window) -> None:
    (port,) = free_ports(socket.SOCK_STREAM, 1)
    with monitor_of("127.0.0.1:9", port):
        window.page.route("**/static/replicas.js", lambda route: route.abort(), times=1)
        window.page.goto(f"http://127.0.0.1:{port}")
        expect(window.page.locator("#connection-text")).to_have_text("live", timeout=10_000)
    assert any("could not be loaded" in complaint for complaint in window.complaints)


def test_a_monitor_that_falls_silent_counts_as_lost(window: Window) -> None:
    (port,) = free_ports(socket.SOCK_STREAM, 1)
    with monitor_of("127.0.0.1:9", port) as process:
        window.page.goto(f"http://127.0.0.1:{port}")
        expect(window.page.locator("#connection-text")).to_have_text("live")
        process.send_signal(signal.SIGSTOP)
        expect(window.page.get_by_role("alert")).to_be_visible(timeout=8000)
        process.send_signal(signal.SIGCONT)
        expect(window.page.locator("#connection-text")).to_have_text("live", timeout=10_000)


@contextmanager
def doubles(module: str) -> Iterator[str]:
    """Run nodes that only tell something; return their addresses."""
    command = [sys.executable, "-m", f"tests.browser.{module}"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


@pytest.fixture
def hostile_peers() -> Iterator[str]:
    with doubles("hostile_nodes") as peers:
        yield peers


@pytest.mark.parametrize("width", [1280, 360])
def test_texts_of_nodes_are_shown_as_text_and_never_as_markup(
    hostile_peers: str, browser: Browser, width: int
) -> None:
    (port,) = free_ports(socket.SOCK_STREAM, 1)
    window = Window(browser, viewport={"width": width, "height": 900})
    page = window.page
    with monitor_of(hostile_peers, port, SERVICE):
        page.goto(f"http://127.0.0.1:{port}")
        expect(page.get_by_role("rowheader")).to_have_count(4)
        for button in page.get_by_role("button").all():
            button.click()
        time.sleep(1.5 * REFRESH)
        expect(page.get_by_role("rowheader").filter(has_text="<img src=x onerror=alert(1)>")).to_have_count(1)
        expect(page.locator("#alerts-list")).to_contain_text("<script>alert(2)</script>")
        expect(page.locator("#autopilot")).to_contain_text("<script>alert(2)</script>")
        expect(page.locator("#voters")).to_contain_text("<script>alert(2)</script>")
        forming = page.get_by_role("row").filter(has_text="0000000000000003").first
        expect(forming).to_contain_text("waiting for <img src=x onerror=alert(1)>")
        assert page.locator("main img, main script").count() == 0
        window.screenshot(f"monitor-hostile-{width}")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        window.check(f"http://127.0.0.1:{port}")
    window.context.close()


OUTSIDE = "cells => cells.filter(cell => cell.scrollWidth > cell.clientWidth).map(cell => cell.innerText)"


def test_a_large_cluster_with_learners_fits_every_screen(browser: Browser) -> None:
    (port,) = free_ports(socket.SOCK_STREAM, 1)
    url = f"http://127.0.0.1:{port}"
    with doubles("large_cluster") as peers, monitor_of(peers, port, SERVICE):
        for name, width, scheme in (
            ("light", 1280, "light"),
            ("dark", 1280, "dark"),
            ("tight", 1216, "light"),
            ("medium", 1024, "light"),
            ("narrow", 360, "light"),
        ):
            window = Window(browser, viewport={"width": width, "height": 900}, color_scheme=scheme)
            page = window.page
            page.goto(url)
            expect(page.locator("#survives")).to_have_text("6 of 7 voters answer: survives 2 failures")
            expect(page.locator("#figure-reachable")).to_have_text("8 of 9")
            expect(page.get_by_role("list", name="Voters").get_by_role("listitem")).to_have_count(7)
            expect(page.get_by_role("list", name="Learners").get_by_role("listitem")).to_have_text(
                ["node-8", "node-9"]
            )
            expect(page.locator("#members-note")).to_contain_text("node-7 is a member, but has not answered.")
            learner = page.get_by_role("row").filter(has_text="0000000000000009").first
            expect(learner.locator(".badge")).to_have_text("learner")
            expect(learner.locator(".indexes span")).to_have_text(["322,222", "322,215", "322,213"])
            former = page.get_by_role("row").filter(has_text="000000000000000a").first
            expect(former.locator(".badge")).to_have_text("removed")
            notes = page.get_by_role("region", name="Autopilot").get_by_role("listitem")
            expect(notes).to_have_count(4)
            expect(notes.nth(0)).to_contain_text("stays a learner: MAX_VOTERS=7")
            expect(notes.nth(0).locator(".note-age")).to_contain_text("for 3 min")
            expect(notes.nth(2)).to_contain_text("node-9 (0000000000000009) joined the service")
            expect(notes.nth(3).locator(".note-age")).to_have_text("3 h 1 min ago")
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
            assert page.locator("td").evaluate_all(OUTSIDE) == [], "nothing is wider than its cell"
            window.screenshot(f"monitor-large-{name}")
            window.check(url)
            window.context.close()


def test_each_of_two_clusters_has_its_own_leader_term_and_members(browser: Browser) -> None:
    (port,) = free_ports(socket.SOCK_STREAM, 1)
    url = f"http://127.0.0.1:{port}"
    with doubles("two_clusters") as peers, monitor_of(peers, port, SERVICE):
        for width in (1280, 360):
            window = Window(browser, viewport={"width": width, "height": 900})
            page = window.page
            page.goto(url)
            expect(page.get_by_role("rowheader")).to_have_count(5)
            expect(page.locator("#leader")).to_contain_text("node-2 is the leader")
            expect(page.locator("#leader")).to_contain_text("in term 2, of cluster 00000000000000c1")
            expect(page.locator("#survives")).to_have_text("3 voters: survives 1 failure")
            other = page.locator(".other-cluster")
            expect(other).to_have_count(1)
            expect(other.get_by_role("heading", name="node-8 is the leader")).to_be_visible()
            expect(other).to_contain_text("in term 70, of cluster 00000000000000c2")
            expect(other.locator("[data-part=reachable]")).to_have_text("2 of 3")
            expect(other.locator("[data-part=survives]")).to_have_text("2 of 3 voters answer: survives no failure")
            expect(other.get_by_role("list", name="Voters").get_by_role("listitem")).to_have_text(
                ["node-7", "node-8", "node-9"]
            )
            for number, role in ((2, "leader"), (3, "follower"), (8, "leader"), (9, "follower")):
                row = page.get_by_role("row").filter(has_text=f"000000000000000{number}").first
                expect(row.locator(".badge")).to_have_text(role)
                expect(row).not_to_contain_text("older term")
                expect(row).to_contain_text("in term 2 of …00c1" if number < 4 else "in term 70 of …00c2")
            expect(page.locator("#alerts-list")).to_contain_text("nodes of 2 different clusters answer")
            expect(page.locator("#elections")).to_contain_text("node-8 of 00000000000000c2")
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
            assert page.locator("td").evaluate_all(OUTSIDE) == [], "nothing is wider than its cell"
            window.screenshot(f"monitor-two-clusters-{width}")
            window.check(url)
            window.context.close()
