"""Coverage-guided fuzzing of what strangers can reach: ``python -m tests.fuzzing --help``."""

from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent
TARGETS: Final = ("decoder", "window", "endpoint", "documents")


def corpus(target: str) -> Path:
    """Return the directory of the inputs that a target begins with."""
    return FOLDER / "corpus" / target
