"""Keys that keep the lease they have, whatever changes meanwhile: over the real node code, in memory."""

import pytest
import trio
import trio.testing

from tests.unit.memory_client import key_value_cluster, memory_client
from trioraft.kv.commands import Put


async def test_a_key_keeps_the_lease_that_it_has_when_it_is_put(autojump_clock: trio.testing.MockClock) -> None:
    async with (
        key_value_cluster(3, 1) as cluster,
        memory_client(cluster.network, cluster.addresses, 0) as one,
        memory_client(cluster.network, cluster.addresses, 1) as other,
    ):
        leases = [(await one.lease_grant(1000)).id for _ in range(2)]
        await one.put("a", "0", lease=leases[0])

        async def move() -> None:
            for number in range(50):
                await other.put("a", "moved", lease=leases[number % 2])

        async def keep() -> None:
            for number in range(50):
                await one.put("a", str(number), keep_lease=True)
                kv = await one.get("a")
                assert kv is not None
                await one.cas("a", kv.value, "swapped", keep_lease=True)

        revision = (await one.put("b", "1")).revision
        async with trio.open_nursery() as nursery:
            nursery.start_soon(move)
            nursery.start_soon(keep)
        last = await one.get("a")
        assert last is not None
        lease, changes, kept = leases[0], 0, 0
        async for event in one.watch("a", revision=revision + 1):
            changes += 1
            if event.kv.value != b"moved":
                assert event.kv.lease == lease
                kept += 1
            lease = event.kv.lease
            if event.kv.mod_revision == last.mod_revision:
                break
        assert changes == kept + 50
        assert kept > 50
        with pytest.raises(ValueError, match="exclude each other"):
            await one.put_if((), Put.of("a", "1", lease=leases[0]), keep_lease=True)
