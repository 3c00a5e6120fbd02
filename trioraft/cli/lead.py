"""``trioraft lead -- COMMAND…``: a node whose leader script is a command."""

import os
import shlex
import shutil
from typing import Final

import msgspec

from trioraft.errors import WRONG, CommandError
from trioraft.settings import NodeSettings

_SCRIPT: Final = "lead.sh"


def find_program(name: str) -> str:
    """Find a program as a shell does.

    Parameters
    ----------
    name : str
        Its name or path.

    Returns
    -------
    str
        Its absolute path.

    Raises
    ------
    CommandError
        If there is none.
    """
    found = shutil.which(name)
    if found is None:
        text = "give a path to an executable file, or a name found in PATH"
        raise CommandError(f"{name[:100]!r} is no program: {text}", WRONG)
    return os.path.abspath(found)


def leader_script(settings: NodeSettings, command: list[str]) -> NodeSettings:
    """Make a command the leader script of a node.

    Parameters
    ----------
    settings : NodeSettings
        The node's configuration.
    command : list of str
        The command and its arguments.

    Returns
    -------
    NodeSettings
        The configuration with a script, written into the data directory, that runs the command.

    Raises
    ------
    CommandError
        If there is no such program, ``SCRIPT_LEADER_PATH`` is set too, or the script cannot be written.
    """
    if settings.script_leader_path is not None:
        text = "set, and a command is given too; use one of them"
        raise CommandError(f"SCRIPT_LEADER_PATH={settings.script_leader_path}: {text}", WRONG)
    words = [find_program(command[0]), *command[1:]]
    path = settings.data_dir / _SCRIPT
    try:
        settings.data_dir.mkdir(0o700, parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_text(f"#!/bin/sh\nexec {shlex.join(words)}\n", "utf-8", "surrogateescape")
        temporary.chmod(0o700)
        temporary.replace(path)
    except OSError as error:
        text = f"{error.strerror}; the script that runs the command is kept there"
        raise CommandError(f"DATA_DIR={settings.data_dir}: {text}", WRONG) from None
    return msgspec.structs.replace(settings, script_leader_path=str(path))
