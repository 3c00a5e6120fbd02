#!/usr/bin/env bash
# pytest-trio takes a clock only from the arguments of a test. A test that is given the fixture `autojump_clock` by
# @pytest.mark.usefixtures, as other fixtures of pytest may be given, runs in real time, without an error or a
# warning. The clock exists, and nobody uses it: what should take no time takes its whole time, and a deadline that
# was meant for a mocked clock becomes one for a real and busy machine.
#
# Why: pytest-trio looks for an instance of trio.abc.Clock among the keyword arguments of the test function.
#
# Seen with pytest-trio 0.8.0, pytest 9.0.1, trio 0.32.0 on Python 3.11.7:
#
#   by argument: 2 seconds of trio took less than a real second
#   by mark: 2 seconds of trio took 2 real seconds
#
# Fails when that changes. Needs Python 3.10 or later (PYTHON) and PyPI.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pytest-trio==0.8.0 pytest==9.0.1 trio==0.32.0

cat >"$folder/test_clock.py" <<'PYTHON'
import time

import pytest
import trio


async def real_seconds_of_two():
    started = time.monotonic()
    await trio.sleep(2)
    return time.monotonic() - started


@pytest.mark.trio
async def test_by_argument(autojump_clock):
    assert await real_seconds_of_two() < 1
    print("by argument: 2 seconds of trio took less than a real second")


@pytest.mark.trio
@pytest.mark.usefixtures("autojump_clock")
async def test_by_mark():
    assert await real_seconds_of_two() >= 2
    print("by mark: 2 seconds of trio took 2 real seconds")
PYTHON

cd "$folder"
output=$(venv/bin/python -m pytest -q -s -p no:cacheprovider test_clock.py) || { echo "$output"; exit 1; }
grep "by argument: 2 seconds of trio took less than a real second" <<<"$output"
grep "by mark: 2 seconds of trio took 2 real seconds" <<<"$output"
