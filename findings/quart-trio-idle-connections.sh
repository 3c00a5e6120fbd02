#!/usr/bin/env bash
# hypercorn's keep_alive_timeout has no effect on an application of Quart-Trio: a connection that is idle after a
# complete answer stays open for as long as the client likes. The same answer from a plain ASGI application, or from
# the same Quart application under hypercorn.asyncio, is followed by the end of the connection in time.
#
# Why: while hypercorn takes the last part of an answer, it tells the application "http.disconnect". Quart-Trio cancels
# the request at that, and with it hypercorn's send, which has yet to start the timer for idle connections.
#
# Seen with hypercorn 0.18.0, quart-trio 0.12.0, quart 0.22.0, trio 0.35.0, h11 0.16.0 on Python 3.11.7, with
# keep_alive_timeout = 1:
#
#   a plain ASGI application: closed by the server
#   quart under hypercorn.asyncio: closed by the server
#   quart-trio: still open 5 s after its answer
#
# Fails when that changes. Needs Python 3.11 to 3.13 (PYTHON) and PyPI.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  hypercorn==0.18.0 quart-trio==0.12.0 quart==0.22.0 trio==0.35.0 h11==0.16.0

cat >"$folder/serve.py" <<'END'
import asyncio
import sys

import hypercorn.asyncio
import hypercorn.trio
import quart
import quart_trio
import trio
from hypercorn.config import Config


async def plain(scope, receive, send):
    if scope["type"] == "http":
        length = [(b"content-length", b"5")]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        await send({"type": "http.response.body", "body": b"hello"})
    elif scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})


def with_quart(app):
    @app.get("/")
    async def index():
        return "hello"

    return app


config = Config()
config.bind = [f"fd://{sys.argv[2]}"]
config.keep_alive_timeout = 1
if sys.argv[1] == "plain":
    trio.run(hypercorn.trio.serve, plain, config)
elif sys.argv[1] == "quart":
    asyncio.run(hypercorn.asyncio.serve(with_quart(quart.Quart("app")), config))
else:
    trio.run(hypercorn.trio.serve, with_quart(quart_trio.QuartTrio("app")), config)
END

cat >"$folder/ask.py" <<'END'
import pathlib
import socket
import subprocess
import sys


def is_closed_in_time(kind):
    """Ask once, and tell whether the server closes the connection within 5 s after its answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.set_inheritable(True)
        number = listener.fileno()
        command = [sys.executable, pathlib.Path(__file__).with_name("serve.py"), kind, str(number)]
        server = subprocess.Popen(command, pass_fds=[number], stderr=subprocess.DEVNULL)
        try:
            with socket.create_connection(listener.getsockname(), timeout=30) as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                got = b""
                while not got.endswith(b"hello"):
                    data = client.recv(4096)
                    assert data, got
                    got += data
                client.settimeout(5)
                try:
                    return client.recv(4096) == b""
                except TimeoutError:
                    return False
        finally:
            server.kill()
            server.wait()


expected = {"plain": True, "quart": True, "quart-trio": False}
seen = {kind: is_closed_in_time(kind) for kind in expected}
for kind, is_closed in seen.items():
    print(f"{kind}: {'closed by the server' if is_closed else 'still open 5 s after its answer'}")
sys.exit(seen != expected)
END
"$folder/venv/bin/python" "$folder/ask.py"
