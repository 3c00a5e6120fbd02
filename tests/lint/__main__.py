"""Run every check, print the problems, and exit with 1 if there are any."""

import importlib
import pkgutil
import sys
from pathlib import Path

import tests.lint

ROOT = Path(__file__).parents[2]


def main() -> int:
    """Run every check of this package; return the exit status."""
    names = [module.name for module in pkgutil.iter_modules(tests.lint.__path__) if module.name != "__main__"]
    checks = [importlib.import_module(f"tests.lint.{name}") for name in names]
    found = [problem for check in checks if hasattr(check, "problems") for problem in check.problems(ROOT)]
    print("\n".join(found), file=sys.stderr, end="\n" if found else "")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
