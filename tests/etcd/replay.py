"""Replays what was recorded from etcd 3.5.1 (``cases.json``) on a server whose store need not be new.

A case begins at revision 1 of an empty store. Here it begins at whatever revision the store has, and the difference
is added to every revision in it. Keys and leases of the case before are removed first.
"""

import base64
import http.client
import json
import queue
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeAlias

Case: TypeAlias = dict[str, Any]

CASES: Final[tuple[Case, ...]] = tuple(json.loads((Path(__file__).parent / "cases.json").read_text("utf-8")))

_REVISIONS: Final = frozenset({"revision", "create_revision", "mod_revision", "compact_revision", "rev"})
_MASKED: Final = frozenset({"cluster_id", "member_id", "raft_term"})
# A stream that is to stay silent is listened to for so many seconds, or less where the case waited less.
_SILENCE: Final = 0.3


class Stream:
    """A request that stays open, and the lines that it is answered with."""

    def __init__(self, address: str, path: str, data: bytes, headers: dict[str, str]) -> None:
        self.status: int | None = None
        self.opened = threading.Event()
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        self._connection = http.client.HTTPConnection(address, timeout=60)
        threading.Thread(target=self._run, args=(path, data, headers), daemon=True).start()

    def _run(self, path: str, data: bytes, headers: dict[str, str]) -> None:
        try:
            self._connection.request("POST", path, data, headers)
            response = self._connection.getresponse()
            self.status = response.status
            self.opened.set()
            while line := response.readline():
                self._lines.put(line)
        except (OSError, http.client.HTTPException, AttributeError, ValueError):
            pass  # it was closed
        self._lines.put(None)

    def read(self, count: int, within: float) -> tuple[list[Any], bool]:
        """Read so many lines, or fewer within a time; return whether the stream has ended, too."""
        got: list[Any] = []
        until = time.monotonic() + within
        while True:
            left = max(0.0, until - time.monotonic()) if len(got) < count else 0.15
            try:
                line = self._lines.get(timeout=left)
            except queue.Empty:
                return got, False
            if line is None:
                return got, True
            got.append(_parsed(line))

    def close(self) -> None:
        """Hang up."""
        if self._connection.sock is not None:
            with suppress(OSError):
                self._connection.sock.shutdown(socket.SHUT_RDWR)


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return line.decode()


