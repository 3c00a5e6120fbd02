"""`trioraft etcd` takes etcd's flags and variables, and becomes the node that they describe."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.harness import ROOT, clean_environment, free_ports
from tests.etcd.serving import free_tcp_ports, post
from trioraft.cli.etcd import translate
from trioraft.cli.exits import CommandError
from trioraft.settings.settings import NodeSettings

EVERYWHERE = "0.0.0.0"  # noqa: S104 - what is tested is when that is allowed
MEMBERS = "a=http://10.0.0.1:2380,b=http://10.0.0.2:2380,c=http://10.0.0.3:2380"


def test_flags_give_the_variables_of_a_node() -> None:
    found = translate(
        [
            "--name=a",
            "--data-dir",
            "/data",
            "--listen-peer-urls=http://0.0.0.0:2380",
            "--initial-advertise-peer-urls=http://10.0.0.1:2380",
            "-initial-cluster",
            MEMBERS,
            "--listen-client-urls=http://0.0.0.0:2379",
            "--advertise-client-urls=http://10.0.0.1:2379",
            "--snapshot-count=1000",
            "--strict-reconfig-check",
            "--heartbeat-interval=50",
            "--election-timeout=500",
        ],
        {},
    )
    assert found == {
        "NODE_NAME": "a",
        "DATA_DIR": "/data",
        "BIND_HOST": EVERYWHERE,
        "BIND_PORT": "2380",
        "UNSEALED": "allowed",
        "PEERS": "10.0.0.1:2380,10.0.0.2:2380,10.0.0.3:2380",
        "BOOTSTRAP_EXPECT": "3",
        "CLIENT_BIND_HOST": EVERYWHERE,
        "CLIENT_BIND_PORT": "2379",
        "CLIENT_ADVERTISE_URL": "http://10.0.0.1:2379",
        "CLIENT_INSECURE": "yes",
        "SNAPSHOT_ENTRIES": "1000",
        "HEARTBEAT_REPEAT_MILLIS": "50",
        "ELECTION_TIMEOUT_LOWER_MILLIS": "500",
        "ELECTION_TIMEOUT_UPPER_MILLIS": "1000",
    }
    assert NodeSettings.from_environ({**found, "DATA_DIR": ""}).client_bind_port == 2379


def test_variables_of_etcd_count_like_flags_and_flags_before_them() -> None:
    environment = {
        "ETCD_NAME": "x",
        "ETCD_INITIAL_CLUSTER_STATE": "existing",
        "ETCD_UNSUPPORTED_ARCH": "arm64",
        "LOGGING": "DEBUG",
    }
    found = translate(["--name", "y"], environment)
    assert (found["NODE_NAME"], found["LOGGING"]) == ("y", "DEBUG")
    assert "BOOTSTRAP_EXPECT" not in found
    assert found["DATA_DIR"] == "y.etcd"
    assert not any(name.startswith("ETCD_") for name in found)


def test_without_flags_it_is_a_cluster_of_one_on_loopback_with_timeouts_of_1_to_2_seconds() -> None:
    found = translate([], {})
    assert found["BOOTSTRAP_EXPECT"] == "1"
    assert found["PEERS"] == "127.0.0.1:2380"
    assert (found["CLIENT_BIND_HOST"], found["CLIENT_BIND_PORT"]) == ("127.0.0.1", "2379")
    times = ("ELECTION_TIMEOUT_LOWER_MILLIS", "ELECTION_TIMEOUT_UPPER_MILLIS", "HEARTBEAT_REPEAT_MILLIS")
    assert [found[name] for name in times] == ["1000", "2000", "100"]
    assert "UNSEALED" not in found


def test_https_needs_a_certificate_and_asks_for_those_of_clients_as_etcd_does() -> None:
    flags = ["--listen-client-urls=https://127.0.0.1:2379", "--cert-file=/c", "--key-file=/k", "--trusted-ca-file=/a"]
    assert translate(flags, {})["CLIENT_CERT_AUTH"] == "false"
    assert translate([*flags, "--client-cert-auth"], {})["CLIENT_CERT_AUTH"] == "true"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--wal-dir=/w"], "--data-dir"),
        (["--force-new-cluster"], "trioraft recover"),
        (["--peer-cert-file=/c"], "CLUSTER_KEY_FILE"),
        (["--listen-peer-urls=https://127.0.0.1:2380"], "CLUSTER_KEY_FILE"),
        (["--listen-client-urls=https://127.0.0.1:2379"], "--cert-file"),
        (["--listen-client-urls=http://127.0.0.1:1,http://10.0.0.1:1"], "a node listens at one"),
        (["--listen-client-urls=http://name:2379"], "numeric"),
        (["--initial-cluster=http://10.0.0.1:2380"], "name=http://host:port"),
        (["--initial-cluster-state=old"], "new or existing"),
        (["--election-timeout=soon"], "milliseconds"),
        (["--quota-backend-bytes=8000000"], "trioraft settings --quota"),
        (["--no-such-flag"], "no flag"),
        (["--name"], "needs a value"),
        (["word"], "no flag"),
    ],
)
def test_what_a_node_does_not_do_is_refused_with_one_line(flags: list[str], words: str) -> None:
    with pytest.raises(CommandError) as raised:
        translate(flags, {})
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_it_becomes_a_node_that_says_that_it_is_ready_and_serves(tmp_path: Path) -> None:
    (peer,), (client,) = free_ports(1), free_tcp_ports(1)
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "trioraft", "etcd", "--name", "one", "--data-dir", str(tmp_path / "data")),
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-cluster=one=http://127.0.0.1:{peer}",
            f"--listen-client-urls=http://127.0.0.1:{client}",
        ],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={**clean_environment(), "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        text=True,
    )
    try:
        assert process.stderr is not None
        wanted = ["enabled capabilities for version", "published"]
        for line in process.stderr:
            wanted = [words for words in wanted if words not in line]
            if not wanted:
                break
        assert not wanted
        assert os.readlink(f"/proc/{process.pid}/exe") == os.path.realpath(sys.executable)
        status, answer = post(f"127.0.0.1:{client}", "/v3/kv/put", {"key": "YQ=="})
        assert (status, answer["header"]["revision"]) == (200, "2")
    finally:
        process.terminate()
        process.wait(20)
        if process.stderr is not None:
            process.stderr.close()
