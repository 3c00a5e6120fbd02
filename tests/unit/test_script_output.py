"""The output of scripts with real processes: none is lost while it is taken, and no script waits for a log reader."""

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from tests.unit.processes import write_script
from tests.unit.test_supervisor import Driver, launch
from trioraft.clock import boottime
from trioraft.hooks.launcher import Dropped, Ended, Output, Ready, Start, SupervisorLauncher, Taken

Write = Callable[[str], str]

# Python writes a line at a time at a pace; awk and seq would write blocks.
PACED = """
import time
began = time.monotonic()
for number in range({lines}):
    print(number, flush=True)
    ahead = number / {rate} - (time.monotonic() - began)
    if ahead > 0.005:
        time.sleep(ahead)
open({report!r}, "w").write(str(time.monotonic() - began))
"""


class Reading(Driver):
    """A node that takes what it reads, until it no longer does."""

    takes = True

    async def run(self, within: float) -> None:
        """Read until the script has ended."""
        with trio.fail_after(within):
            while not self.has(Ended):
                received = await self.link.receive()
                assert received, "the supervisor was lost"
                self.events += [(boottime(), event) for event in received]
                parcels = sum(isinstance(event, Output) for event in received)
                if parcels and self.takes:
                    self.link.send(Taken(parcels=parcels))

    def dropped(self) -> int:
        return sum(event.lines for _, event in self.events if isinstance(event, Dropped))


@pytest.fixture
def script(tmp_path: Path) -> Write:
    return functools.partial(write_script, tmp_path)


async def reading(directory: Path) -> Reading:
    driver = Reading((await launch(directory)).link)
    await driver.until(Ready)
    return driver


def paced(script: Write, report: Path, lines: int, rate: int) -> str:
    body = PACED.format(lines=lines, rate=rate, report=str(report))
    return script(f"exec {sys.executable} - <<'EOF'\n{body}\nEOF")


async def test_none_of_5000_lines_a_second_is_lost(tmp_path: Path, script: Write) -> None:
    driver = await reading(tmp_path)
    await driver.start(paced(script, tmp_path / "took", 10_000, 5000))
    await driver.run(within=30)
    assert driver.lines() == [str(number) for number in range(10_000)]
    assert not driver.has(Dropped)
    await driver.link.close()


async def test_a_block_of_lines_at_once_is_passed_on_whole(tmp_path: Path, script: Write) -> None:
    driver = await reading(tmp_path)
    await driver.start(script("seq 30000"))
    await driver.run(within=30)
    assert driver.lines() == [str(number) for number in range(1, 30_001)]
    await driver.link.close()


async def test_no_script_waits_for_a_node_that_takes_nothing_and_every_line_is_counted(
    tmp_path: Path, script: Write
) -> None:
    """Where the log cannot be written, lines are dropped within a tenth of a second, and told at once."""
    driver = await reading(tmp_path)
    driver.takes = False
    report = tmp_path / "took"
    await driver.start(paced(script, report, 10_000, 5000))
    began = boottime()
    await driver.run(within=30)
    assert driver.lines() == [str(number) for number in range(len(driver.lines()))]
    assert len(driver.lines()) + driver.dropped() == 10_000
    assert driver.dropped() > 5000
    first_told = driver.at(Dropped) - began
    print(f"told after {first_told:.2f} s; the script took {report.read_text()} s for 2 s of lines")
    assert float(report.read_text()) < 2 + 1
    await driver.link.close()


async def test_output_goes_on_where_the_node_takes_it_again(tmp_path: Path, script: Write) -> None:
    driver = await reading(tmp_path)
    driver.takes = False
    await driver.start(paced(script, tmp_path / "took", 10_000, 5000))

    async def take_again() -> None:
        await trio.sleep(0.8)
        driver.takes = True
        driver.link.send(Taken(parcels=sum(isinstance(event, Output) for _, event in driver.events)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take_again)
        await driver.run(within=30)
    assert driver.lines()[-1] == "9999"
    assert len(driver.lines()) + driver.dropped() == 10_000
    assert len(driver.lines()) > 3000
    await driver.link.close()


async def test_long_lines_lose_nothing(tmp_path: Path, script: Write) -> None:
    driver = await reading(tmp_path)
    await driver.start(script("printf '%010000d\\nend\\n' 7"))
    await driver.run(within=10)
    assert "".join(driver.lines()) == "0" * 9999 + "7end"
    assert max(map(len, driver.lines())) == 4096
    await driver.link.close()


async def test_a_script_with_the_streams_of_the_node_writes_to_them_itself(
    tmp_path: Path, script: Write, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    link = await SupervisorLauncher().launch(tmp_path, 0.4, streams=True)
    driver = Reading(link)
    await driver.until(Ready)
    path = script("printf 'no line \\377'; echo err >&2; ls -l /proc/self/fd/0 | grep -c null >&2")
    link.send(Start(path=path, environment={}, deadline=None, streams=True))
    await driver.run(within=10)
    await link.close()
    assert driver.lines() == []
    assert capfdbinary.readouterr() == (b"no line \xff", b"err\n1\n")


async def test_a_supervisor_without_streams_holds_none_of_the_nodes_pipes(tmp_path: Path) -> None:
    driver = await reading(tmp_path)
    ours = {os.readlink(f"/proc/self/fd/{number}") for number in (1, 2)}
    theirs = {os.readlink(f"/proc/{driver.pid}/fd/{name}") for name in os.listdir(f"/proc/{driver.pid}/fd")}
    assert not {name for name in ours & theirs if name != os.devnull}
    await driver.link.close()
