"""Configuration: what is taken, and the one line for what is not."""

import os
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from trioraft.address import Address
from trioraft.datagrams.keys import derive_key, generate_key
from trioraft.datagrams.sealing import Domain
from trioraft.settings.options import ClientOptions, NodeOptions, option_names
from trioraft.settings.settings import (
    FORMER_NAMES,
    VARIABLES,
    ClientSettings,
    MonitorSettings,
    NodeSettings,
    PeerName,
    SettingsError,
    key_warning,
    load,
    settings_warnings,
)

KEY = generate_key()


def refused(cls: type[Any], environ: Mapping[str, str]) -> str:
    with pytest.raises(SettingsError) as caught:
        load(cls, environ)
    line = str(caught.value)
    assert line.isprintable(), "one line that a terminal can show"
    assert "; allowed: " in line
    assert len(line) < 700
    return line


# --- defaults -----------------------------------------------------------------------------------------------


def test_unset_variables_have_the_documented_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    node = load(NodeSettings, {})
    assert (node.app_name, node.dns_name, node.logging, node.log_format) == ("trioraft", "trioraft", "INFO", "auto")
    assert (node.election_timeout_lower, node.election_timeout_upper, node.heartbeat_repeat) == (3.0, 5.0, 0.5)
    assert (node.hook_stop_grace, node.hook_failure, node.discovery_interval) == (5.0, "ignore", 2.0)
    assert (node.script_leader_path, node.script_follower_path, node.bootstrap_expect) == (None, None, None)
    assert (node.bind_host, node.bind_port, node.data_dir) == ("127.0.0.1", 7300, tmp_path / "trioraft-data")
    assert (node.peers, node.dns_servers, node.keys, node.node_name) == ((), (), None, "")
    assert not node.data_dir.exists()  # loading makes nothing
    monitor = load(MonitorSettings, {})
    assert (monitor.raft_service_name, monitor.dns_name) == ("trioraft", "trioraft")
    assert (monitor.bind_host, monitor.bind_port, monitor.refresh_rate) == ("127.0.0.1", 8000, 1.0)
    assert (monitor.openapi_path, monitor.docs_path, monitor.api_prefix) == ("/openapi.json", "/docs", "/api")
    assert (monitor.root_path, monitor.templates_dir, monitor.hostname) == ("", None, socket.gethostname())
    client = load(ClientSettings, {})
    assert (client.app_name, client.dns_name, client.peers) == ("", "", (PeerName("127.0.0.1", 7300),))


@pytest.mark.parametrize("cls", [NodeSettings, MonitorSettings, ClientSettings])
def test_an_empty_variable_counts_as_unset(cls: type[Any]) -> None:
    empty = {variable.name: "" for variable in VARIABLES} | dict.fromkeys(FORMER_NAMES, "")
    assert load(cls, empty) == load(cls, {})


def test_the_structs_have_the_defaults_of_the_table() -> None:
    assert NodeSettings(dns_name="trioraft") == load(NodeSettings, {})
    assert MonitorSettings(dns_name="trioraft", hostname=socket.gethostname()) == load(MonitorSettings, {})


# The fields that are no variables.
NO_VARIABLES = {"dns_name", "key_file", "script_leader_arguments", "script_leader_output"}


def test_the_table_is_whole() -> None:
    users = {"node": NodeSettings, "monitor": MonitorSettings, "commands": ClientSettings}
    for user, cls in users.items():
        rows = [variable for variable in VARIABLES if user in variable.used_by]
        assert len({variable.name for variable in rows}) == len(rows)
        assert {variable.field for variable in rows} | NO_VARIABLES >= set(cls.__struct_fields__)
    for variable in VARIABLES:
        assert set(variable.used_by) <= set(users)
        assert variable.meaning
        assert variable.allowed
        if variable.default:
            assert variable.read(variable.default) == variable.read("")
    assert set(FORMER_NAMES.values()) <= {variable.name for variable in VARIABLES}


# --- settings of a program ----------------------------------------------------------------------------------


