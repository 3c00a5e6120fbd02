#!/usr/bin/env bash
# A package has a subpackage that is a symbolic link to a folder beside it. hatchling puts its files into the wheel,
# and leaves them out of the source distribution, without an error or a warning. A wheel that is made of that source
# distribution, as pip does where it finds no other, lacks the subpackage.
#
# Why: the walk over the project follows links, and leaves a folder out that it has met before, by its inode. The walk
# for a source distribution begins at the root, where the folder itself comes first in the alphabet, and is not
# included by itself.
#
# Seen with hatchling 1.33.0 on Python 3.11.7:
#
#   wheel: house/room/__init__.py
#   sdist: nothing of house/room
#   sdist, the link excluded and its target included by force: house/room/__init__.py
#
# Fails when that changes. Needs Python 3.10 or later (PYTHON) and PyPI.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check hatchling==1.33.0

mkdir -p "$folder/project/house" "$folder/project/a-room"
cd "$folder/project"
touch house/__init__.py a-room/__init__.py
ln -s ../a-room house/room
cat >pyproject.toml <<'TOML'
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "house"
version = "1"

[tool.hatch.build.targets.wheel]
packages = ["house"]

[tool.hatch.build.targets.sdist]
include = ["house"]
TOML

built() { # built KIND: what is made has of the subpackage
  rm -rf dist
  "$folder/venv/bin/python" -m hatchling build -t "$1" >/dev/null
  "$folder/venv/bin/python" - <<'PYTHON'
import pathlib, tarfile, zipfile

(made,) = pathlib.Path("dist").iterdir()
names = zipfile.ZipFile(made).namelist() if made.suffix == ".whl" else tarfile.open(made).getnames()
print(*[name.removeprefix("house-1/") for name in names if "room" in name] or ["nothing of house/room"])
PYTHON
}

wheel=$(built wheel)
sdist=$(built sdist)
cat >>pyproject.toml <<'TOML'
exclude = ["/house/room"]

[tool.hatch.build.targets.sdist.force-include]
"a-room" = "house/room"
TOML
forced=$(built sdist)
echo "wheel: $wheel"
echo "sdist: $sdist"
echo "sdist, the link excluded and its target included by force: $forced"
[ "$wheel" = house/room/__init__.py ]
[ "$sdist" = "nothing of house/room" ]
[ "$forced" = house/room/__init__.py ]
