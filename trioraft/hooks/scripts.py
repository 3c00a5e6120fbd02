"""The reason why a script cannot be run, where the system's words for it mislead."""

import os
from typing import Final

_LINE_MAX: Final = 256  # bytes of an interpreter line that Linux looks at
_WINDOWS: Final = (
    "its first line ends with CR LF, as on Windows, and the CR counts as part of it;"
    " make it LF: sed -i 's/\\r$//' {path}"
)


def has_windows_lines(path: str) -> bool:
    """Check whether a script's first line ends with CR LF.

    Parameters
    ----------
    path : str
        The script, or another program.

    Returns
    -------
    bool
        Whether it does; False also where the script cannot be read.
    """
    line = _first_line(path)
    return line.isascii() and line.endswith(b"\r")


def why_not_run(path: str, error: str) -> str:
    """Describe why a program cannot be run; when its interpreter is missing, the system says that the program is.

    Parameters
    ----------
    path : str
        The program.
    error : str
        The reason in the system's words.

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
    """Describe how a script ended, with the likely reason.

    Parameters
    ----------
    path : str
        The script, or another program.
    how : str
        Its exit status or signal, in words.

    Returns
    -------
    str
        The same, with a reason where one can be seen.
    """
    return f"{how}; {_WINDOWS.format(path=path)}" if has_windows_lines(path) else how


def _first_line(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.readline(_LINE_MAX).removesuffix(b"\n")
    except OSError:
        return b""