def test_settings_of_keyword_arguments_are_those_of_the_environment(tmp_path: Path) -> None:
    assert NodeSettings.of(
        peers=["10.0.0.1:7300", "[fd00::3]:7300"],
        bind_port=7301,
        data_dir=tmp_path / "data",
        bootstrap_expect=None,
        heartbeat_repeat_millis=100,
        durability="memory",
    ) == load(
        NodeSettings,
        {
            "PEERS": "10.0.0.1:7300,[fd00::3]:7300",
            "BIND_PORT": "7301",
            "DATA_DIR": str(tmp_path / "data"),
            "HEARTBEAT_REPEAT_MILLIS": "100",
            "DURABILITY": "memory",
        },
    )
    assert ClientSettings.of() == load(ClientSettings, {})
    sealed = ClientSettings.of(peers="db-1:7300", cluster_key=KEY)
    assert sealed.peers == (PeerName("db-1", 7300),)
    assert str(sealed.keys) == str(load(ClientSettings, {"CLUSTER_KEY": KEY}).keys)


def test_settings_of_keyword_arguments_do_not_read_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEERS", "db-1:7300")
    assert ClientSettings.of().peers == (PeerName("127.0.0.1", 7300),)
    assert ClientSettings.from_environ().peers == (PeerName("db-1", 7300),)
    assert ClientSettings.from_environ({"PEERS": "db-2:7300"}).peers == (PeerName("db-2", 7300),)


def test_wrong_keyword_arguments_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"^BIND_PORT='99999': .*; allowed: a port from 1 to 65535$"):
        NodeSettings.of(bind_port=99999)
    with pytest.raises(TypeError, match=r"^there is no setting 'bind_prot'; did you mean 'bind_port'\?$"):
        NodeSettings.of(bind_prot=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="there is no setting 'data_dir'"):
        ClientSettings.of(data_dir=".")  # type: ignore[call-arg]


def test_every_variable_is_a_typed_keyword_argument() -> None:
    assert set(NodeOptions.__annotations__) == set(option_names("node")), (
        "trioraft/settings/options.py lists them for editors"
    )
    assert set(ClientOptions.__annotations__) == set(option_names("commands"))


# --- values that are taken ----------------------------------------------------------------------------------


def test_every_variable_sets_its_field(tmp_path: Path) -> None:
    script = tmp_path / "hook"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    node = load(
        NodeSettings,
        {
            "APP_NAME": "_raft._udp.node.prod.svc.cluster.local",
            "PEERS": "node-1:7301, 10.0.0.2:7302,[fd00::3]:7303,node-1:7301",
            "DNS_SERVERS": "10.0.0.53,127.0.0.1:5353,[::1]:53,fd00::53",
            "DISCOVERY_INTERVAL_MILLIS": "250",
            "CLUSTER_KEY": KEY,
            "LOGGING": "debug",
            "LOG_FORMAT": "json",
            "BIND_HOST": "0000:0000::",
            "BIND_PORT": "65535",
            "DATA_DIR": str(tmp_path / "a" / "b"),
            "BOOTSTRAP_EXPECT": "3",
            "NODE_NAME": "first",
            "ELECTION_TIMEOUT_LOWER_MILLIS": "100",
            "ELECTION_TIMEOUT_UPPER_MILLIS": "101",
            "HEARTBEAT_REPEAT_MILLIS": "50",
            "SCRIPT_LEADER_PATH": str(script),
            "SCRIPT_FOLLOWER_PATH": os.path.relpath(script),
            "HOOK_STOP_GRACE_MILLIS": "1500",
            "HOOK_FAILURE": "step-down",
        },
    )
    assert node.peers == (PeerName("node-1", 7301), PeerName("10.0.0.2", 7302), PeerName("fd00::3", 7303))
    assert node.dns_servers == (
        Address("10.0.0.53", 53),
        Address("127.0.0.1", 5353),
        Address("::1", 53),
        Address("fd00::53", 53),
    )
    assert (node.app_name, node.dns_name) == ("_raft._udp.node.prod.svc.cluster.local",) * 2
    assert (node.logging, node.log_format, node.bind_host, node.bind_port) == ("DEBUG", "json", "::", 65535)
    assert (node.data_dir, node.bootstrap_expect, node.node_name) == (tmp_path / "a" / "b", 3, "first")
    assert (node.election_timeout_lower, node.election_timeout_upper, node.heartbeat_repeat) == (0.1, 0.101, 0.05)
    assert (node.script_leader_path, node.script_follower_path) == (str(script), str(script))
    assert (node.hook_stop_grace, node.hook_failure, node.discovery_interval) == (1.5, "step-down", 0.25)
    assert node.keys is not None
    assert node.keys.can(Domain.CONSENSUS)
    assert KEY not in repr(node)


