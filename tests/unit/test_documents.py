"""The documents lead to what exists, and the check of that finds what does not."""

import re
from pathlib import Path

import pytest

from tests.lint.documents import MOST_README_LINES, anchors, documents, problems

ROOT = Path(__file__).parents[2]


def test_all_documents_lead_to_what_exists() -> None:
    assert problems(ROOT) == []


def test_every_document_is_looked_at() -> None:
    names = {path.relative_to(ROOT).as_posix() for path in documents(ROOT)}
    assert {"README.md", ".github/SECURITY.md", "containers/OPERATING.md", "tests/unit/STORIES.md"} <= names
    assert not [name for name in names if name.startswith(".venv")]


def test_error_texts_name_headings_that_are_there() -> None:
    texts = (path.read_text("utf-8") for path in sorted((ROOT / "trioraft").rglob("*.py")))
    named = [found for text in texts for found in re.findall(r'(\S+\.md) says under "([^"]+)"', text)]
    assert len(named) == 3
    for document, heading in named:
        assert re.search(rf"^#+ {re.escape(heading)}$", (ROOT / document).read_text("utf-8"), re.MULTILINE), heading


def test_documents_that_manifests_and_scripts_name_are_there() -> None:
    places = [ROOT / "compose.yaml", *(ROOT / "containers").iterdir(), *(ROOT / "hooks").iterdir()]
    texts = [path.read_text("utf-8") for path in places if path.is_file() and path.suffix != ".md"]
    named = {name for text in texts for name in re.findall(r"\b(?:\w+/)*[A-Z]\w+\.md\b", text)}
    assert named >= {"containers/OPERATING.md"}
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make a small project."""
    module = tmp_path / "trioraft" / "room" / "module.py"
    module.parent.mkdir(parents=True)
    module.write_text("LIMIT: int = 3\n\nclass Thing:\n    def act(self) -> None: ...\n\ndef rule() -> None: ...\n")
    (module.parent / "ROOM.md").write_text("# A room\n\n## What `it` holds, now\n\n## Twice\n\n## Twice\n")
    return tmp_path


RIGHT = {
    "a link to a file": "[it](trioraft/room/module.py)",
    "a link to a folder": "[it](trioraft/room/)",
    "a link to a heading": "[it](trioraft/room/ROOM.md#what-it-holds-now)",
    "a link to the second heading of a name": "[it](trioraft/room/ROOM.md#twice-1)",
    "a link elsewhere": "[it](https://example.org/none.md#none)",
    "a link in a code span": "`[it](none.md)`",
    "a link in a block of code": "```\n[it](none.md)\n```",
    "a path from the root": "`trioraft/room/module.py`",
    "a path from trioraft": "`room/module.py` in `room/`",
    "several paths": "`room/*.py`",
    "a function": "`room/module.py:rule`",
    "a method": "`room/module.py:Thing.act`",
    "a constant": "`room/module.py:LIMIT`",
    "a module that is run": "`python -m trioraft.room.module --all`",
    "a package of others that is run": "`python -m pytest trioraft/room`",
    "a placeholder": "`trioraft/locks/NAME/LEASE` and `DATA_DIR/`",
    "what is no path": "`1.py of 3` and `and/or`",
}

WRONG = {
    "a link to no file": ("[it](none.md)", "the link none.md leads to no file"),
    "a link out of the project": ("[it](../..)", "the link ../.. leads to no file"),
    "a link to no heading": (
        "[it](trioraft/room/ROOM.md#twice-2)",
        "trioraft/room/ROOM.md#twice-2 leads to no heading",
    ),
    "a link to a heading of what has none": ("[it](trioraft/room/module.py#rule)", "leads to no heading"),
    "a link to no heading here": ("[it](#none)", "the link #none leads to no heading"),
    "a path that is not there": ("`room/none.py`", "there is no room/none.py"),
    "a folder that is not there": ("`none/`", "there is no none/"),
    "paths that are not there": ("`room/*.css`", "there is no room/*.css"),
    "a path within a command": ("`pytest trioraft/none.py -s`", "there is no trioraft/none.py"),
    "a path in a block of code": ("```sh\npytest trioraft/none\n```", "there is no trioraft/none"),
    "a function that is not there": ("`room/module.py:act`", "room/module.py defines no act"),
    "a method that is not there": ("`room/module.py:Thing.rule`", "room/module.py defines no Thing.rule"),
    "a module that is not there": ("`python -m trioraft.none`", "there is no module trioraft.none"),
    "a heading within a block of code": ("```\n# Here\n```\n[it](#here)", "the link #here leads to no heading"),
}


@pytest.mark.parametrize("text", RIGHT.values(), ids=RIGHT)
def test_what_is_there_is_no_problem(root: Path, text: str) -> None:
    (root / "README.md").write_text(f"# Title\n\n{text}\n")
    assert problems(root) == []


@pytest.mark.parametrize(("text", "problem"), WRONG.values(), ids=WRONG)
def test_what_is_not_there_is_named_with_its_line(root: Path, text: str, problem: str) -> None:
    (root / "README.md").write_text(f"# Title\n\n{text}\n")
    (found,) = problems(root)
    assert found.startswith("README.md:")
    assert found.endswith(problem)
    line = int(found.split(":")[1])
    assert (root / "README.md").read_text().splitlines()[line - 1] in text.splitlines()


def test_paths_are_found_from_the_folder_of_their_document(root: Path) -> None:
    (root / "trioraft" / "room" / "MORE.md").write_text("[it](ROOM.md#a-room), `module.py:rule`, `module.py:none`\n")
    assert problems(root) == ["trioraft/room/MORE.md:1: module.py defines no none"]


def test_a_readme_is_read_in_one_sitting(root: Path) -> None:
    (root / "README.md").write_text("a line\n" * MOST_README_LINES)
    assert problems(root) == []
    (root / "README.md").write_text("a line\n" * (MOST_README_LINES + 1))
    (found,) = problems(root)
    assert found.startswith("README.md:221: it has 221 lines, of at most 220")


def test_anchors_are_those_of_github(tmp_path: Path) -> None:
    path = tmp_path / "anchors.md"
    path.write_text("# `recover`: What's *new*?\n## A [link](there) – and more\n### 5.4.1 Under_score\n")
    assert anchors(path) == {"recover-whats-new", "a-link--and-more", "541-under_score"}
