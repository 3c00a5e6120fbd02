"""Real nodes under a careless umask, and on a volume whose files belong to another user."""

import os
import shutil
from pathlib import Path

import pytest

from tests.cluster.harness import Cluster, Place
from tests.unit.test_private import loosen, modes, open_to_others
from trioraft.client.status import ClusterStatus

OTHER_USER = 12345
CARELESS = Place(command=("sh", "-c", 'umask 0; exec "$@"', "sh"))
# As a user to whom the files do not belong, but who may write them: root without the right to change modes.
NO_OWNER = Place(command=("setpriv", "--inh-caps=-fowner", "--bounding-set=-fowner"))


async def start(cluster: Cluster) -> None:
    await cluster.start(0)
    pid = cluster.process(0).pid

    def leads(seen: ClusterStatus) -> bool:
        return seen.leader is not None and seen.leader.status.pid == pid

    await cluster.wait_for(leads, 60)


async def test_data_is_private_and_where_that_is_denied_a_node_says_so_and_starts(tmp_path: Path) -> None:
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv")
    async with Cluster(tmp_path, 1, {"SNAPSHOT_ENTRIES": "5"}, places=[CARELESS]) as cluster:
        await cluster.wait_leader(60)
        for number in range(10):
            await cluster.client.put(f"key-{number}".encode(), b"secret")
        data = cluster.data_dir(0)
        assert open_to_others(data) == {}
        assert await cluster.stop(0) == 0
        loosen(data)
        for path in (data, *data.rglob("*")):
            os.chown(path, OTHER_USER, OTHER_USER)
        cluster.move(0, NO_OWNER)
        await start(cluster)
        assert await cluster.stop(0) == 0
        assert open_to_others(data)
        warnings = [line for line in cluster.logs(0) if "other users may reach" in line["event"]]
        assert [(line["level"], line["first"]) for line in warnings] == [
            ("warning", f"{data}/0: Operation not permitted")
        ]
        cluster.move(0, CARELESS)
        await start(cluster)
        assert open_to_others(data) == {".": modes(data)["."]}  # it belongs to somebody else
