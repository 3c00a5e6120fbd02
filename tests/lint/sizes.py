"""The sizes of files and functions, which must be short enough to be read in one go."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeAlias

MOST_LINES: Final = 600
MOST_FUNCTION_LINES: Final = 60
DIRECTORIES: Final = ("trioraft", "monitor", "hooks", "tests")
SUFFIXES: Final = frozenset({".py", ".css", ".js"})

# The files and functions that are longer today, by the names of their problems. This list only gets shorter: the check
# fails when one of them has become short enough.
STILL_LONGER: Final[frozenset[str]] = frozenset()

_Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


def problems(root: Path, still_longer: frozenset[str] = STILL_LONGER) -> list[str]:
    """List the files and functions that are too long, and the exceptions that no longer need to be any.

    Parameters
    ----------
    root : pathlib.Path
        The project.
    still_longer : frozenset of str
        The exceptions: paths of files, and ``path::Class.function``.

    Returns
    -------
    list of str
        A line for each.
    """
    longer = {name: text for path in _files(root) for name, text in _longer(path, path.relative_to(root).as_posix())}
    found = [text for name, text in sorted(longer.items()) if name not in still_longer]
    return found + [
        f"{name}: short enough; remove it from STILL_LONGER in tests/lint/sizes.py"
        for name in sorted(still_longer - longer.keys())
    ]


def _files(root: Path) -> Iterator[Path]:
    for directory in DIRECTORIES:
        for path in sorted((root / directory).rglob("*")):
            if path.suffix in SUFFIXES and path.is_file():
                yield path


def _longer(path: Path, name: str) -> Iterator[tuple[str, str]]:
    """Find what is too long in a file: its name and the problem."""
    text = path.read_text("utf-8")
    if (lines := len(text.splitlines())) > MOST_LINES:
        yield name, f"{name}: {lines} lines, of at most {MOST_LINES}; split it by its ideas"
    if path.suffix == ".py":
        for function, node in _functions(ast.parse(text, name)):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            if (lines := (node.end_lineno or first) - first + 1) > MOST_FUNCTION_LINES:
                yield (
                    f"{name}::{function}",
                    f"{name}:{first}: {function} has {lines} lines, of at most {MOST_FUNCTION_LINES}; split it",
                )


def _functions(node: ast.AST, within: str = "") -> Iterator[tuple[str, _Function]]:
    for child in ast.iter_child_nodes(node):
        name = within
        if isinstance(child, ast.ClassDef | _Function):
            name = f"{within}.{child.name}" if within else child.name
            if not isinstance(child, ast.ClassDef):
                yield name, child
        yield from _functions(child, name)
