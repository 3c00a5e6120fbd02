"""Thousands of proposals of one process, in one turn of trio's loop."""

import time
from pathlib import Path

import trio

from tests.cluster.harness import Cluster, free_ports
from trioraft import NodeSettings, open_client, open_node
from trioraft.kv.codec import encode_command
from trioraft.kv.commands import Put
from trioraft.kv.service import KeyValueService
from trioraft.messages import Transfer
from trioraft.settings.settings import ClientSettings

# A turn that is longer than any election timeout: 4,000 steps of a millisecond.
_TASKS = 4000
_STEP = 0.001
_TIMEOUTS = {
    "election_timeout_lower_millis": 2000,
    "election_timeout_upper_millis": 3000,
    "heartbeat_repeat_millis": 100,
}


async def test_a_turn_of_thousands_of_proposals_does_not_depose_the_leader(tmp_path: Path) -> None:
    ports = free_ports(3)
    variables = {name.upper(): str(value) for name, value in _TIMEOUTS.items()}
    shared = {"PEERS": ",".join(f"127.0.0.1:{port}" for port in ports), "BOOTSTRAP_EXPECT": "3"}
    async with Cluster(tmp_path, 2, variables, ports=ports[:2], each=[shared] * 2):
        peers = shared["PEERS"]
        settings = NodeSettings.of(
            peers=peers,
            bootstrap_expect=3,
            bind_host="127.0.0.1",
            bind_port=ports[2],
            data_dir=tmp_path / "own",
            election_timeout_lower_millis=_TIMEOUTS["election_timeout_lower_millis"],
            election_timeout_upper_millis=_TIMEOUTS["election_timeout_upper_millis"],
            heartbeat_repeat_millis=_TIMEOUTS["heartbeat_repeat_millis"],
        )
        service = KeyValueService()
        async with open_node(settings, service) as node, open_client(ClientSettings.of(peers=peers)) as client:
            with trio.fail_after(40):
                while not node.status().leader:
                    await trio.sleep(0.05)
                while not node.leads_in:
                    await client.command(None, Transfer(node.id))
                    await trio.sleep(0.1)
                await node.propose(encode_command(Put(b"warm", b"")))
            term = node.leads_in

            async def propose(number: int) -> None:
                time.sleep(_STEP)  # noqa: ASYNC251 - what the program does with each
                await node.propose(encode_command(Put(b"%d" % (number % 100), b"x")))

            with trio.fail_after(60):
                async with trio.open_nursery() as nursery:
                    for number in range(_TASKS):
                        nursery.start_soon(propose, number)
            assert node.leads_in == term