def test_the_monitor_shows_the_service_of_its_own_variable_else_that_of_the_nodes() -> None:
    assert load(MonitorSettings, {"APP_NAME": "node"}).raft_service_name == "node"
    monitor = load(MonitorSettings, {"APP_NAME": "monitor", "RAFT_SERVICE_NAME": "node", "HOSTNAME": "3f2a9c"})
    assert (monitor.raft_service_name, monitor.dns_name, monitor.hostname) == ("node", "node", "3f2a9c")
    assert monitor.client() == ClientSettings(app_name="node", dns_name="node")


def test_paths_of_the_monitor_end_without_a_slash() -> None:
    monitor = load(
        MonitorSettings, {"API_PREFIX": "/", "ROOT_PATH": "/raft/", "DOCS_PATH": "/api/docs/", "API_EMAIL": "a@b.c"}
    )
    assert (monitor.api_prefix, monitor.root_path, monitor.docs_path) == ("", "/raft", "/api/docs")


def test_the_names_of_the_predecessor_are_read_with_a_warning() -> None:
    environ = {
        "FASTAPI_TITLE": "Old",
        "FASTAPI_SCHEM": "/schema.json",
        "FASTAPI_DOCS": "/swagger",
        "FASTAPI_EMAIL": "",
    }
    monitor = load(MonitorSettings, environ)
    assert (monitor.api_title, monitor.openapi_path, monitor.docs_path) == ("Old", "/schema.json", "/swagger")
    assert load(MonitorSettings, {**environ, "API_TITLE": "New"}).api_title == "New"
    assert load(MonitorSettings, {**environ, "API_TITLE": ""}).api_title == "Old"
    (warning,) = settings_warnings(environ)
    assert "FASTAPI_TITLE is now API_TITLE" in warning
    assert "FASTAPI_SCHEM is now OPENAPI_PATH" in warning
    assert "FASTAPI_EMAIL" not in warning


@pytest.mark.parametrize(
    ("environ", "node", "client"),
    [
        ({}, "trioraft", ""),
        ({"PEERS": "a:1"}, "", ""),
        ({"APP_NAME": "node"}, "node", "node"),
        ({"APP_NAME": "node", "PEERS": "a:1"}, "node", ""),
    ],
)
def test_a_default_name_is_looked_up_only_without_peers(environ: dict[str, str], node: str, client: str) -> None:
    """Peers make DNS unnecessary: a node asks it only for a name that was set, a command not at all."""
    assert load(NodeSettings, environ).dns_name == node
    assert load(MonitorSettings, environ).dns_name == node
    assert load(ClientSettings, environ).dns_name == client
    assert load(ClientSettings, environ).app_name == environ.get("APP_NAME", "")


# --- keys ---------------------------------------------------------------------------------------------------


def test_a_key_in_a_file_is_the_same_as_one_in_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"{KEY}\n{generate_key()}\n")
    keys = load(NodeSettings, {"CLUSTER_KEY_FILE": str(file)}).keys
    inline = load(NodeSettings, {"CLUSTER_KEY": KEY}).keys
    assert keys is not None
    assert inline is not None
    assert keys.first(Domain.CONSENSUS).fingerprint == inline.first(Domain.CONSENSUS).fingerprint


def test_a_derived_key_is_for_the_monitor_and_for_commands_only() -> None:
    environ = {"CLUSTER_KEY": derive_key(KEY, "status")}
    for cls in (MonitorSettings, ClientSettings):
        assert load(cls, environ).keys is not None
    line = refused(NodeSettings, environ)
    assert line.startswith("CLUSTER_KEY=(hidden): a derived key is not good for consensus traffic")


