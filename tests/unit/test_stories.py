"""The index of stories names what there is."""

import re
from pathlib import Path
from typing import Final

import pytest

FOLDER: Final = Path(__file__).parent
INDEX: Final = (FOLDER / "STORIES.md").read_text(encoding="utf-8")
SECTIONS: Final = "5.1 5.2 5.3 5.4 5.4.1 5.4.2 6 7 8 3.10 4.1 4.2.1 4.2.2 4.2.3 4.3 4.4 6.2 6.3 6.4 9.6"
ROWS: Final = [line.split(" | ") for line in INDEX.splitlines() if line.startswith("| ") and "---" not in line]


def there_are() -> set[str]:
    """List the tests of this folder."""
    lines = (line for path in FOLDER.glob("test_*.py") for line in path.read_text(encoding="utf-8").splitlines())
    return {found[1] for line in lines if (found := re.match(r"(?:async )?def (test_\w+)\(", line))}


def test_every_story_that_is_named_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", INDEX))
    assert len(named) > 100
    assert sorted(named - there_are()) == []


def test_every_paragraph_has_a_story() -> None:
    paragraphs = [row for row in ROWS if row[1].strip(" |") != "stories"]
    assert len(paragraphs) > 60
    assert [what for what, stories in paragraphs if "`test_" not in stories] == []


@pytest.mark.parametrize("section", SECTIONS.split())
def test_every_section_that_says_what_a_server_does_is_there(section: str) -> None:
    assert re.search(rf"^(### |\| ){re.escape(section)}[. :]", INDEX, re.MULTILINE)
