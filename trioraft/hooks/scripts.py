"""Why a script cannot be run, where the system's words for it mislead."""

import os
from typing import Final

_LINE_MAX: Final = 256  # as many bytes of an interpreter line as Linux looks at
_WINDOWS: Final = (
    "its first line ends with CR LF, as on Windows, and the CR counts as part of it;"
    " make it LF: sed -i 's/\\r$//' {path}"
)


def has_windows_lines(path: str) -> bool:
    """Tell whether a script's first line ends with CR LF.

    Parameters
    ----------
    path : str
        The script, or another program.

    Returns
    -------
    bool
        False also where it cannot be read.
    """
    line = _first_line(path)
    return line.isascii() and line.endswith(b"\r")


def why_not_run(path: str, error: str) -> str:
    """Say why a program cannot be run: the system says that there is no such file when it is the interpreter.

    Parameters
    ----------
    path : str
        The program.
    error : str
        What the system says.

    Returns
    -------
    str
        The reason.
    """
    if has_windows_lines(path):
        return f"{error}: {_WINDOWS.format(path=path)}"
    line = _first_line(path)
    interpreter = os.fsdecode(line[2:].split()[0]) if line.startswith(b"#!") and line[2:].split() else ""
    if interpreter and not os.path.exists(interpreter):
        return f"{error}: its first line names the interpreter {interpreter!r}, which is not there"
    return error


def why_failed(path: str, how: str) -> str:
    """Say how a script ended, and what may have been the reason.

    Parameters
    ----------
    path : str
        The script, or another program.
    how : str
        Its exit status or signal, in words.

    Returns
    -------
    str
        The same, with a reason where it is to be seen.
    """
    return f"{how}; {_WINDOWS.format(path=path)}" if has_windows_lines(path) else how


def _first_line(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.readline(_LINE_MAX).removesuffix(b"\n")
    except OSError:
        return b""
