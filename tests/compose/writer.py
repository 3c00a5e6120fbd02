"""Puts one key after another until it is ended; prints when each was begun and how long it took, once acknowledged.

Runs in a container of its own, in the image, as any client of the cluster would: it finds the nodes by DNS.
"""

import itertools
import json
import time

import trio

from trioraft import ClientSettings, open_client

PAUSE = 0.02


async def main() -> None:
    """Write for ever."""
    async with open_client(ClientSettings.from_environ()) as client:
        for number in itertools.count():
            began, at = time.monotonic(), time.time()
            await client.put(f"written/{number:08}", str(number))
            print(json.dumps({"number": number, "at": at, "took": time.monotonic() - began}), flush=True)
            await trio.sleep(PAUSE)


if __name__ == "__main__":
    trio.run(main)
