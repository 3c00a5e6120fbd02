"""The README says what the code does. `python -m tests.unit.test_readme` writes its table of variables anew."""

import re
from pathlib import Path

from trioraft.settings.variables import VARIABLES

README = Path(__file__).parents[2] / "README.md"
TABLE = re.compile(r"(<!-- variables: begin -->\n)(.*)(<!-- variables: end -->)", re.DOTALL)


def variables_table() -> str:
    lines = ["| variable | meaning | allowed | default | read by |", "|---|---|---|---|---|"]
    for variable in VARIABLES:
        default = f"`{variable.default}`" if variable.default else "unset"
        cells = (variable.meaning, variable.allowed, default, ", ".join(variable.used_by))
        lines.append(f"| `{variable.name}` | " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def test_the_readme_lists_every_variable_as_it_is() -> None:
    found = TABLE.search(README.read_text())
    assert found is not None
    assert found[2] == variables_table()


def test_every_file_that_the_readme_links_to_exists() -> None:
    for target in re.findall(r"\]\((?!http|#)([^)]+)\)", README.read_text()):
        assert (README.parent / target).exists(), target


if __name__ == "__main__":
    README.write_text(TABLE.sub(lambda found: found[1] + variables_table() + found[3], README.read_text()))