class Replay:
    """Replays cases on one server.

    Parameters
    ----------
    address : str
        Its ``host:port``.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._names: dict[str, str] = {}
        self._offset = 0
        self._streams: dict[str, Stream] = {}

    def call(self, method: str, path: str, data: bytes | None, headers: dict[str, str]) -> tuple[int, str, bytes]:
        """Make a request; return the status, the content type and the body."""
        connection = http.client.HTTPConnection(self._address, timeout=30)
        try:
            connection.request(method, path, data, headers)
            response = connection.getresponse()
            return response.status, response.headers["Content-Type"], response.read()
        finally:
            connection.close()

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Make a request that must be answered with JSON."""
        found: dict[str, Any] = json.loads(self.call("POST", path, json.dumps(body).encode(), {})[2])
        return found

    def _clean_up(self) -> None:
        everything = {"key": "AA==", "range_end": "AA=="}
        for lease in self.post("/v3/lease/leases", {}).get("leases", []):
            self.post("/v3/lease/revoke", {"ID": lease["ID"]})
        self.post("/v3/kv/deleterange", everything)

    def run(self, case: Case) -> str:
        """Replay a case; return the first difference, or nothing."""
        self._clean_up()
        header = self.post("/v3/kv/range", {"key": "AA=="})["header"]
        self._offset = int(header["revision"]) - 1
        self._names = {"member": header["member_id"]}
        self._streams = {}
        try:
            return next(filter(None, (self._step(step, case) for step in case["steps"])), "")
        finally:
            for stream in self._streams.values():
                stream.close()

    def _step(self, step: dict[str, Any], case: Case) -> str:
        if "sleep" in step:
            time.sleep(step["sleep"])
            return ""
        if "read" in step:
            return self._read(step, case.get("unordered", ()))
        sent = step.get("send_content_type", "application/json")
        headers = {"Content-Type": sent} if sent else {}
        data = self._body(step)
        if "open" in step or step.get("stream"):
            return self._open(step, data or b"", headers)
        status, kind, body = self.call(step.get("method", "POST"), step["path"], data, headers)
        if status != step["status"] or kind != step.get("content_type", kind):
            return f"{step}: {status} {kind} {body[:300]!r}"
        for name, path in step.get("save", {}).items():
            value: Any = json.loads(body)
            for part in path.split("."):
                value = value[part]
            self._names[name] = value
        if "answer" in step and "keep" not in step:
            answer = _parsed(body)
            if not self._same(step["answer"], answer, case.get("unordered", ())):
                return f"{step}: {answer}"
        if "text" in step and step["text"] != body.decode():
            return f"{step}: {body[:300]!r}"
        return ""

    def _read(self, step: dict[str, Any], unordered: Iterable[str]) -> str:
        want = step["answers"]
        within = step["within"] if len(want) >= step["messages"] else min(step["within"], _SILENCE)
        within = step["within"] if len(want) == 1 == step["messages"] else within
        got, ended = self._streams[step["read"]].read(step["messages"], within)
        if "answers" in unordered:
            want, got = sorted(want, key=str), sorted(got, key=lambda one: str(_masked(one)))
        return "" if self._same(want, got) and ended == step["ended"] else f"{step}: {got} {ended}"

    def _open(self, step: dict[str, Any], data: bytes, headers: dict[str, str]) -> str:
        stream = Stream(self._address, step["path"], data, headers)
        stream.opened.wait(10 if step["status"] is not None else 0.4)
        if stream.status != step["status"]:
            return f"{step}: {stream.status}"
        if "open" in step:
            self._streams[step["open"]] = stream
            return ""
        got, _ = stream.read(10**6, 3)
        stream.close()
        if "answers" in step and "keep" not in step and not self._same(step["answers"], got):
            return f"{step}: {got}"
        return ""

    def _body(self, step: dict[str, Any]) -> bytes | None:
        if "raw" in step:
            return str(step["raw"]).encode()
        if "body_of" in step:
            big = base64.b64encode(b"x" * step["body_of"]["value_bytes"]).decode()
            return json.dumps({"key": step["body_of"]["key"], "value": big}).encode()
        if "body" not in step and "bodies" not in step:
            return None
        bodies = step.get("bodies", [step.get("body")])
        return "\n".join(json.dumps(self._filled(body)) for body in bodies).encode()

    def _filled(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._filled(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._filled(item) for item in value]
        if not isinstance(value, str):
            return value
        value = re.sub(r"\{rev:(\d+)\}", lambda match: str(int(match[1]) + self._offset), value)
        return re.sub(r"\{(\w+)\}", lambda match: self._names.get(match[1], match[0]), value)

    def _same(self, want: Any, got: Any, unordered: Iterable[str] = (), name: str = "") -> bool:
        if want == "*":
            return True
        if isinstance(want, dict):
            return (
                isinstance(got, dict)
                and want.keys() == got.keys()
                and all(
                    self._same(sorted(want[key]), sorted(got[key]))
                    if key in unordered
                    else self._same(want[key], got[key], unordered, key)
                    for key in want
                )
            )
        if isinstance(want, list):
            pairs: Callable[..., Any] = zip
            return (
                isinstance(got, list)
                and len(want) == len(got)
                and all(self._same(one, other, unordered) for one, other in pairs(want, got))
            )
        if name in _REVISIONS and int(want) > 0:
            return str(int(want) + self._offset) == str(got)
        is_same: bool = self._filled(want) == got
        return is_same


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: "*" if key in _MASKED else _masked(item) for key, item in value.items()}
    return [_masked(item) for item in value] if isinstance(value, list) else value
