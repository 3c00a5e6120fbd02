"""Links, files, functions and modules that the documents name exist, and the README can be read in one sitting.

The documents are the files of Markdown that git knows. These are the rules:

* a relative link leads to a file or folder, and its ``#fragment`` to a heading there, by GitHub's rule;
* a path in a code span exists: from the root, from ``trioraft/``, or from the document's own folder. A word is a path
  when it ends with a slash or with the suffix of a source file, or begins with a folder of the root;
* ``path/module.py:name`` and ``path/module.py:Class.name`` name something that the module defines;
* the module of ``python -m module`` exists where it is one of this project's.

A word in capitals stands for something else (``trioraft/locks/NAME``, ``DATA_DIR/0``), and is not looked for.
"""

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

MOST_README_LINES: Final = 220
SUFFIXES: Final = "py|md|sh|js|css|html|toml|yaml|service|tla|cfg|txt"
FOLDERS: Final = ("trioraft", "monitor", "tests", "hooks", "containers", "findings", ".github", ".ci")

_FENCE: Final = re.compile(r"^ *(```|~~~)")
_SPAN: Final = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")
_LINK: Final = re.compile(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
_HEADING: Final = re.compile(r"^ {0,3}#{1,6}\s+(.*?)\s*#*\s*$")
_NAMED: Final = re.compile(rf"((?:[\w.*-]+/)*(?:[\w.*-]+\.(?:{SUFFIXES})|[\w.*-]+/))(?::([A-Za-z_][\w.]*))?")
_ROOTED: Final = re.compile(rf"(?<![\w/.$~:-])((?:{'|'.join(map(re.escape, FOLDERS))})/[\w./*-]*[\w*/-])")
_MODULE: Final = re.compile(r"python3? -m ((?:trioraft|monitor|tests)(?:\.\w+)*)")
_PLACEHOLDER: Final = re.compile(r"(^|/)[A-Z][A-Z_]*(/|$)")


def problems(root: Path) -> list[str]:
    """List the links and names in the documents that lead nowhere, and a README that is too long.

    Parameters
    ----------
    root : pathlib.Path
        The project.

    Returns
    -------
    list of str
        A line for each, with the file and the line.
    """
    found = [
        f"{path.relative_to(root)}:{number}: {problem}"
        for path in documents(root)
        for number, problem in _wrong_lines(root, path)
    ]
    readme = root / "README.md"
    if readme.exists() and (lines := len(readme.read_text("utf-8").splitlines())) > MOST_README_LINES:
        found.append(
            f"README.md:{lines}: it has {lines} lines, of at most {MOST_README_LINES}; move some of it elsewhere"
        )
    return found


def documents(root: Path) -> list[Path]:
    """List the documents: the files of Markdown that git knows, and those that it does not ignore.

    Parameters
    ----------
    root : pathlib.Path
        The project; where it is no repository, all files of Markdown in it are documents.

    Returns
    -------
    list of pathlib.Path
        Their paths, sorted.
    """
    if not (root / ".git").exists():
        return sorted(root.rglob("*.md"))
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.md"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    return sorted(path for name in listed.split("\0") if name and (path := root / name).exists())


def _wrong_lines(root: Path, path: Path) -> Iterator[tuple[int, str]]:
    fenced = False
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if _FENCE.match(line):
            fenced = not fenced
            continue
        spans = [line] if fenced else [found[2].strip() for found in _SPAN.finditer(line)]
        wrong = [] if fenced else list(_wrong_links(root, path, _SPAN.sub("code", line)))
        for span in spans:
            wrong.extend(_wrong_names(root, path, span, whole=not fenced))
        for problem in wrong:
            yield number, problem


def _wrong_links(root: Path, path: Path, line: str) -> Iterator[str]:
    for target in _LINK.findall(line):
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        name, _, fragment = target.partition("#")
        there = (path.parent / name).resolve() if name else path
        if not there.exists() or not there.is_relative_to(root.resolve()):
            yield f"the link {target} leads to no file"
        elif fragment and fragment not in anchors(there):
            yield f"the link {target} leads to no heading"


def _wrong_names(root: Path, path: Path, span: str, *, whole: bool) -> Iterator[str]:
    for module in _MODULE.findall(span):
        if not _module_exists(root, module):
            yield f"there is no module {module}"
    named = _NAMED.fullmatch(span) if whole else None
    if named is not None and not _PLACEHOLDER.search(named[1]):
        places = _places(root, path, named[1])
        if not places:
            yield f"there is no {named[1]}"
        elif named[2] and not any(named[2] in definitions(place) for place in places):
            yield f"{named[1]} defines no {named[2]}"
        return
    for name in _ROOTED.findall(span):
        if not _PLACEHOLDER.search(name) and not _exists(root, name):
            yield f"there is no {name}"


def _places(root: Path, path: Path, name: str) -> list[Path]:
    """Find what a path may mean: from the root, from ``trioraft/`` and from the document's folder."""
    bases = {root, root / "trioraft", path.parent}
    return [
        place
        for base in bases
        for place in (base.glob(name.rstrip("/")) if "*" in name else [base / name])
        if place.exists()
    ]


def _exists(root: Path, name: str) -> bool:
    return any(root.glob(name)) if "*" in name else (root / name).exists()


def _module_exists(root: Path, module: str) -> bool:
    place = root.joinpath(*module.split("."))
    return place.with_suffix(".py").exists() or (place / "__init__.py").exists()


@cache
def anchors(path: Path) -> frozenset[str]:
    """List the fragments that lead to headings of a document, by GitHub's rule.

    Parameters
    ----------
    path : pathlib.Path
        The document.

    Returns
    -------
    frozenset of str
        Each heading in lower case, without its punctuation and with hyphens for spaces; the second of a name ends
        with ``-1``. Empty for a file that is no Markdown.
    """
    if path.suffix != ".md":
        return frozenset()
    seen: dict[str, int] = {}
    made: set[str] = set()
    fenced = False
    for line in path.read_text("utf-8").splitlines():
        fenced ^= bool(_FENCE.match(line))
        if not fenced and (heading := _HEADING.match(line)):
            text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading[1])
            slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            count = seen[slug] = seen.get(slug, -1) + 1
            made.add(f"{slug}-{count}" if count else slug)
    return frozenset(made)


@cache
def definitions(path: Path) -> frozenset[str]:
    """List what a module defines: functions, classes, what those define, and names that are assigned.

    Parameters
    ----------
    path : pathlib.Path
        The module.

    Returns
    -------
    frozenset of str
        The names; those within a class follow its name and a dot. Empty for a file that is no Python.
    """
    if path.suffix != ".py":
        return frozenset()
    return frozenset(_defined(ast.parse(path.read_text("utf-8")), ""))


def _defined(node: ast.AST, within: str) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield within + child.name
            if isinstance(child, ast.ClassDef):
                yield from _defined(child, f"{within}{child.name}.")
        elif isinstance(child, ast.Assign):
            yield from (within + target.id for target in child.targets if isinstance(target, ast.Name))
        elif isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name):
            yield within + child.target.id
