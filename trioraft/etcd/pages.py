"""What is asked by GET: whether the node is well, who leads, versions and metrics."""

from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import parse_qs

import msgspec
from msgspec import Struct

from trioraft.consensus import Role
from trioraft.etcd.advertised import Advertised
from trioraft.etcd.host import Host
from trioraft.etcd.http1 import JSON, TEXT, Request
from trioraft.etcd.maintenance import CLUSTER_VERSION, SERVER_VERSION, Maintenance
from trioraft.etcd.metrics import CONTENT_TYPE, Metrics
from trioraft.etcd.status import ApiError
from trioraft.messages import format_id

_VERSION: Final = msgspec.json.encode({"etcdserver": SERVER_VERSION, "etcdcluster": CLUSTER_VERSION})


class Page(Struct, frozen=True):
    """An answer.

    Attributes
    ----------
    status : int
        Its status.
    kind : str
        The type of its content.
    body : bytes
        The content.
    """

    status: int
    kind: str
    body: bytes


_NOT_FOUND: Final = Page(404, TEXT, b"404 page not found\n")


class Pages:
    """The pages.

    Parameters
    ----------
    host : Host
        The node.
    maintenance : Maintenance
        The alarms.
    advertised : Advertised
        The URLs of the nodes.
    metrics : Metrics
        The metrics.
    """

    def __init__(self, host: Host, maintenance: Maintenance, advertised: Advertised, metrics: Metrics) -> None:
        self._host = host
        self._maintenance = maintenance
        self._advertised = advertised
        self._metrics = metrics
        self._pages: dict[str, Callable[[Request], Awaitable[Page]]] = {
            "/version": self._version,
            "/health": self._health,
            "/livez": self._livez,
            "/readyz": self._readyz,
            "/leader": self._leader,
            "/metrics": self._show_metrics,
        }

    async def show(self, request: Request) -> Page:
        """Answer a request for a page.

        Parameters
        ----------
        request : Request
            The request.

        Returns
        -------
        Page
            The page.
        """
        found = self._pages.get(request.path)
        if found is None:
            is_api = request.path.startswith(("/v3/", "/v3beta/"))
            return Page(404, TEXT, b"Not Found\n") if is_api else _NOT_FOUND
        if request.method not in {"GET", "HEAD"}:
            return Page(405, TEXT, b"Method Not Allowed\n")
        return await found(request)

    async def _version(self, request: Request) -> Page:
        return Page(200, JSON, _VERSION)

    async def _health(self, request: Request) -> Page:
        is_serializable = parse_qs(request.query).get("serializable") == ["true"]
        reason = await self._why_unwell(serializable=is_serializable)
        body = msgspec.json.encode({"health": "false" if reason else "true", "reason": reason})
        return Page(503 if reason else 200, TEXT, body)

    async def _why_unwell(self, *, serializable: bool) -> str:
        """Return why this node is not well; empty where it is. With `serializable`, others do not matter."""
        if alarms := self._maintenance.alarms():
            return f"ALARM {alarms[0].alarm.value}"
        if serializable:
            return "" if self._host.node.consensus.cluster else "NO CLUSTER"
        if not self._host.has_leader:
            return "RAFT NO LEADER"
        try:
            await self._host.catch_up()
        except ApiError as error:
            return f"RANGE ERROR:{error.text}"
        return ""

    async def _livez(self, request: Request) -> Page:
        return Page(200, TEXT, b"ok\n")

    async def _readyz(self, request: Request) -> Page:
        reason = await self._why_unwell(serializable=False)
        return Page(503, TEXT, f"[-]{reason}\n".encode()) if reason else Page(200, TEXT, b"ok\n")

    async def _leader(self, request: Request) -> Page:
        """Answer 200 on the leader and 503 elsewhere, with the role and who leads."""
        node = self._host.node
        leader = node.consensus.leader
        shown = {
            "role": str(node.role),
            "term": self._host.term,
            "leader": format_id(leader) if leader else None,
            "leader_name": node.names().get(leader, "") if leader else "",
            "leader_url": next(iter(self._advertised.urls(leader)), ""),
        }
        return Page(200 if node.role is Role.LEADER else 503, JSON, msgspec.json.encode(shown))

    async def _show_metrics(self, request: Request) -> Page:
        return Page(200, CONTENT_TYPE, self._metrics.show())
