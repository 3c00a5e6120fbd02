"""What nodes of a cluster said they were, over time."""

import json
from dataclasses import dataclass
from pathlib import Path

import trio

from tests.cluster.harness import Cluster

UNHEARD = ""
_LEADERLESS = 4.0  # after so many seconds without a leader, what all nodes say is kept
_KEPT_EVERY = 1.0


@dataclass(frozen=True)
class Seen:
    """What a node was from a moment on, on trio's clock; its role is empty while it does not answer."""

    at: float
    role: str
    term: int


class Watch:
    """Remembers what nodes were.

    Parameters
    ----------
    cluster : Cluster
        The cluster.
    leaderless : Path
        Gets what all nodes say, one line each second, while nobody has led for long.

    Attributes
    ----------
    seen : list of list of Seen
        For each node, each change.
    """

    def __init__(self, cluster: Cluster, leaderless: Path) -> None:
        self.seen: list[list[Seen]] = [[] for _ in range(cluster.size)]
        self._cluster = cluster
        self._leaderless = leaderless
        self._led_at = trio.current_time()

    async def run(self) -> None:
        """Note each change that the cluster's observing client hears of."""
        client = self._cluster.client
        while True:
            version = client.version
            for node, seen in enumerate(self.seen):
                found = self._cluster.node(node)
                role = found.status.role if found is not None and found.reachable else UNHEARD
                term = found.status.term if found is not None else 0
                if not seen or (seen[-1].role, seen[-1].term) != (role, term):
                    seen.append(Seen(trio.current_time(), role, term))
            if client.cluster().leader is not None:
                self._led_at = trio.current_time()
            elif trio.current_time() > self._led_at + _LEADERLESS:
                self._led_at += _KEPT_EVERY
                self._keep()
            await client.changed(version)

    def _keep(self) -> None:
        with self._leaderless.open("a", encoding="utf-8") as file:
            json.dump({"at": trio.current_time(), **self._cluster.client.cluster().to_json()}, file)
            file.write("\n")
