"""A process that only sleeps, and tells by how much it was woken late: how busy the machine is for anybody."""

import threading
import time
from typing import Final

from tests.benchmarks.workers.lines import Answer, serve, tell

_NAP: Final = 0.005  # seconds


class _Sleeper:
    def __init__(self) -> None:
        self._latest = 0.0

    def sleep(self) -> None:
        while True:
            began = time.monotonic()
            time.sleep(_NAP)
            self._latest = max(self._latest, time.monotonic() - began - _NAP)

    def latest(self) -> Answer:
        """Tell the worst since the last time that it was asked, in seconds."""
        latest, self._latest = self._latest, 0.0
        return {"late": latest}


def main() -> None:
    """Sleep, and answer."""
    sleeper = _Sleeper()
    threading.Thread(target=sleeper.sleep, daemon=True).start()
    tell({"started": True})
    serve({"late": sleeper.latest})


if __name__ == "__main__":
    main()
