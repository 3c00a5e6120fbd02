"""``trioraft lead -- COMMAND…``: a node whose leader script is a command."""

import os
import shutil
from typing import Literal

import msgspec

from trioraft.cli.exits import WRONG, CommandError
from trioraft.settings.restart import ALLOWED, ON_FAILURE, RestartPolicy, restart_policy
from trioraft.settings.settings import NodeSettings


def find_program(name: str) -> str:
    """Find a program as a shell does.

    Parameters
    ----------
    name : str
        Its name or path.

    Returns
    -------
    str
        The absolute path of the program.

    Raises
    ------
    CommandError
        If there is no such program.
    """
    found = shutil.which(name)
    if found is None:
        text = "give a path to an executable file, or a name found in PATH"
        raise CommandError(f"{name[:100]!r} is no program: {text}", WRONG)
    return os.path.abspath(found)


def _restart(text: str | None) -> RestartPolicy:
    """Read ``--restart``, else ``SCRIPT_LEADER_RESTART``; a command that fails is run again by default."""
    if text is None:
        text = os.environ.get("SCRIPT_LEADER_RESTART") or str(ON_FAILURE)
    try:
        return restart_policy(text)
    except ValueError as error:
        raise CommandError(f"--restart={text[:100]!r}: {error}; allowed: {ALLOWED}", WRONG) from None


def leader_script(
    settings: NodeSettings, command: list[str], restart: str | None, output: Literal["log", "streams"]
) -> NodeSettings:
    """Make a command the leader script of a node.

    Parameters
    ----------
    settings : NodeSettings
        The node's configuration.
    command : list of str
        The command and its arguments.
    restart : str or None
        Whether it is run again when it has ended; None for ``SCRIPT_LEADER_RESTART``, else on failure.
    output : {'log', 'streams'}
        Whether its output goes to the log, or to the standard streams as it is.

    Returns
    -------
    NodeSettings
        The configuration with the command.

    Raises
    ------
    CommandError
        If there is no such program or policy, or ``SCRIPT_LEADER_PATH`` is set too.
    """
    if settings.script_leader_path is not None:
        text = "set, and a command is given too; use one of them"
        raise CommandError(f"SCRIPT_LEADER_PATH={settings.script_leader_path}: {text}", WRONG)
    program, *arguments = command
    return msgspec.structs.replace(
        settings,
        script_leader_path=find_program(program),
        script_leader_arguments=tuple(arguments),
        script_leader_restart=_restart(restart),
        script_leader_output=output,
    )
