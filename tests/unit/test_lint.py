"""The checks of `tests/run lint` find what is wrong: each is shown something that is."""

import shutil
from pathlib import Path
from typing import Final

import pytest

from tests.lint import imports, sizes

ROOT: Final = Path(__file__).parents[2]


def project(root: Path, files: dict[str, str]) -> Path:
    """Write the files of a project that has nothing else."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, "utf-8")
    return root


def function(lines: int, decorators: str = "") -> str:
    """Make the text of a function of that many lines, without its decorators."""
    return f"{decorators}async def long():\n" + "    pass\n" * (lines - 1)


@pytest.mark.parametrize(
    "name", ["trioraft/a.py", "tests/unit/a.py", "hooks/a.py", "monitor/static/a.css", "monitor/a.js"]
)
def test_a_file_of_more_than_600_lines_is_found(tmp_path: Path, name: str) -> None:
    assert sizes.problems(project(tmp_path, {name: "\n" * 600})) == []
    [problem] = sizes.problems(project(tmp_path, {name: "\n" * 601}))
    assert problem.startswith(f"{name}: 601 lines")


def test_a_function_of_more_than_60_lines_is_found_wherever_it_stands(tmp_path: Path) -> None:
    assert sizes.problems(project(tmp_path, {"trioraft/a.py": function(60)})) == []
    [problem] = sizes.problems(project(tmp_path, {"trioraft/a.py": function(60, "@cache\n")}))
    assert problem.startswith("trioraft/a.py:1: long has 61 lines")

    within = "class Outer:\n    if True:\n" + "".join(f"        {line}\n" for line in function(61).splitlines())
    [problem] = sizes.problems(project(tmp_path, {"trioraft/a.py": within}))
    assert problem.startswith("trioraft/a.py:3: Outer.long has 61 lines")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Copy what the import contracts are about."""
    ignored = shutil.ignore_patterns("__pycache__", "static")
    shutil.copytree(ROOT / "trioraft", tmp_path / "trioraft", ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("trioraft.messages.ids", "trioraft.node.node"),  # upwards
        ("trioraft.client.nodes", "trioraft.node.node"),  # sideways
        ("trioraft.datagrams.wire", "trioraft.datagrams.endpoint"),  # a circle within a package
        ("trioraft.sync", "trioraft.monitor.app"),
        ("trioraft.monitor.app", "trioraft.node.node"),
    ],
)
def test_an_import_that_breaks_a_contract_is_found(copy: Path, importer: str, imported: str) -> None:
    assert imports.problems(copy) == []
    with Path(copy, *importer.split(".")).with_suffix(".py").open("a", encoding="utf-8") as file:
        file.write(f"\nif TYPE_CHECKING:\n    import {imported}\n")
    [problem] = imports.problems(copy)
    assert all(module.rpartition(".")[2] in problem for module in (importer, imported))


def test_a_module_without_a_layer_is_found(copy: Path) -> None:
    (copy / "trioraft" / "newcomer.py").touch()
    [problem] = imports.problems(copy)
    assert "newcomer" in problem
