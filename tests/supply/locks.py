"""The pinned parts of the image: which there are, and how they are pinned."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

from packaging.requirements import Requirement

ROOT: Final = Path(__file__).parents[2]
PROJECT: Final = ROOT / "pyproject.toml"
RUN: Final = ROOT / "containers" / "requirements.txt"
BUILD: Final = ROOT / "containers" / "requirements-build.txt"
COMMAND: Final = "tests/run full supply lock"
_PIN: Final = re.compile(r"([a-z0-9-]+)==(\S+)(?: ; (.+?))?((?: \\\n    --hash=sha256:[0-9a-f]{64})*)")


def project() -> dict[str, Any]:
    """Read the project's metadata."""
    return tomllib.loads(PROJECT.read_text("utf-8"))


def of_extras(*names: str) -> list[Requirement]:
    """List what the package needs with some of its extras, those of an extra that names others included."""
    about = project()["project"]
    needed = [Requirement(text) for name in names for text in about["optional-dependencies"][name]]
    further = [extra for each in needed if each.name == about["name"] for extra in sorted(each.extras)]
    here = [each for each in needed if each.name != about["name"]]
    return here + (of_extras(*further) if further else [])


def wanted() -> dict[Path, list[Requirement]]:
    """Tell what each file has to pin, and with it all that it needs itself."""
    about = project()
    needed = [Requirement(text) for text in about["project"]["dependencies"]] + of_extras("all")
    return {
        RUN: list({str(each): each for each in needed}.values()),
        BUILD: [Requirement(text) for text in about["build-system"]["requires"]],
    }


def pins(file: Path) -> list[tuple[Requirement, int]]:
    """Read a file: what is pinned, and how many hashes each has."""
    text = "".join(line for line in file.read_text("utf-8").splitlines(keepends=True) if not line.startswith("#"))
    found = [_PIN.fullmatch(item) for item in re.split(r"\n(?! )", text.rstrip("\n"))]
    assert None not in found, f"{file}: has something else than pins"
    return [
        (Requirement(f"{pin[1]}=={pin[2]}" + (f" ; {pin[3]}" if pin[3] else "")), pin[4].count("--hash"))
        for pin in found
        if pin is not None
    ]


def lock(directory: Path) -> dict[Path, str]:
    """Pin the newest versions, with the hashes of their files for all platforms, for all Pythons that are allowed.

    Parameters
    ----------
    directory : pathlib.Path
        Where files may be made.

    Returns
    -------
    dict of pathlib.Path to str
        The text of each file.
    """
    lowest = project()["project"]["requires-python"].removeprefix(">=")
    made = {}
    for file, requirements in wanted().items():
        given, pinned = directory / "given.in", directory / "pinned.txt"
        given.write_text("\n".join(map(str, requirements)), "utf-8")
        pinned.unlink(missing_ok=True)  # what is in it would be kept
        options = ("--quiet", "--universal", "--generate-hashes", "--no-annotate", "--python-version", lowest)
        uv = Path(sys.executable).with_name("uv")
        told = ("--custom-compile-command", COMMAND, "--output-file", pinned)
        subprocess.run([uv, "pip", "compile", *options, *told, given], check=True)
        made[file] = pinned.read_text("utf-8")
    return made
