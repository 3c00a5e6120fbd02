"""The monitor's pages and API."""

from importlib import resources
from pathlib import Path
from typing import Any, Final

import msgspec
import trio
from jinja2 import ChoiceLoader, FileSystemLoader
from quart import Response, render_template, request, send_from_directory
from quart_schema import QuartSchema, deprecate, document_response, hide
from quart_trio import QuartTrio

import trioraft
from trioraft.client.client import Client
from trioraft.settings.settings import MonitorSettings

from .admission import REQUESTS_MAX, Admission, Hosts, Refusal
from .connection import finishing_answers, given_up_when_slow
from .documents import ClusterDocument, Health, NodesDocument
from .feed import Feed
from .observation import Observation
from .openapi import EVENT_STREAM, MonitorOpenAPI, info_of, servers_of
from .security import SECURITY_HEADERS, add_security_headers

_HERE: Final = Path(__file__).parent
_SWAGGER: Final = Path(str(resources.files("flask_swagger_ui"))) / "dist"
_LARGEST_REQUEST: Final = 16 * 1024  # bytes; no request here needs a body
_HEALTH: Final = "/healthz"


class MonitorApp(QuartTrio):
    """The Quart application.

    Parameters
    ----------
    settings : MonitorSettings
        The monitor's configuration.
    client : Client
        The client that observes the cluster.
    requests : int
        The number of requests that it may answer at once, beside the streams of events.
    """

    def __init__(self, settings: MonitorSettings, client: Client, requests: int) -> None:
        super().__init__("monitor", root_path=str(_HERE))
        self.settings = settings
        self.admission = Admission(Hosts(settings.allowed_hosts, settings.hostname), requests)
        self.observation = Observation(settings, client)
        self.feed = Feed(self.observation)
        self.config["MAX_CONTENT_LENGTH"] = _LARGEST_REQUEST
        self.config["BACKGROUND_TASK_SHUTDOWN_TIMEOUT"] = None  # the feed has nothing to finish
        own = FileSystemLoader(_HERE / "templates")
        given = [FileSystemLoader(settings.templates_dir)] if settings.templates_dir else []
        self.jinja_options = {**self.jinja_options, "loader": ChoiceLoader([*given, own])}

    async def asgi_app(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request, whether or not the proxy in front has cut ``ROOT_PATH`` off.

        Parameters
        ----------
        scope, receive, send
            The scope and channels of ASGI.
        """
        root = self.settings.root_path
        if root and scope["type"] == "http":
            path = scope["path"]
            if not path.startswith(f"{root}/"):
                path = root + (path if path != root else "/")
            scope = {**scope, "path": path, "root_path": root}
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})  # there are none
        else:
            await super().asgi_app(scope, receive, send)

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        if refusal := self.admission.refusal(scope):
            await _refuse(refusal, scope, send)
            return
        is_health = scope["path"] == f"{self.settings.root_path}{_HEALTH}"
        if refusal := None if is_health else self.admission.enter():
            await _refuse(refusal, scope, send)
            return
        try:
            with trio.CancelScope() as patience:
                receive, send = finishing_answers(receive, given_up_when_slow(send, patience))
                await super().asgi_app(scope, receive, send)
        finally:
            if not is_health:
                self.admission.leave(scope)


def create_app(settings: MonitorSettings, client: Client, requests: int = REQUESTS_MAX) -> MonitorApp:
    """Create the monitor's application.

    Parameters
    ----------
    settings : MonitorSettings
        The monitor's configuration.
    client : Client
        The client that observes the cluster; the caller runs its ``observe``.
    requests : int, optional
        The number of requests that it may answer at once, beside the streams of events.

    Returns
    -------
    MonitorApp
        The application. It publishes events from its start-up to its shutdown.
    """
    app = MonitorApp(settings, client, requests)
    QuartSchema(
        app,
        openapi_path=settings.openapi_path,
        # These three pages load from other sites.
        swagger_ui_path=None,
        redoc_ui_path=None,
        scalar_ui_path=None,
        info=info_of(settings),
        servers=servers_of(settings),
        conversion_preference="msgspec",
        openapi_provider_class=MonitorOpenAPI,
    )
    app.after_request(add_security_headers)
    _add_pages(app)
    _add_api(app)

    @app.before_serving
    async def publish() -> None:
        app.nursery.start_soon(app.feed.run)

    return app


def _add_pages(app: MonitorApp) -> None:
    settings = app.settings

    @app.get("/")
    @hide
    async def index() -> str:
        return await render_template(
            "index.html",
            title=settings.raft_service_name,
            description=settings.api_description,
            service=settings.raft_service_name,
            hostname=settings.hostname,
            version=trioraft.__version__,
        )

    @app.get(settings.docs_path)
    @hide
    async def docs() -> str:
        return await render_template("docs.html", title=settings.api_title)

    @app.get("/static/swagger-ui/<path:filename>")
    @hide
    async def swagger(filename: str) -> Response:
        return await send_from_directory(_SWAGGER, filename)


def _add_api(app: MonitorApp) -> None:
    prefix = app.settings.api_prefix

    @app.get(f"{prefix}/nodes")
    @document_response(NodesDocument)
    async def nodes() -> Response:
        """Show every replica.

        Each object is one of those that `trioraft status --format json` prints.
        """
        return _json(NodesDocument(app.observation.nodes()))

    @app.get(f"{prefix}/cluster")
    @document_response(ClusterDocument)
    async def cluster() -> Response:
        """Show the whole cluster: leader, replicas, elections."""
        return _json(app.observation.document())

    @app.get(f"{prefix}/events")
    async def events() -> Response:
        """Show the whole cluster, again at every change.

        A comment comes when there is nothing to tell for a while. A listener that reads slowly misses documents,
        never the newest.
        """
        if request.method == "GET" and (refusal := app.admission.open_stream(request.scope)):
            return Response(f"{refusal.text}\n", refusal.status, _headers_of(refusal))
        body = app.feed.listen() if request.method == "GET" else b""
        stream = _no_store(Response(body, content_type="text/event-stream; charset=utf-8"))
        stream.headers["X-Accel-Buffering"] = "no"  # has a proxy pass events on as they come
        stream.timeout = None
        return stream

    setattr(events, EVENT_STREAM, ClusterDocument)

    @app.get(_HEALTH)
    @document_response(Health)
    async def healthz() -> Response:
        """Show that the monitor answers."""
        return _json(Health())

    if prefix:

        @app.get("/nodes")
        @deprecate
        @document_response(NodesDocument)
        async def nodes_by_former_name() -> Response:
            """Show every replica, under the name that the predecessor gave it."""
            return _json(NodesDocument(app.observation.nodes()))


async def _refuse(refusal: Refusal, scope: Any, send: Any) -> None:
    """Refuse a request without the application."""
    body = f"{refusal.text}\n".encode()
    headers = {**SECURITY_HEADERS, **_headers_of(refusal), "Content-Length": str(len(body))}
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": int(refusal.status), "headers": raw})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def _headers_of(refusal: Refusal) -> dict[str, str]:
    headers = {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-store"}
    return headers if refusal.retry_after is None else {**headers, "Retry-After": str(refusal.retry_after)}


def _json(document: msgspec.Struct) -> Response:
    # msgspec writes null for a number that JSON does not have, such as a NaN that a node reported.
    return _no_store(Response(msgspec.json.encode(document), content_type="application/json"))


def _no_store(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    return response