@pytest.mark.parametrize(
    "text", ["short", KEY[:-1], KEY + "0", KEY[:-1] + "g", f"{KEY},{KEY}", f"other:{KEY}", " ", "\n"]
)
def test_a_bad_key_is_never_shown(text: str, tmp_path: Path) -> None:
    secret = text.strip().rpartition(":")[2][:20] or "no secret in blanks"
    line = refused(NodeSettings, {"CLUSTER_KEY": text})
    assert line.startswith("CLUSTER_KEY=(hidden): ")
    assert secret not in line
    file = tmp_path / "keys"
    file.write_text(text)
    line = refused(NodeSettings, {"CLUSTER_KEY_FILE": str(file)})
    assert line.startswith(f"CLUSTER_KEY_FILE={str(file)!r}: ")
    assert secret not in line


def test_a_key_in_place_of_its_file_is_not_shown() -> None:
    line = refused(ClientSettings, {"CLUSTER_KEY_FILE": KEY})
    assert line.startswith("CLUSTER_KEY_FILE=(hidden): is a key, not a file")


def test_a_key_and_a_key_file_exclude_each_other(tmp_path: Path) -> None:
    line = refused(NodeSettings, {"CLUSTER_KEY": KEY, "CLUSTER_KEY_FILE": str(tmp_path / "keys")})
    assert (
        line == "CLUSTER_KEY=(hidden): CLUSTER_KEY_FILE is set too; allowed: one of CLUSTER_KEY and CLUSTER_KEY_FILE"
    )


def test_a_key_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    (tmp_path / "large").write_text(KEY * 10_000)
    os.mkfifo(tmp_path / "fifo")
    for name, reason in {
        "missing": "cannot be read: No such file or directory",
        "empty": "is empty",
        "binary": "does not hold keys",
        "large": "does not hold keys",
        "fifo": "is not a file",
        ".": "is not a file",
        "empty/keys": "cannot be read: Not a directory",
    }.items():
        path = f"{tmp_path}/{name}"
        assert refused(NodeSettings, {"CLUSTER_KEY_FILE": path}).startswith(f"CLUSTER_KEY_FILE={path!r}: {reason}; ")


# --- values that are not ------------------------------------------------------------------------------------

_DURATIONS = [name for name in (variable.name for variable in VARIABLES) if name.endswith("_MILLIS")]
_WRONG_NUMBERS = [
    "x",
    "-1",
    "0",
    "1.5",
    "1e3",
    "0x10",
    "1_000",
    "+5",
    " 7",
    "٣",
    "99999999999",
    "9" * 5000,
    "nan",
    "-",
]
_USER_OF = {"node": NodeSettings, "monitor": MonitorSettings, "commands": ClientSettings}


@pytest.mark.parametrize("name", [*_DURATIONS, "BOOTSTRAP_EXPECT", "BIND_PORT"])
@pytest.mark.parametrize("text", _WRONG_NUMBERS, ids=lambda text: text[:12])
def test_a_wrong_number_is_shown_with_what_is_allowed(name: str, text: str) -> None:
    for variable in VARIABLES:
        if variable.name == name:
            line = refused(_USER_OF[variable.used_by[0]], {name: text})
            assert line.startswith(f"{name}={text[:200]!r}")
            assert line.endswith(f"; allowed: {variable.allowed}")


