"""The ``trioraft`` command.

Exit status: 0 for done; 1 for a cluster that does not do it (no answer, no leader, refused); 2 for wrong use or
configuration, with one line on standard error. Commands import what they need where they use it, so that each starts
quickly.
"""

import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from trioraft._version import __version__
from trioraft.cli import bench as cli_bench
from trioraft.cli import keys as cli_keys
from trioraft.cli import members as cli_members
from trioraft.cli import recover as cli_recover
from trioraft.cli.exits import INTERRUPTED, WRONG, CommandError
from trioraft.cli.running import (
    DONE,
    Errors,
    Peers,
    byte_count,
    checked,
    choice,
    client_settings,
    number,
    run_client,
    run_program,
    timeout_seconds,
)
from trioraft.cli.signals import ToldToEnd, die_when_told, raise_when_told
from trioraft.cli.streams import OutputError, check_stdout, read_stdin, stdin_is_terminal
from trioraft.cli.up_commands import up_app
from trioraft.hooks.secrecy import hide_keys
from trioraft.streams import open_standard_descriptors, queue_standard_stream
from trioraft.texts import printable

app = typer.Typer(
    name="trioraft",
    help="Raft for replicated services: a leader and its work, keys and values, locks.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

cli_keys.add_commands(app)
app.command()(cli_bench.bench)
app.add_typer(up_app, name="up")
cli_members.add_commands(app)
app.command()(cli_recover.recover)

# Larger than any key.
_KEY_FILE_MAX = 64 * 1024

# A process started by `trioraft up` ends with it, even when it is killed.
_WithStdin = Annotated[bool, typer.Option("--end-with-stdin", hidden=True)]


def _print_version(asked: bool) -> None:
    if asked:
        print(f"trioraft {__version__}")  # noqa: T201 - what the option is for
        raise typer.Exit


@app.callback()
def options(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version, and end.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Raft for replicated services: a leader and its work, keys and values, locks."""


def main() -> None:
    """Run the command with the process's arguments, and exit."""
    hide_keys(os.environ)
    stdout_is_closed = sys.stdout is None
    open_standard_descriptors()
    queue_standard_stream("stderr")
    check_stdout(is_closed=stdout_is_closed)
    raise_when_told()
    try:
        status = run(sys.argv[1:])
    except ToldToEnd as told:
        status = told.exit_status
    die_when_told()
    with suppress(OutputError):  # the exit status has another reason already
        sys.stdout.flush()
    sys.exit(status)


def run(arguments: list[str]) -> int:
    """Run the command.

    Parameters
    ----------
    arguments : list of str
        The arguments.

    Returns
    -------
    int
        The exit status.
    """
    try:
        status = app(arguments or ["--help"], prog_name="trioraft", standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as error:
        text = " ".join(error.format_message().split())
        context = getattr(error, "ctx", None)
        return _fail(f"{text} (see `{context.command_path if context else 'trioraft'} --help`)", WRONG)
    except typer.Abort:
        return INTERRUPTED
    except OutputError as error:
        return DONE if error.reader_gone else _fail(str(error), error.exit_status)
    except CommandError as error:
        return _fail(str(error), error.exit_status)
    return status if isinstance(status, int) else DONE


def _fail(text: str, exit_status: int) -> int:
    print(f"trioraft: {printable(text)}", file=sys.stderr)  # noqa: T201 - the one line that people see
    return exit_status


# --- processes that stay ------------------------------------------------------------------------------------


@app.command()
def node(*, end_with_stdin: _WithStdin = False) -> int:
    """Run a node.

    It is configured by environment variables only, and ends with SIGTERM, SIGINT or SIGHUP.
    """
    from trioraft.daemon import run_node  # noqa: PLC0415
    from trioraft.errors import NodeError  # noqa: PLC0415
    from trioraft.settings.settings import NodeSettings  # noqa: PLC0415
    from trioraft.storage.errors import StorageError  # noqa: PLC0415

    settings = checked(NodeSettings.from_environ)
    _start_log(settings.logging, settings.log_format)
    return _serve(lambda: run_node(settings), (NodeError, StorageError), end_with_stdin=end_with_stdin)


@app.command(context_settings={"ignore_unknown_options": True})
def lead(
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND...", help="What to run as the leader.")],
    *,
    restart: Annotated[
        str | None,
        typer.Option(
            metavar="never|on-failure|always[:N]",
            help="Whether COMMAND is run again when it has ended by itself, after pauses of 1 to 30 s; after N failed"
            " starts in a row, else 10, it is given up. Else SCRIPT_LEADER_RESTART, else on-failure.",
            show_default=False,
        ),
    ] = None,
    log_output: Annotated[
        str,
        typer.Option(
            "--log-output",
            metavar="raw|json",
            help="raw: what COMMAND writes is passed through as it is; json: as lines of the node's log.",
        ),
    ] = "raw",
    end_with_stdin: _WithStdin = False,
) -> int:
    """Run a node with a command as its leader script.

    COMMAND runs while this node leads, with TRIORAFT_FENCING_TOKEN in its environment, and has ended before it runs
    anywhere else. Everything else is as in `trioraft node`.
    """
    from trioraft.cli.lead import leader_script  # noqa: PLC0415
    from trioraft.daemon import run_node  # noqa: PLC0415
    from trioraft.errors import NodeError  # noqa: PLC0415
    from trioraft.settings.settings import NodeSettings  # noqa: PLC0415
    from trioraft.storage.errors import StorageError  # noqa: PLC0415

    choice("--log-output", log_output, "raw", "json")
    settings = leader_script(
        checked(NodeSettings.from_environ), command, restart, "log" if log_output == "json" else "streams"
    )
    _start_log(settings.logging, "json" if log_output == "json" else settings.log_format)
    return _serve(lambda: run_node(settings), (NodeError, StorageError), end_with_stdin=end_with_stdin)


@app.command(context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]})
def etcd(
    flags: Annotated[list[str] | None, typer.Argument(metavar="[FLAGS...]", help="The flags of etcd.")] = None,
) -> None:
    """Run a node that is started as etcd is.

    It takes etcd's own flags and ETCD_... variables, and serves etcd's JSON API on --listen-client-urls. The hosts
    and ports of --listen-peer-urls and --initial-cluster are those of the nodes' datagrams (UDP). What a node does
    not do is refused with one line.
    """
    from trioraft.cli.etcd import become_node  # noqa: PLC0415

    become_node(flags or [])


@app.command()
def monitor(*, end_with_stdin: _WithStdin = False) -> int:
    """Run the page that shows a cluster.

    It has a JSON API too, is configured by environment variables only, and ends with SIGTERM, SIGINT or SIGHUP.
    """
    from trioraft.settings.key_files import key_file_warning  # noqa: PLC0415
    from trioraft.settings.settings import MonitorSettings, key_warning  # noqa: PLC0415

    settings = checked(MonitorSettings.from_environ)
    _start_log(
        settings.logging,
        settings.log_format,
        key_warning(settings.keys),
        key_file_warning(settings.key_file),
    )
    from trioraft.monitor.server import run_monitor  # noqa: PLC0415

    return _serve(lambda: run_monitor(settings), (OSError,), end_with_stdin=end_with_stdin)


# --- looking ------------------------------------------------------------------------------------------------


@app.command()
def status(
    *,
    peers: Peers = None,
    form: Annotated[
        str, typer.Option("--output", "-o", "--format", metavar="table|wide|json|name", help="How to print.")
    ] = "table",
    watch: Annotated[bool, typer.Option("--watch", help="Go on until Ctrl-C.")] = False,
) -> int:
    """Show the nodes of a cluster.

    The exit status is 1 when no node answers.
    """
    from trioraft.cli import cluster as commands  # noqa: PLC0415

    choice("--output", form, *(("table", "json") if watch else ("table", "wide", "json", "name")))
    settings = client_settings(peers)
    show = commands.watch_status if watch else commands.show_status
    return run_client(lambda: show(settings, form), interrupted=DONE if watch else INTERRUPTED)


@app.command()
def healthcheck(
    *,
    ready: Annotated[bool, typer.Option("--ready", help="Ask for membership and a leader too.")] = False,
    leader: Annotated[
        bool, typer.Option("--leader", help="Ask whether leader work runs on this node: its script or a body.")
    ] = False,
) -> int:
    """Tell whether the node of this machine is well.

    That is: whether it answers at BIND_HOST and BIND_PORT of the environment, its disk is not stuck, and its leader
    script was not given up.
    """
    from trioraft.address import Address  # noqa: PLC0415
    from trioraft.cli.probe import ask_status  # noqa: PLC0415
    from trioraft.datagrams.events import ForeignService  # noqa: PLC0415
    from trioraft.messages import why_not_running  # noqa: PLC0415
    from trioraft.settings.settings import ClientSettings  # noqa: PLC0415
    from trioraft.settings.variables import find_variable  # noqa: PLC0415

    def read(name: str) -> Any:
        return checked(lambda: find_variable(name, "node").read(os.environ.get(name, "")))

    settings = checked(ClientSettings.from_environ)
    host, port, service = read("BIND_HOST"), read("BIND_PORT"), read("APP_NAME")
    # A socket for all addresses takes IPv4 as well, and a container may have no IPv6 loopback.
    address = Address.of("127.0.0.1" if host in {"0.0.0.0", "::"} else host, port)  # noqa: S104
    found = ask_status(address, service, settings.keys, seconds=2.0)
    if found is None:
        raise CommandError(f"no node of service {service!r} answers at {address}")
    if isinstance(found, ForeignService):
        raise CommandError(f"at {address} is a node of service {found.service!r}, not of {service!r}: see APP_NAME")
    if found.disk_stuck:
        raise CommandError(f"node {found.id}: its disk is stuck")
    if found.job.state == "given-up":
        raise CommandError(f"node {found.id}: its job: {found.job.text}")
    if leader and (reason := "it does not lead" if found.role != "leader" else why_not_running(found.job)):
        raise CommandError(f"node {found.id}: {reason}")
    if ready and found.cluster_id is None:
        waiting = found.forming.waiting_for if found.forming else "a cluster"
        raise CommandError(f"node {found.id} is no member of a cluster yet; it waits for {waiting}")
    if ready and found.leader is None:
        raise CommandError(f"node {found.id} knows no leader")
    return DONE


# --- acting -------------------------------------------------------------------------------------------------


@app.command()
def transfer(
    *,
    peers: Peers = None,
    to: Annotated[
        str | None,
        typer.Option(metavar="ID|NAME", help="The node that shall lead; else the best one.", show_default=False),
    ] = None,
) -> int:
    """Have the leader hand its leadership over."""
    from trioraft.cli import cluster as commands  # noqa: PLC0415

    settings = client_settings(peers)
    return run_client(lambda: commands.transfer(settings, to))


@app.command()
def settings(
    *,
    reads: Annotated[
        str | None,
        typer.Option(
            metavar="quorum|lease",
            help="How a leader makes sure, for linearizable reads, that nobody else leads: by asking a quorum, which"
            " needs no clock, or at once by its lease, which needs clocks whose rates differ by at most 1 %.",
            show_default=False,
        ),
    ] = None,
    quota: Annotated[
        str | None,
        typer.Option(
            metavar="BYTES",
            help="How large the key-value store may become, as in 134217728 or 128MiB; nodes need thrice as much.",
            show_default=False,
        ),
    ] = None,
    peers: Peers = None,
    form: Annotated[
        str, typer.Option("--output", "-o", "--format", metavar="text|json", help="How to print.")
    ] = "text",
    timeout: Annotated[str, typer.Option(metavar="SECONDS", help="Give up after so long.")] = "10",
) -> int:
    """Show the settings of the cluster, or change them.

    They are in the log: all nodes have the same ones, and a backup has them too.
    """
    from trioraft.cli import cluster as commands  # noqa: PLC0415
    from trioraft.replica.settings import QUOTA_MAX, QUOTA_MIN  # noqa: PLC0415

    if reads is not None:
        choice("--reads", reads, "quorum", "lease")
    size = None if quota is None else byte_count("--quota", quota, QUOTA_MIN, QUOTA_MAX)
    choice("--output", form, "text", "json")
    seconds = number("--timeout", timeout, 0, 86400)
    where = client_settings(peers)
    return run_client(lambda: commands.settings(where, reads, size, form, seconds))


@app.command("abandon-formation")
def abandon_formation(
    *,
    peers: Peers = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it.")] = False,
) -> int:
    """Give up a formation that cannot be completed.

    For when nodes stay `forming` because a member was lost for good. Refused when any node that answers is a
    member of a cluster.
    """
    from trioraft.cli import cluster as commands  # noqa: PLC0415

    settings = client_settings(peers)
    return run_client(lambda: commands.abandon_formation(settings, yes=yes))


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The backup; there must be none.")],
    *,
    peers: Peers = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The DATA_DIR of stopped nodes, a majority of the cluster; else it is a running cluster's.",
            show_default=False,
        ),
    ] = None,
    timeout: Annotated[
        str, typer.Option(metavar="SECONDS", help="Give up when there is no progress for so long.")
    ] = "10",
) -> int:
    """Make a backup of a cluster's state.

    A running cluster makes it without a pause, on a follower if there is one; it has everything that was acknowledged
    before. With --data-dir it is made of stopped nodes, as after the loss of a quorum, from the one whose log goes
    furthest; it has everything that was acknowledged when a majority of the nodes is there.
    """
    if data_dir is not None and peers is not None:
        raise CommandError("--peers is for a running cluster, --data-dir for stopped nodes; give one of them", WRONG)
    from trioraft.cli import backup as backup_commands  # noqa: PLC0415

    if data_dir is not None:
        backup_commands.back_up(file, data_dir)
        return DONE
    return backup_commands.fetch(file, client_settings(peers), timeout_seconds(timeout))


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The backup.")],
    data_dir: Annotated[Path, typer.Option(metavar="DIR", help="Where the data is made; it must be empty.")],
    members: Annotated[str, typer.Option(metavar="N", help="How many nodes the new cluster has.")] = "1",
) -> int:
    """Make the data of a new cluster from a backup.

    The new cluster has a new id, its nodes have new ids, and its terms are above all before, so fencing tokens keep
    growing. Nodes on one host share DIR; for others, move one numbered directory of it into the DATA_DIR of each.
    """
    count = number("--members", members, 1, 100)
    from trioraft.cli import backup as backup_commands  # noqa: PLC0415

    backup_commands.restore(file, data_dir, count)
    return DONE


