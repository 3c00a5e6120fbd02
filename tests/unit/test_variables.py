"""VARIABLES.md says what the code does. `python -m tests.unit.test_variables` writes its table anew."""

import re
from pathlib import Path

from trioraft.settings.variables import VARIABLES

DOCUMENT = Path(__file__).parents[2] / "trioraft" / "settings" / "VARIABLES.md"
TABLE = re.compile(r"(<!-- variables: begin -->\n)(.*)(<!-- variables: end -->)", re.DOTALL)


def variables_table() -> str:
    lines = ["| variable | meaning | allowed | default | read by |", "|---|---|---|---|---|"]
    for variable in VARIABLES:
        default = f"`{variable.default}`" if variable.default else "unset"
        cells = (variable.meaning, variable.allowed, default, ", ".join(variable.used_by))
        lines.append(f"| `{variable.name}` | " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def test_the_document_lists_every_variable_as_it_is() -> None:
    found = TABLE.search(DOCUMENT.read_text("utf-8"))
    assert found is not None
    assert found[2] == variables_table()


if __name__ == "__main__":
    text = DOCUMENT.read_text("utf-8")
    DOCUMENT.write_text(TABLE.sub(lambda found: found[1] + variables_table() + found[3], text), "utf-8")