_WRONG_VALUES: Final = (
    ("APP_NAME", " ", "empty"),
    ("APP_NAME", "a..b", "empty"),
    ("APP_NAME", "no de", "'no de' has characters"),
    ("APP_NAME", "nöde", "'nöde' has characters"),
    ("APP_NAME", "-node", "'-node' has characters"),
    ("APP_NAME", "node:7300", "'node:7300' has characters"),
    ("APP_NAME", "a" * 64, "has a part longer than 63"),
    ("APP_NAME", "a." * 150, "longer than 253"),
    ("APP_NAME", "node\n", r"'node\n' has characters"),
    ("NODE_NAME", "a/b", "'a/b' has characters"),
    ("LOGGING", "LOUD", "unknown"),
    ("LOGGING", "10", "unknown"),
    ("LOG_FORMAT", "xml", "unknown"),
    ("HOOK_FAILURE", "explode", "unknown"),
    ("HOOK_FAILURE", "Step-Down", "unknown"),
    ("BIND_HOST", "localhost", "not a numeric address"),
    ("BIND_HOST", "256.0.0.1", "not a numeric address"),
    ("BIND_HOST", "[::]", "not a numeric address"),
    ("BIND_HOST", "127.0.0.1:7300", "not a numeric address"),
    ("BIND_PORT", "65536", "not a port number"),
    ("BOOTSTRAP_EXPECT", "101", "too large"),
    ("PEERS", "node-1", "'node-1' has no port"),
    ("PEERS", "node-1:", "'node-1:' has no port"),
    ("PEERS", ":7300", "':7300' has no host"),
    ("PEERS", "a:1,,b:2", "has an empty item"),
    ("PEERS", "a:1,", "has an empty item"),
    ("PEERS", "a:1;b:2", "'a:1;b:2' is not host:port"),
    ("PEERS", "a:1 b:2", "'a:1 b:2' is not host:port"),
    ("PEERS", "a:0", "'a:0': not a port number"),
    ("PEERS", "a:65536", "'a:65536': not a port number"),
    ("PEERS", "a:http", "'a:http': not a port number"),
    ("PEERS", "::1:7300", "'::1:7300' needs brackets around its IPv6 address"),
    ("PEERS", "fd00::1", "'fd00::1' needs brackets around its IPv6 address"),
    ("PEERS", "[fd00::1]", "'[fd00::1]' has no port"),
    ("PEERS", "[fd00::1:7300", "'[fd00::1:7300' has no closing bracket"),
    ("PEERS", "[fd00::1]7300", "'[fd00::1]7300' has no closing bracket before its port"),
    ("PEERS", "[fd00::g]:7300", "not a numeric address"),
    ("PEERS", "[10.0.0.1]:7300", "'[10.0.0.1]:7300' has no IPv6 address"),
    ("PEERS", "10.0.0.256:7300", "not a numeric address"),
    ("PEERS", "http://a:7300", "'http://a:7300' is not host:port"),
    ("PEERS", "a b:7300", "'a b' has characters"),
    ("DNS_SERVERS", "dns.example.org", "'dns.example.org' is not an address"),
    ("DNS_SERVERS", "10.0.0.1:x", "'10.0.0.1:x': not a port number"),
    ("DNS_SERVERS", "10.0.0.1,", "has an empty item"),
    ("DNS_SERVERS", "fd00::1::2", "'fd00::1::2' is not an address"),
    ("RAFT_SERVICE_NAME", "a b", "'a b' has characters"),
    ("API_EMAIL", "nobody", "not an e-mail address"),
    ("API_TITLE", "a\x1b[31m", "has characters that cannot be printed"),
    ("API_DESCRIPTION", "x" * 10_001, "too long"),
    ("DOCS_PATH", "docs", "not a path"),
    ("OPENAPI_PATH", "/a b", "not a path"),
    ("ROOT_PATH", "//evil.example.org", "not a path"),
    ("API_PREFIX", "/api?x", "not a path"),
    ("API_PREFIX", "/../x", "not a path"),
    ("DOCS_PATH", "/", "'/' is another page"),
    ("DOCS_PATH", "/openapi.json", "'/openapi.json' is another page"),
    ("OPENAPI_PATH", "/api/nodes", "'/api/nodes' is another page"),
    ("TEMPLATES_DIR", "/nonexistent", "does not exist"),
    ("TEMPLATES_DIR", "/etc/passwd", "is not a directory"),
)


@pytest.mark.parametrize(("name", "text", "reason"), _WRONG_VALUES)
def test_a_wrong_value_is_shown_with_the_reason(name: str, text: str, reason: str) -> None:
    variable = next(variable for variable in VARIABLES if variable.name == name)
    line = refused(_USER_OF[variable.used_by[0]], {name: text})
    assert line.startswith(f"{name}={text[:200]!r}")
    assert f": {reason}" in line


