"""The commands that change who is a member: ``trioraft members ...`` and ``trioraft step-down``."""

from typing import TYPE_CHECKING, Annotated

import typer

from trioraft.cli.running import Peers, choice, client_settings, run_client

if TYPE_CHECKING:
    from trioraft.members.changes import Action

members = typer.Typer(
    name="members", help="Show or change the members of a cluster.", rich_markup_mode=None, no_args_is_help=False
)

_Who = Annotated[str, typer.Argument(metavar="ID|NAME", help="The node.")]
_Format = Annotated[str, typer.Option("--output", "-o", "--format", metavar="table|json", help="How to print.")]


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module.

    Parameters
    ----------
    app : typer.Typer
        The application that gets them.
    """
    app.add_typer(members)
    app.command("step-down")(_step_down)


def _step_down(*, peers: Peers = None) -> int:
    """Have the leader lead no more.

    It gives its leadership away, or ends it when no other node can lead, and is the last choice for a minute.
    """
    from trioraft.cli import membership as member_commands  # noqa: PLC0415

    settings = client_settings(peers)
    return run_client(lambda: member_commands.step_down(settings))


@members.callback(invoke_without_command=True)
def _default(context: typer.Context, *, peers: Peers = None, form: _Format = "table") -> int | None:
    """Show or change the members of a cluster; without a command it shows them."""
    return _list(peers=peers, form=form) if context.invoked_subcommand is None else None


@members.command("list")
def _list(*, peers: Peers = None, form: _Format = "table") -> int:
    """Show the members."""
    from trioraft.cli import membership as member_commands  # noqa: PLC0415

    choice("--output", form, "table", "json")
    settings = client_settings(peers)
    return run_client(lambda: member_commands.list_members(settings, form))


@members.command("add")
def _add(who: _Who, *, peers: Peers = None) -> int:
    """Make a node that waits for the cluster a learner: it gets the log, and does not vote."""
    return _change("add", who, peers)


@members.command("promote")
def _promote(who: _Who, *, peers: Peers = None) -> int:
    """Make a learner that has caught up a voter."""
    return _change("promote", who, peers)


@members.command("demote")
def _demote(who: _Who, *, peers: Peers = None) -> int:
    """Make a voter a learner."""
    return _change("demote", who, peers)


@members.command("remove")
def _remove(who: _Who, *, peers: Peers = None) -> int:
    """Remove a member for ever; when it is started again, it joins as another node."""
    return _change("remove", who, peers)


def _change(action: "Action", who: str, peers: str | None) -> int:
    from trioraft.cli import membership as member_commands  # noqa: PLC0415

    settings = client_settings(peers)
    return run_client(lambda: member_commands.change_member(settings, action, who))
