"""What programs hand on to the nodes that they start."""

import subprocess
import sys
from pathlib import Path

import trioraft
from trioraft.launching import own_environment


def test_a_started_process_finds_the_same_package_and_none_of_its_modules_by_a_shorter_name() -> None:
    program = "import dns, trioraft; print(trioraft.__file__, dns.__file__, sep='\\n')"
    command = [sys.executable, "-P", "-c", program]
    done = subprocess.run(command, env=own_environment(), cwd="/", capture_output=True, text=True, check=True)
    package, dns = map(Path, done.stdout.splitlines())
    assert package == Path(str(trioraft.__file__))
    assert package.parent not in dns.parents, "trioraft.dns would be taken for dnspython"