def test_a_value_that_is_no_text_is_shown_escaped() -> None:
    line = refused(NodeSettings, {"APP_NAME": os.fsdecode(b"\xff\xfe")})
    assert line.startswith(r"APP_NAME='\udcff\udcfe': ")


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        (
            {"ELECTION_TIMEOUT_LOWER_MILLIS": "5000"},
            "ELECTION_TIMEOUT_LOWER_MILLIS='5000': does not fit ELECTION_TIMEOUT_UPPER_MILLIS (5000)",
        ),
        (
            {"ELECTION_TIMEOUT_UPPER_MILLIS": "3000"},
            "ELECTION_TIMEOUT_UPPER_MILLIS='3000': does not fit ELECTION_TIMEOUT_LOWER_MILLIS (3000)",
        ),
        (
            {"ELECTION_TIMEOUT_LOWER_MILLIS": "900", "ELECTION_TIMEOUT_UPPER_MILLIS": "1000"},
            "ELECTION_TIMEOUT_LOWER_MILLIS='900': does not fit HEARTBEAT_REPEAT_MILLIS (500)",
        ),
        (
            {"HEARTBEAT_REPEAT_MILLIS": "1501"},
            "HEARTBEAT_REPEAT_MILLIS='1501': does not fit ELECTION_TIMEOUT_LOWER_MILLIS (3000)",
        ),
    ],
)
def test_times_that_do_not_fit_each_other_are_refused(environ: dict[str, str], line: str) -> None:
    assert refused(NodeSettings, environ).startswith(line)


def test_times_that_just_fit_are_taken() -> None:
    assert load(NodeSettings, {"HEARTBEAT_REPEAT_MILLIS": "1500"}).heartbeat_repeat == 1.5
    assert load(NodeSettings, {"ELECTION_TIMEOUT_LOWER_MILLIS": "4999"}).election_timeout_lower == 4.999


@pytest.mark.parametrize("name", ["SCRIPT_LEADER_PATH", "SCRIPT_FOLLOWER_PATH"])
def test_a_script_that_cannot_be_run_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("#!/bin/sh\n")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for file, reason in {
        "missing": "does not exist",
        ".": "is not a file",
        "plain": "is not executable by this user (chmod +x)",
        "plain/x": "Not a directory",
        "loop": "Too many levels of symbolic links",
        "x" * 300: "File name too long",
    }.items():
        path = f"{tmp_path}/{file}"
        assert f": {reason}; allowed: the path of an executable file" in refused(NodeSettings, {name: path})
    assert "no path has" in refused(NodeSettings, {name: "a\0b"})


def test_a_data_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing")
    for path, reason in {
        str(file): "is not a directory",
        f"{file}/a/b": f"{str(file)!r} is not a directory",
        str(tmp_path / "nowhere"): f"{str(tmp_path / 'nowhere')!r} is a link to nowhere",
        str(tmp_path / ("x" * 300)): "File name too long",
    }.items():
        line = refused(NodeSettings, {"DATA_DIR": path})
        assert line.endswith(f": {reason}; allowed: a directory that can be written or made")


