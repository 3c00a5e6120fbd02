"""The API of one node, put together from its services and its port."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import trio

from trioraft.address import is_loopback
from trioraft.etcd.advertised import Advertised, is_question
from trioraft.etcd.auth import Auth
from trioraft.etcd.certificates import Certificates, TlsFiles
from trioraft.etcd.cluster import Cluster
from trioraft.etcd.gateway import Gateway, find_methods
from trioraft.etcd.guard import Guard
from trioraft.etcd.host import Host
from trioraft.etcd.key_values import KV
from trioraft.etcd.leases import Lease
from trioraft.etcd.locks import Election, Lock
from trioraft.etcd.maintenance import CLUSTER_VERSION, Maintenance
from trioraft.etcd.metrics import Metrics
from trioraft.etcd.pages import Pages
from trioraft.etcd.port import Port
from trioraft.etcd.watches import Watch
from trioraft.kv.service import KeyValueService
from trioraft.logger import Logger
from trioraft.node.node import Node
from trioraft.settings.client_port import needs_certificates
from trioraft.settings.settings import NodeSettings

_log: Final = Logger("trioraft.etcd")

_ANY: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared with, not bound


class ClientPort:
    """The client port of a node; made where ``CLIENT_BIND_PORT`` is set.

    Parameters
    ----------
    node : Node
        The node.
    service : KeyValueService
        Its store.

    Raises
    ------
    NodeError
        If it cannot listen, or the TLS files cannot be used.
    """

    def __init__(self, node: Node, service: KeyValueService) -> None:
        settings = node.settings
        self._settings = settings
        self._node = node
        self._service = service
        self._host = Host(node, service)
        files = _tls_files(settings)
        self._port = Port(
            settings.client_bind_host, settings.client_bind_port or 0, Certificates(files) if files else None
        )
        self._advertised = Advertised(node, self._own_url, node.data_directory)
        self._gateway = self._new_gateway()

    def _new_gateway(self) -> Gateway:
        host = self._host
        keys, leases, watch, maintenance = KV(host), Lease(host), Watch(host), Maintenance(host)
        services = {
            "etcdserverpb.KV": keys,
            "etcdserverpb.Watch": watch,
            "etcdserverpb.Lease": leases,
            "etcdserverpb.Cluster": Cluster(host, self._advertised),
            "etcdserverpb.Maintenance": maintenance,
            "v3lockpb.Lock": Lock(host, keys, leases),
            "v3electionpb.Election": Election(host, keys, leases),
            "etcdserverpb.Auth": Auth(host),
        }
        methods = find_methods(services) if self._settings.client_api == "on" else {}
        pages = Pages(host, maintenance, self._advertised, Metrics(host, watch))
        return Gateway(methods, pages, self._new_guard(), self._node.look_around)

    def _new_guard(self) -> Guard:
        settings = self._settings
        names = [socket.gethostname(), settings.node_name, urlsplit(settings.client_advertise_url).hostname or ""]
        return Guard(settings.client_cors, settings.client_hosts, filter(None, names))

    def _own_url(self) -> str:
        """Return the URL by which clients reach this node; empty while it is not known."""
        settings = self._settings
        if settings.client_advertise_url:
            return settings.client_advertise_url
        scheme = "https" if settings.client_cert_file is not None else "http"
        host = settings.client_bind_host
        if host in _ANY:
            host = self._node.address.host if self._node.address is not None else ""
        shown = f"[{host}]" if ":" in host else host
        return f"{scheme}://{shown}:{self._port.number}" if host else ""

    async def run(self) -> None:
        """Serve clients until cancelled."""
        settings = self._settings
        if is_open_to_all(settings):
            _log.warning(
                "CLIENT_INSECURE: whoever can reach the client port reads and changes everything",
                address=f"{settings.client_bind_host}:{self._port.number}",
            )
        _log.info("serving clients", url=self._own_url() or self._port.number, api=settings.client_api)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._host.run)
            nursery.start_soon(self._advertised.run)
            nursery.start_soon(self._port.run, self._gateway.handle)
            await self._host.until_ready()
            # Tools that start etcd know by words of these lines that it serves.
            _log.info("enabled capabilities for version", version=CLUSTER_VERSION)
            _log.info("published: ready to serve client requests", name=self._node.name, url=self._own_url())

    # --- questions of other nodes ---------------------------------------------------------------------------

    def answer(self, question: bytes, answered: Callable[[bytes], None]) -> Callable[[], None] | None:
        """Answer a question: for the URL of this node, or one to the store."""
        if is_question(question):
            answered(self._advertised.answer())
            return None
        return self._service.answer(question, answered)

    def only_reads(self, question: bytes) -> bool:
        """Check whether a question changes nothing."""
        return is_question(question) or self._service.only_reads(question)


def is_open_to_all(settings: NodeSettings) -> bool:
    """Check whether others than this machine can use the API without a certificate."""
    needs = needs_certificates(settings.client_trusted_ca_file, wanted=settings.client_cert_auth)
    return settings.client_api == "on" and not needs and not is_loopback(settings.client_bind_host)


def _tls_files(settings: NodeSettings) -> TlsFiles | None:
    certificate, key = settings.client_cert_file, settings.client_key_file
    if certificate is None or key is None:
        return None
    authorities: Path | None = settings.client_trusted_ca_file
    return TlsFiles(certificate, key, authorities, needs_certificates(authorities, wanted=settings.client_cert_auth))
