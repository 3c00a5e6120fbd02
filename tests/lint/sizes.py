"""The sizes of files and functions, which must be short enough to be read in one go."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeAlias

MOST_LINES: Final = 600
MOST_FUNCTION_LINES: Final = 60
DIRECTORIES: Final = ("trioraft", "monitor", "hooks", "tests")
SUFFIXES: Final = frozenset({".py", ".css", ".js"})

_Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


def problems(root: Path) -> list[str]:
    """List the files and functions that are too long.

    Parameters
    ----------
    root : pathlib.Path
        The project.

    Returns
    -------
    list of str
        A line for each.
    """
    return [text for path in _files(root) for text in _longer(path, path.relative_to(root).as_posix())]


def _files(root: Path) -> Iterator[Path]:
    for directory in DIRECTORIES:
        for path in sorted((root / directory).rglob("*")):
            if path.suffix in SUFFIXES and path.is_file():
                yield path


def _longer(path: Path, name: str) -> Iterator[str]:
    text = path.read_text("utf-8")
    if (lines := len(text.splitlines())) > MOST_LINES:
        yield f"{name}: {lines} lines, of at most {MOST_LINES}; split it by its ideas"
    if path.suffix == ".py":
        for function, node in _functions(ast.parse(text, name)):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            if (lines := (node.end_lineno or first) - first + 1) > MOST_FUNCTION_LINES:
                yield f"{name}:{first}: {function} has {lines} lines, of at most {MOST_FUNCTION_LINES}; split it"


def _functions(node: ast.AST, within: str = "") -> Iterator[tuple[str, _Function]]:
    for child in ast.iter_child_nodes(node):
        name = within
        if isinstance(child, ast.ClassDef | _Function):
            name = f"{within}.{child.name}" if within else child.name
            if not isinstance(child, ast.ClassDef):
                yield name, child
        yield from _functions(child, name)
