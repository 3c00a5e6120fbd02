"""What reads by the lease buy: linearizable reads by a quorum and by the lease, in turns, on one real cluster.

    python -m tests.benchmarks.reads --nodes 3 --seconds 2 --rounds 5 --delay-millis 5

Each round reads one key for some seconds in either way, first with one reader at a time (latency), then with many
at once (throughput). With ``--delay-millis`` datagrams between nodes take so long one way, as between data centres;
those of the client take none. Prints one JSON document; the ratios are medians over the rounds, so that others at
work on the machine count little.
"""

import argparse
import json
import tempfile
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import trio

from tests.cluster.harness import Cluster, free_ports
from tests.cluster.relay import Faults, open_relay
from trioraft.client.client import Client
from trioraft.replica.settings import ReadMode


async def measure(client: Client, readers: int, seconds: float) -> dict[str, float]:
    """Read for a while, so many reads at once."""
    took: list[float] = []
    end = trio.current_time() + seconds

    async def read() -> None:
        while (began := trio.current_time()) < end:
            await client.get("key")
            took.append(trio.current_time() - began)

    async with trio.open_nursery() as nursery:
        for _ in range(readers):
            nursery.start_soon(read)
    cuts = quantiles(took, n=100)
    return {"reads_per_second": len(took) / seconds, "p50_millis": 1e3 * cuts[49], "p99_millis": 1e3 * cuts[98]}


async def compare(client: Client, readers: int, seconds: float, rounds: int) -> dict[str, Any]:
    """Read in both ways, in turns."""
    results: dict[str, list[dict[str, float]]] = {mode.value: [] for mode in ReadMode}
    for _ in range(rounds):
        for mode in ReadMode:
            await client.change_cluster_settings(reads=mode)
            await client.get("key")
            results[mode.value].append(await measure(client, readers, seconds))
    middle = {
        mode: {what: round(median(result[what] for result in each), 3) for what in each[0]}
        for mode, each in results.items()
    }
    pairs = list(zip(results["quorum"], results["lease"], strict=True))
    return {
        "readers": readers,
        **middle,
        "latency_ratio": round(median(q["p50_millis"] / n["p50_millis"] for q, n in pairs), 2),
        "throughput_ratio": round(median(n["reads_per_second"] / q["reads_per_second"] for q, n in pairs), 2),
    }


async def run(nodes: int, seconds: float, rounds: int, readers: int, delay: float) -> dict[str, Any]:
    """Run a cluster, and compare."""
    ports = free_ports(nodes)
    with tempfile.TemporaryDirectory() as directory:
        async with open_relay(ports, seed=1) as relay:
            relay.faults = Faults(delay=delay)
            each = [{"PEERS": relay.peers_of(i)} for i in range(nodes)] if delay else None
            async with Cluster(Path(directory), nodes, each=each, ports=ports) as cluster:
                await cluster.wait_leader()
                await cluster.client.put("key", "value")
                return {
                    "nodes": nodes,
                    "delay_millis": 1e3 * delay,
                    "one": await compare(cluster.client, 1, seconds, rounds),
                    "many": await compare(cluster.client, readers, seconds, rounds),
                }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="how long one measurement takes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--readers", type=int, default=64, help="how many read at once in the second part")
    parser.add_argument("--delay-millis", type=float, default=0.0, help="one way, between nodes")
    options = parser.parse_args()
    delay = options.delay_millis / 1e3
    report = trio.run(run, options.nodes, options.seconds, options.rounds, options.readers, delay)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
