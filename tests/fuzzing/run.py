"""Runs one target under atheris, which ends the process: ``python -m tests.fuzzing.run TARGET [OPTION…]``."""

import sys

import atheris

with atheris.instrument_imports(include=["trioraft", "tests.fuzzing.targets"]):
    from tests.fuzzing import targets


def main() -> None:
    """Fuzz until libFuzzer's limits are reached or a promise is broken."""
    target = getattr(targets, sys.argv[1])
    atheris.Setup([sys.argv[0], *sys.argv[2:]], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