def refused_to_others(cls: type[Any], environ: Mapping[str, str]) -> str:
    """Load as a user without rights: in a child process, because root may do everything."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        line = "not refused"
        try:
            if os.geteuid() == 0:
                os.setuid(65534)
            load(cls, environ)
        except SettingsError as error:
            line = str(error)
        finally:
            os.write(writing, line.encode())
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        line = pipe.read().decode()
    os.waitpid(child, 0)
    return line


def test_a_directory_without_permission_is_refused() -> None:
    with tempfile.TemporaryDirectory() as text:  # pytest's own are closed to other users altogether
        directory = Path(text)
        directory.chmod(0o555)
        line = refused_to_others(NodeSettings, {"DATA_DIR": f"{directory}/data"})
        assert line.startswith(f"DATA_DIR='{directory}/data': '{directory}' cannot be written by this user")
        directory.chmod(0)
        line = refused_to_others(MonitorSettings, {"TEMPLATES_DIR": text})
        assert "cannot be read by this user" in line
        usable = {"DATA_DIR": tempfile.gettempdir()}
        line = refused_to_others(NodeSettings, {**usable, "SCRIPT_LEADER_PATH": f"{directory}/hook"})
        assert line.startswith(f"SCRIPT_LEADER_PATH='{directory}/hook': Permission denied")
        line = refused_to_others(NodeSettings, {**usable, "CLUSTER_KEY_FILE": f"{directory}/keys"})
        assert ": cannot be read: Permission denied" in line
        directory.chmod(0o755)


def test_a_default_that_cannot_be_used_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trioraft-data").write_text("")
    monkeypatch.chdir(tmp_path)
    assert refused(NodeSettings, {}).startswith("DATA_DIR='trioraft-data' (the default): is not a directory")


def test_variables_of_others_do_not_matter() -> None:
    """A node does not look at the monitor's variables, nor a command at a node's."""
    assert load(NodeSettings, {"REFRESH_RATE_MILLIS": "x", "UNKNOWN": "x"}) == load(NodeSettings, {})
    assert load(ClientSettings, {"BIND_PORT": "x", "SCRIPT_LEADER_PATH": "x"}) == load(ClientSettings, {})


# --- warnings -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("HEARTBEAT_REPEAT_MILIS", "HEARTBEAT_REPEAT_MILLIS"),
        ("HEARTBEAT_REPEAT", "HEARTBEAT_REPEAT_MILLIS"),
        ("ELECTION_TIMEOUT_LOWER", "ELECTION_TIMEOUT_LOWER_MILLIS"),
        ("BOOTSTRAP_EXPECTED", "BOOTSTRAP_EXPECT"),
        ("SCRIPT_LEADER", "SCRIPT_LEADER_PATH"),
        ("CLUSTER_KEYFILE", "CLUSTER_KEY_FILE"),
        ("CLUSTER_KEYS", "CLUSTER_KEY"),
        ("REFRESH_RATES_MILLIS", "REFRESH_RATE_MILLIS"),
    ],
)
def test_a_near_miss_is_pointed_out(name: str, meant: str) -> None:
    (warning,) = settings_warnings({name: KEY})
    assert warning == f"{name} is not a variable of trioraft and is ignored; did you mean {meant}?"
    assert settings_warnings({name: ""}) == []


def test_names_that_are_far_from_any_variable_raise_no_warning() -> None:
    others = {
        "PATH": "x", "HOME": "x", "HOST": "x", "LOG_LEVEL": "x", "APP_PORT": "x", "DATA_PATH": "x", "PEER": "x",
        "SCRIPT_NAME": "x", "SCRIPT_PATH": "x", "NODE_NAMES": "x", "BIND_ADDRESS": "x", "BOOTSTRAP_SERVERS": "x",
        "DISCOVERY_URL": "x", "HOOK_URL": "x", "TIMEOUT_MILLIS": "x", "KUBERNETES_SERVICE_HOST": "x",
        "NODE_PORT_7300_UDP_ADDR": "x", "ELECTION_DAY": "x", "CLUSTER_NAME": "x", "DOCS": "x", "API_KEY": "x",
        "TRIORAFT_NODE_NAME": "x", "FASTAPI_ENV": "x", "HEARTBEAT_INTERVAL": "x", "DATA_DIRS": "x",
    }  # fmt: skip
    assert settings_warnings(others) == []
    assert settings_warnings({variable.name: "x" for variable in VARIABLES}) == []


@pytest.mark.parametrize(("label", "better"), [("client", "reader, client or admin"), ("status", "status")])
def test_a_key_that_the_release_before_derived_is_warned_of(label: str, better: str) -> None:
    warning = key_warning(load(ClientSettings, {"CLUSTER_KEY": f"{label}:{KEY}"}).keys)
    assert f"a {label} key of the release before, which the next release refuses" in warning
    assert warning.endswith(f"`trioraft keygen --derive` {better}")
    assert KEY not in warning
    for keys in (
        None,
        *(load(ClientSettings, {"CLUSTER_KEY": text}).keys for text in (KEY, derive_key(KEY, "client"))),
    ):
        assert key_warning(keys) == ""