@app.command()
def keygen(
    derive: Annotated[
        str | None,
        typer.Option(
            metavar="admin|client|reader|status",
            help="Print a key for an administrator, a client that changes keys, one that only reads them, or the"
            " monitor ('status'); made from the cluster key in CLUSTER_KEY, CLUSTER_KEY_FILE or standard input.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write it there, for your user alone, instead of printing it; there must be no such file.",
            show_default=False,
        ),
    ] = None,
) -> int:
    """Make a new cluster key, or a derived one, and print it."""
    from trioraft.cli.key_files import give_key  # noqa: PLC0415
    from trioraft.datagrams.keys import DERIVED, derive_key, generate_key  # noqa: PLC0415

    if derive is None:
        give_key(generate_key(), output)
        return DONE
    choice("--derive", derive, *DERIVED)
    name, text = _key_text()
    try:
        derived = derive_key(text, next(label for label in DERIVED if label == derive))
    except ValueError as error:
        raise CommandError(f"{name}: {error}", WRONG) from None
    give_key(derived, output)
    return DONE


def _key_text() -> tuple[str, str]:
    """Return where the key is written, and the text there."""
    if text := os.environ.get("CLUSTER_KEY"):
        return "CLUSTER_KEY", text
    if path := os.environ.get("CLUSTER_KEY_FILE"):
        try:
            return f"CLUSTER_KEY_FILE={path}", Path(path).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not a text file"
            raise CommandError(f"CLUSTER_KEY_FILE={path}: {reason.lower()}", WRONG) from None
    if stdin_is_terminal():
        raise CommandError("--derive needs a cluster key in CLUSTER_KEY, CLUSTER_KEY_FILE or standard input", WRONG)
    try:
        return "standard input", read_stdin(_KEY_FILE_MAX).decode()
    except UnicodeDecodeError:
        raise CommandError("standard input: not a text", WRONG) from None


# --- how commands run ---------------------------------------------------------------------------------------


def _start_log(level: str, log_format: str, *warnings: str) -> None:
    from trioraft.logger import Logger  # noqa: PLC0415
    from trioraft.logs import configure_logging  # noqa: PLC0415
    from trioraft.settings.settings import settings_warnings  # noqa: PLC0415

    configure_logging(level, log_format)
    log = Logger("trioraft")
    for warning in filter(None, [*settings_warnings(os.environ), *warnings]):
        log.warning(warning)


def _serve(main: Callable[[], Awaitable[None]], errors: Errors, *, end_with_stdin: bool) -> int:
    try:
        if not end_with_stdin:
            return run_program(main, errors, WRONG)
        from trioraft.launching import until_stdin_closes  # noqa: PLC0415

        return run_program(lambda: until_stdin_closes(main), errors, WRONG)
    except ToldToEnd:
        return DONE
