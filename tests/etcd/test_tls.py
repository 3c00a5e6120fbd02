"""The port asks clients for certificates, and takes new files while it serves."""

import http.client
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import trio
from structlog.testing import capture_logs

from tests.etcd.certificates import Authority
from tests.etcd.serving import free_tcp_ports
from trioraft.errors import NodeError
from trioraft.etcd import certificates
from trioraft.etcd.certificates import Certificates, TlsFiles
from trioraft.etcd.http1 import TEXT, Exchange, Request
from trioraft.etcd.port import Port


async def _hello(request: Request, exchange: Exchange) -> None:
    await exchange.body()
    await exchange.answer(200, TEXT, b"hello")


@asynccontextmanager
async def served(files: TlsFiles) -> AsyncIterator[int]:
    """Serve with TLS for as long as a block lasts; the value is the port."""
    (number,) = free_tcp_ports(1)
    port = Port("127.0.0.1", number, Certificates(files))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(port.run, _hello)
        yield number
        nursery.cancel_scope.cancel()


def _ask(port: int, authority: Path, *shown: Path) -> bytes:
    context = ssl.create_default_context(cafile=str(authority))
    if shown:
        context.load_cert_chain(*map(str, shown))
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=10)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read()
    finally:
        connection.close()


async def _succeeds(port: int, authority: Path, *shown: Path) -> bool:
    try:
        return await trio.to_thread.run_sync(_ask, port, authority, *shown) == b"hello"
    except (OSError, http.client.HTTPException):
        return False


async def test_a_client_is_taken_with_a_certificate_of_the_authority_and_no_other(tmp_path: Path) -> None:
    ours, other = Authority(tmp_path), Authority(tmp_path, "other")
    files = TlsFiles(*ours.make("node"), ours.certificate, clients_need_one=True)
    good, expired = ours.make("client"), ours.make("expired", timedelta(days=-1))
    foreign = other.make("foreign")
    async with served(files) as port:
        assert await _succeeds(port, ours.certificate, *good)
        assert not await _succeeds(port, ours.certificate)
        assert not await _succeeds(port, ours.certificate, *expired)
        assert not await _succeeds(port, ours.certificate, *foreign)
        assert not await _succeeds(port, other.certificate, *good)
        assert await _succeeds(port, ours.certificate, *good)


async def test_a_client_that_does_not_speak_tls_is_sent_away(tmp_path: Path) -> None:
    ours = Authority(tmp_path)
    async with served(TlsFiles(*ours.make("node"), None, clients_need_one=False)) as port:
        async with await trio.open_tcp_stream("127.0.0.1", port) as client:
            await client.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            with trio.fail_after(5):
                while await client.receive_some(4096):
                    pass
        assert await _succeeds(port, ours.certificate)


async def test_new_files_are_taken_and_broken_ones_leave_the_earlier_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "_LOOK_AGAIN", 0.0)
    old, new = Authority(tmp_path), Authority(tmp_path, "new")
    files = TlsFiles(*old.make("node"), None, clients_need_one=False)
    async with served(files) as port:
        assert await _succeeds(port, old.certificate)
        files.certificate.write_text("no certificate", "utf-8")
        with capture_logs() as logs:
            assert await _succeeds(port, old.certificate)
            assert await _succeeds(port, old.certificate)
        assert len([line for line in logs if "the earlier ones stay" in line["event"]]) == 1
        files.certificate.unlink()
        assert await _succeeds(port, old.certificate)
        new.make("node")
        assert await _succeeds(port, new.certificate)
        assert not await _succeeds(port, old.certificate)


def test_files_that_do_not_fit_at_the_start_are_one_line_that_names_them(tmp_path: Path) -> None:
    ours = Authority(tmp_path)
    certificate, _ = ours.make("node")
    _, other_key = ours.make("other")
    for files in (
        TlsFiles(certificate, other_key, None, clients_need_one=False),
        TlsFiles(certificate, tmp_path / "none", None, clients_need_one=False),
        TlsFiles(*ours.make("node"), other_key, clients_need_one=True),
    ):
        with pytest.raises(NodeError, match=f"CLIENT_CERT_FILE={os.fspath(certificate)}") as raised:
            Certificates(files)
        assert "\n" not in str(raised.value)
