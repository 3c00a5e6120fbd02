"""The commands that run a cluster on loopback, and disturb it."""

from pathlib import Path
from typing import Annotated

import typer

from trioraft.cli.exits import WRONG
from trioraft.cli.running import DONE, choice, number, run_program
from trioraft.streams import queue_standard_stream

up_app = typer.Typer(invoke_without_command=True)


@up_app.callback()
def up(
    context: typer.Context,
    *,
    nodes: Annotated[str, typer.Option(metavar="N", help="How many nodes.")] = "3",
    base_port: Annotated[str, typer.Option(metavar="PORT", help="UDP port of the first node.")] = "7300",
    monitor_port: Annotated[str, typer.Option(metavar="PORT", help="TCP port of the monitor.")] = "8000",
    data_dir: Annotated[
        Path | None, typer.Option(help="Keep the nodes' data here; else it is temporary.", show_default=False)
    ] = None,
) -> int:
    """Run a cluster and its monitor on loopback.

    It ends with Ctrl-C. The nodes are called node-1, node-2, ... and listen at base-port, base-port + 1, ..., so
    that the other commands find them without being told where. Everything else (timeouts, scripts, keys) is taken
    from the environment.
    """
    if context.invoked_subcommand is not None:
        return DONE
    count = number("--nodes", nodes, 1, 100)
    base = number("--base-port", base_port, 1, 65536 - count)
    page = number("--monitor-port", monitor_port, 1, 65535)
    from trioraft.cli.up import UpError, run_up  # noqa: PLC0415
    from trioraft.settings.settings import SettingsError  # noqa: PLC0415

    queue_standard_stream("stdout")  # as with the logs of its nodes: a slow terminal must not hold them up
    return run_program(lambda: run_up(count, base, page, data_dir), (UpError, SettingsError), WRONG)


@up_app.command()
def ctl(
    action: Annotated[str, typer.Argument(metavar="kill|pause|resume|restart", help="What to do.")],
    node: Annotated[str, typer.Argument(metavar="NODE", help="The name of the node, as node-2.")],
    *,
    base_port: Annotated[
        str | None,
        typer.Option(metavar="PORT", help="That of the cluster, where several run.", show_default=False),
    ] = None,
) -> int:
    """Disturb a node of the cluster that `trioraft up` runs, or heal it.

    kill is a crash (SIGKILL), pause a hang (SIGSTOP) and resume its end. restart stops a node that runs, which hands
    its leadership over first, and starts it.
    """
    from trioraft.cli.streams import tell  # noqa: PLC0415
    from trioraft.cli.up_control import ACTIONS, control  # noqa: PLC0415

    choice("ACTION", action, *ACTIONS)
    tell(control(action, node, None if base_port is None else number("--base-port", base_port, 1, 65535)))
    return DONE
