"""``writing_script.py NAME FIRST SECONDS``: puts ``NAME/FIRST`` and on, each once, until SIGTERM; of any release.

A line for each put that was acknowledged has its number and how long it took. A put that takes longer than so many
seconds, or fails, ends it with an error.
"""

import os
import signal
import sys
import time

import trio

from trioraft import ClientSettings, open_client


async def main(name: str, first: int, seconds: float) -> None:
    number, parent, stopped = first, os.getppid(), []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    async with open_client(ClientSettings.from_environ()) as client:
        while not stopped and os.getppid() == parent:
            began = time.monotonic()
            with trio.fail_after(seconds):
                await client.put(f"{name}/{number:06d}", str(number))
            print(number, f"{time.monotonic() - began:.3f}", flush=True)
            number += 1
            await trio.sleep(0.02)


trio.run(main, sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
