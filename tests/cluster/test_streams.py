"""Commands whose standard streams are closed, full, or no longer read: the exit status tells what was done."""

import sys
from pathlib import Path

import trio

from tests.cluster.harness import ROOT, Cluster, clean_environment


async def shell(cluster: Cluster, line: str) -> tuple[int, str]:
    """Run a line of shell in which ``$t`` is the command; return its exit status and its standard error."""
    done = await trio.run_process(
        ["bash", "-c", line],
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        env={
            **clean_environment(),
            "PYTHONPATH": str(ROOT),
            "PEERS": cluster.peers,
            "t": f"{sys.executable} -m trioraft",
        },
    )
    assert b"Traceback" not in done.stderr + done.stdout
    return done.returncode, done.stderr.decode()


async def test_what_was_changed_is_done_whatever_becomes_of_the_output(tmp_path: Path) -> None:
    told = "it was done, and is not printed there"
    async with Cluster(tmp_path, size=1) as cluster:
        await cluster.wait_leader(60)
        assert await shell(cluster, "$t put a 1 >&-") == (
            0,
            f"trioraft: standard output: closed; {told}: revision 2\n",
        )
        assert await shell(cluster, "$t cas a 1 2 --format json >/dev/full") == (
            0,
            f'trioraft: standard output: no space left on device; {told}: {{"succeeded": true, "revision": 3}}\n',
        )
        assert await shell(cluster, "$t delete a | true; exit ${PIPESTATUS[0]}") == (0, "")
        assert await shell(cluster, "$t put b 1 >&- 2>&-") == (0, "")
        status, said = await shell(cluster, "$t lease grant 60 >/dev/full")
        (lease,) = await cluster.client.leases()
        assert (status, f"{lease:016x}" in said) == (0, True), "its id is not lost"
        for line in ("settings --reads lease", f"backup {tmp_path}/b"):
            status, said = await shell(cluster, f"$t {line} >&-")
            assert (status, said.count("\n")) == (0, 1), said
        assert [(kv.key, kv.value) for kv in await cluster.client.list()] == [(b"b", b"1")]


async def test_what_was_only_to_be_printed_has_failed_where_it_could_not_be(tmp_path: Path) -> None:
    async with Cluster(tmp_path, size=1) as cluster:
        await cluster.wait_leader(60)
        await cluster.client.put("a", "x" * 100_000)
        full = (1, "trioraft: standard output: no space left on device\n")
        for line in ("get a", "list", "watch a --revision 1", "status", "status --format json", "keygen", "--help"):
            assert await shell(cluster, f"$t {line} >/dev/full") == full, line
        assert await shell(cluster, "$t get a >&-") == (1, "trioraft: standard output: closed\n")
        # Who has read enough is no failure.
        assert await shell(cluster, "$t list | head -c 1; exit ${PIPESTATUS[0]}") == (0, "")
        assert await shell(cluster, "$t watch a --revision 1 | head -c 1; exit ${PIPESTATUS[0]}") == (0, "")
        # What is wrong is not printed where a value belongs.
        assert await shell(cluster, 'x=$($t get missing 2>&-); s=$?; test -z "$x" && exit $s') == (1, "")


async def test_a_value_that_cannot_be_read_is_not_put(tmp_path: Path) -> None:
    async with Cluster(tmp_path, size=1) as cluster:
        await cluster.wait_leader(60)
        said = "trioraft: standard input: closed; allowed: a file or a pipe\n"
        assert await shell(cluster, "$t put a - <&-") == (2, said)
        assert await shell(cluster, "$t keygen --derive client <&-") == (2, said)
        assert await cluster.client.list() == ()
        assert await shell(cluster, "$t lock job -- true <&- >&- 2>&-") == (0, "")
