"""The version of this release; ``pyproject.toml`` has the same one, for the package's metadata."""

from typing import Final

__version__: Final = "0.1.0"
