"""The words of a command that waits, while no leader answers."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

from trioraft.client.client import Client
from trioraft.client.status import printable
from trioraft.nurseries import bare_errors

# In seconds; an election may take as long, and is not worth a line.
_PATIENCE: Final = 5.0
_LOOK_INTERVAL: Final = 0.5
# In seconds; a command with a longer timeout says why nothing happens before the timeout is over.
_LONG: Final = 30.0


@asynccontextmanager
async def silence_told(client: Client, within: float = 0.0) -> AsyncIterator[None]:
    """Print on standard error why nothing happens, and that it goes on again, for as long as the block lasts.

    Parameters
    ----------
    client : Client
        The client of the cluster.
    within : float
        The seconds after which the command gives up and says why, which is soon enough for most; 0 for never.

    Yields
    ------
    None
        Nothing.
    """
    with bare_errors():
        async with trio.open_nursery() as nursery:
            if not 0 < within <= _LONG:
                nursery.start_soon(_tell, client)
            yield
            nursery.cancel_scope.cancel()


async def _tell(client: Client) -> None:
    """Print each problem once, when it has lasted for some seconds, and then that it is over."""
    said, seen, since = "", "", trio.current_time()
    while True:
        await trio.sleep(_LOOK_INTERVAL)
        trouble = client.trouble()
        if trouble != seen:
            seen, since = trouble, trio.current_time()
        if trouble != said and (not trouble or trio.current_time() >= since + _PATIENCE):
            said = trouble
            text = f"{printable(trouble)}; trying on" if trouble else "there is a leader that answers"
            print(f"trioraft: {text}", file=sys.stderr, flush=True)  # noqa: T201 - for the user who waits
