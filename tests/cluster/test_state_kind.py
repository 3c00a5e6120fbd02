"""Of what kind a cluster's state is: clients and nodes of another kind are refused, and nothing reaches the state."""

from pathlib import Path

import pytest
import trio

from tests.cluster import stand_in
from tests.cluster.counting import Counter
from tests.cluster.harness import Cluster
from tests.cluster.test_kv import command, settings_of
from tests.cluster.test_upgrade import speaks
from trioraft.client.client import open_client
from trioraft.kv.service import KeyValueService
from trioraft.replica.sessions import Replica
from trioraft.storage.backup_file import read_about, read_chunks_of
from trioraft.versions import SPOKEN

COUNTING = "tests.cluster.counting"
DAEMON = "trioraft"
REFUSED = (
    "trioraft: refused: it is meant for a key-value store, and the state of this cluster is of kind 'program':"
    " ask another cluster, by its PEERS or APP_NAME\n"
)
STOPS = "the state of this cluster is of kind 'program', and this node's state machine (KeyValueService)"


async def applied(cluster: Cluster) -> list[bytes]:
    async with open_client(settings_of(cluster)) as client:
        with trio.fail_after(20):
            return (await client.query(b"")).split()


async def test_commands_of_the_key_value_store_do_not_reach_another_state(tmp_path: Path) -> None:
    """Neither before the kind is in the log, nor after; and a daemon that joins such a cluster stops."""
    each = [stand_in.OLDER] * 3 + [{"BOOTSTRAP_EXPECT": ""}]
    modules = [COUNTING] * 3 + [DAEMON]
    async with Cluster(
        tmp_path, 4, {"SNAPSHOT_ENTRIES": "3", "BOOTSTRAP_EXPECT": "3"}, each=each, modules=modules
    ) as cluster:
        await cluster.kill(3)
        await cluster.wait_for(speaks(2, 3), 20, "the cluster speaks what its nodes do")
        async with open_client(settings_of(cluster)) as client:
            with trio.fail_after(20):
                assert await client.propose(b"one") == b"1"
                for i in range(3):
                    cluster.each[i] = {}
                    await cluster.kill(i)
                    await cluster.start(i)
                    assert await client.propose(b"two") == b"%d" % (i + 2)
        await cluster.wait_for(speaks(SPOKEN.highest, 3), 20, "the cluster goes on")
        for words in (("put", "a", "b"), ("get", "a"), ("lock", "job", "--", "true"), ("lease", "list")):
            status, out, err = await command(cluster, *words)
            assert (status, out, err.count("\n")) == (1, "", 1)
            assert err.endswith(REFUSED.removeprefix("trioraft: "))
        assert await applied(cluster) == [b"one", b"two", b"two", b"two"]

        await cluster.start(3)
        assert await cluster.ended(3, 20) != 0
        assert STOPS in cluster.log_file(3).read_text()
        for i in range(3):  # from a snapshot, and from the log
            await cluster.kill(i)
        for i in range(3):
            await cluster.start(i)
        await cluster.wait_leader(20)
        assert (await command(cluster, "put", "a", "b"))[2] == REFUSED
        assert await applied(cluster) == [b"one", b"two", b"two", b"two"]

        file = tmp_path / "backup"
        assert (await command(cluster, "backup", str(file)))[0] == 0
        about = read_about(file)
        restored = Replica(Counter())
        restored.restore(about.index, read_chunks_of(file, about), about.version)
        assert restored.state_kind == "program"
        with pytest.raises(Exception, match="of kind 'program'"):
            Replica(KeyValueService()).restore(about.index, read_chunks_of(file, about), about.version)


async def test_the_daemon_names_its_kind(tmp_path: Path) -> None:
    async with Cluster(tmp_path, 1, modules=[DAEMON]) as cluster:
        await cluster.wait_for(speaks(SPOKEN.highest, 1), 20, "the cluster goes on")
        assert (await command(cluster, "put", "a", "b"))[0] == 0
        await cluster.stop(0)
        cluster.modules[0] = COUNTING
        await cluster.start(0)
        assert await cluster.ended(0, 20) == 1
        assert "of kind 'key-value store', and this node's state machine (Counter)" in cluster.log_file(0).read_text()
        cluster.modules[0] = DAEMON
        await cluster.start(0)
        await cluster.wait_leader(20)
        assert await command(cluster, "get", "a") == (0, "b\n", "")
