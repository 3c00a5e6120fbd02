"""``tests/run full supply``: what the image is made of, listed and looked up; ``… lock`` pins it anew.

The list of parts (CycloneDX) is written to ``tests/out/sbom.cdx.json``. The tools are fetched by uv for the while.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.supply.locks import BUILD, ROOT, RUN, lock

OUT: Final = ROOT / "tests" / "out" / "sbom.cdx.json"


def _tool(package: str, *command: str | Path) -> subprocess.CompletedProcess[str]:
    uv = Path(sys.executable).with_name("uv")
    return subprocess.run(
        [uv, "tool", "run", "--from", package, *command], capture_output=True, text=True, check=False, cwd=ROOT
    )


def list_parts() -> bool:
    """Write the list of parts."""
    OUT.parent.mkdir(exist_ok=True)
    options = ("--pyproject", "pyproject.toml", "--output-reproducible", "--output-file", OUT)
    ended = _tool("cyclonedx-bom>=7,<8", "cyclonedx-py", "requirements", RUN, *options)
    print(ended.stderr if ended.returncode else f"list of parts (CycloneDX): {OUT.relative_to(ROOT)}")
    return ended.returncode == 0


def audit() -> bool:
    """Look the parts up; where nobody can be asked, say so: that is no failure of what was pinned."""
    good = True
    for file in (RUN, BUILD):
        name = file.relative_to(ROOT)
        for service in ("pypi", "osv"):
            options = ("--disable-pip", "--require-hashes", "--format", "json", "--progress-spinner", "off")
            ended = _tool(
                "pip-audit>=2.9,<3", "pip-audit", "--requirement", file, "--vulnerability-service", service, *options
            )
            # Its exit status is 0 also when it has looked nothing up, as through an index without these answers.
            parts = json.loads(ended.stdout)["dependencies"] if ended.stdout.startswith("{") else []
            found = [part for part in parts if "vulns" in part]
            if found:
                break
        else:
            print(f"{name}: NOT looked up: no database of vulnerabilities can be reached from here")
            continue
        known = [f"{part['name']} {part['version']}: {each['id']}" for part in found for each in part["vulns"]]
        skipped = [f"{part['name']}: {part['skip_reason']}" for part in parts if part not in found]
        print(f"{name}: {len(found)} of {len(parts)} looked up ({service}), {len(known)} known vulnerabilities")
        for line in known + skipped:
            print(f"  {line}")
        good = good and not known and not skipped
    return good


def main() -> int:
    """Do what the arguments say."""
    if sys.argv[1:] == ["lock"]:
        with tempfile.TemporaryDirectory() as directory:
            for file, text in lock(Path(directory)).items():
                file.write_text(text, "utf-8")
        return 0
    listed = list_parts()
    return 0 if audit() and listed else 1


if __name__ == "__main__":
    os.environ.setdefault("UV_NO_PROGRESS", "1")
    sys.exit(main())
