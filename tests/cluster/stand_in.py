"""A command of the next version of the protocol, for as long as a test needs one: a put with a key of its own kind.

``python -m tests.cluster.stand_in node`` runs a node of this release that knows it, and with ``OLDER_RELEASE`` in its
environment one of an earlier release, which speaks no later version than that and knows no such command.
"""

import os
from typing import Final
from unittest import mock

from tests.cluster.older import forget
from trioraft.cli.main import main
from trioraft.kv import requests, store
from trioraft.kv.commands import Command, Put
from trioraft.kv.requests import Request
from trioraft.versions import SPOKEN

KEY: Final = b"needs/"
NEEDED: Final = SPOKEN.highest


def older(highest: int) -> dict[str, str]:
    """Return the environment of a node of an earlier release."""
    return {"OLDER_RELEASE": str(highest)}


OLDER: Final = older(NEEDED - 1)
_version_needed: Final = requests.version_needed


def version_needed(command: Command | Request) -> int:
    """Tell which version a command needs."""
    return NEEDED if isinstance(command, Put) and command.key.startswith(KEY) else _version_needed(command)


if __name__ == "__main__":
    mock.patch.object(store, "version_needed", version_needed).start()
    if spoken := os.environ.get("OLDER_RELEASE"):
        forget(int(spoken))
    main()
