"""A process with a client of etcd, and load from it, on one connection to the leader."""

import time

from tests.benchmarks.workers.h2 import Puts, put_request
from tests.benchmarks.workers.lines import VALUE, WARM_UP, Answer, keys, latencies, rate, serve, tell

_HOST = "127.0.0.1"
_DRAIN = 10.0  # seconds


class _Client:
    def __init__(self) -> None:
        self._keys = keys()
        self._port = 0
        self._puts: Puts | None = None

    def latency(self, port: int, seconds: float) -> Answer:
        """Have one put outstanding at a time."""
        puts = self._connection(port)
        took: list[int] = []
        errors = 0
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            puts.call(self._request())
            while not (answered := puts.take()):
                puts.pump(0.1)
            took += [each.nanoseconds for each in answered if each.succeeded]
            errors += sum(not each.succeeded for each in answered)
        return latencies(took, errors)

    def load(self, port: int, outstanding: int, seconds: float) -> Answer:
        """Have so many outstanding."""
        puts = self._connection(port)
        for _ in range(outstanding):
            puts.call(self._request())
        done = before = errors = 0
        measured_from = time.monotonic() + WARM_UP
        until = measured_from + seconds
        began = 0.0
        while (now := time.monotonic()) < until:
            if not began and now >= measured_from:
                began, before = now, done
            puts.pump(0.1)
            for answered in puts.take():
                puts.call(self._request())
                done += answered.succeeded
                errors += not answered.succeeded
        ended, after = time.monotonic(), done
        while puts.open and time.monotonic() < ended + _DRAIN:
            puts.pump(0.1)
            done += sum(each.succeeded for each in puts.take())
        return rate(done, after - before, ended - began, errors)

    def _connection(self, port: int) -> Puts:
        if self._puts is None or self._port != port:
            if self._puts is not None:
                self._puts.close()
            self._puts, self._port = Puts(_HOST, port), port
        return self._puts

    def _request(self) -> bytes:
        return put_request(next(self._keys).encode("ascii"), VALUE.encode("ascii"))


def main() -> None:
    """Run a client."""
    client = _Client()
    tell({"started": True})
    serve({"latency": client.latency, "load": client.load})


if __name__ == "__main__":
    main()
