"""What nodes of a cluster said they were, over time."""

from dataclasses import dataclass

import trio

from tests.cluster.harness import Cluster

UNHEARD = ""


@dataclass(frozen=True)
class Seen:
    """What a node was from a moment on, on trio's clock; its role is empty while it does not answer."""

    at: float
    role: str
    term: int


class Watch:
    """Remembers what nodes were.

    Attributes
    ----------
    seen : list of list of Seen
        For each node, each change.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.seen: list[list[Seen]] = [[] for _ in range(cluster.size)]
        self._cluster = cluster

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
            await client.changed(version)
