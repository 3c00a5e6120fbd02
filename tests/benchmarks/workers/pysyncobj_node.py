"""A node of PySyncObj with a replicated dictionary, and load inside its process.

What its users use: `set(…, sync=True)` for one command at a time, and a callback for each command where there are
many.
"""

import json
import sys
import threading
import time
from typing import Any

from pysyncobj import SyncObj, SyncObjConf
from pysyncobj.batteries import ReplDict

from tests.benchmarks.workers.lines import VALUE, WARM_UP, Answer, keys, latencies, rate, serve, tell

_LEADER = 2  # its state of a leader
_CONNECTED = 2


class _ClosedLoop:
    """So many commands outstanding: each that completes submits the next."""

    def __init__(self, dictionary: Any) -> None:
        self.done = self.errors = 0
        self._set = dictionary.set
        self._keys = keys()
        self._stopped = False
        self._outstanding = 0
        self._drained = threading.Event()

    def start(self, outstanding: int) -> None:
        self._outstanding = outstanding
        for _ in range(outstanding):
            self._submit()

    def stop(self) -> bool:
        """Submit nothing more, and wait for what is outstanding."""
        self._stopped = True
        return self._drained.wait(10)

    def _submit(self) -> None:
        self._set(next(self._keys), VALUE, callback=self._completed)

    def _completed(self, _result: object, error: object) -> None:
        if error:
            self.errors += 1
        else:
            self.done += 1
        if not self._stopped:
            self._submit()
            return
        self._outstanding -= 1
        if self._outstanding <= 0:
            self._drained.set()


def _latency(dictionary: Any, seconds: float) -> Answer:
    took: list[int] = []
    errors, names = 0, keys()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.perf_counter_ns()
        try:
            dictionary.set(next(names), VALUE, sync=True, timeout=5)
            took.append(time.perf_counter_ns() - began)
        except Exception:
            errors += 1
    return latencies(took, errors)


def _load(dictionary: Any, outstanding: int, seconds: float) -> Answer:
    loop = _ClosedLoop(dictionary)
    loop.start(outstanding)
    time.sleep(WARM_UP)
    began, before = time.monotonic(), loop.done
    time.sleep(seconds)
    ended, after = time.monotonic(), loop.done
    loop.stop()
    return rate(loop.done, after - before, ended - began, loop.errors)


def _status(node: Any) -> Answer:
    told = node.getStatus()
    connected = sum(told[name] == _CONNECTED for name in told if name.startswith("partner_node_status_server_"))
    return {
        "leads": told["state"] == _LEADER,
        "term": told["raft_term"],
        "applied": told["last_applied"],
        "known": connected + 1,
    }


def main(configuration: dict[str, Any]) -> None:
    """Run a node."""
    dictionary = ReplDict()
    node = SyncObj(
        configuration["own"],
        configuration["others"],
        conf=SyncObjConf(**configuration["options"]),
        consumers=[dictionary],
    )
    tell({"started": True})
    serve(
        {
            "latency": lambda seconds: _latency(dictionary, seconds),
            "load": lambda outstanding, seconds: _load(dictionary, outstanding, seconds),
            "status": lambda: _status(node),
        }
    )


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
