"""What tests of several kinds need: the one browser, and what becomes of a test whose tool is missing."""

import inspect
import os
import shutil
import signal
import sys
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, NoReturn

import pytest

from tests.unit.interactions import begun

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# Under `nohup`, or in the background of a script, some signals are ignored. They would stay so in every process that
# a test starts, also where its handling of them is what is tested.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a mocked clock that is no argument of its test: pytest-trio would let that test run in real time."""
    for item in items:
        if isinstance(item, pytest.Function):
            arguments = inspect.signature(item.function).parameters
            for clock in {"mock_clock", "autojump_clock"} & set(item.fixturenames) - set(arguments):
                raise pytest.UsageError(f"{item.nodeid} must have {clock} as an argument, or it runs in real time")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    """End the run where a test of trio was interrupted.

    Nurseries put the interrupt into a group of exceptions, and that is to pytest one test that has failed.
    """
    try:
        return (yield)
    except BaseExceptionGroup as group:
        if group.subgroup(KeyboardInterrupt):
            raise KeyboardInterrupt from group
        raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what happened in the stories of a test that has failed."""
    report = yield
    if call.when == "setup":
        return report
    if report.failed:
        report.sections += [("The story", "\n".join(trace.lines())) for trace in begun]
    if call.when == "teardown":
        begun.clear()
    return report


def unavailable(reason: str) -> NoReturn:
    """Fail where the missing tool could have been installed, and skip elsewhere."""
    if sys.platform == "linux" and os.geteuid() == 0:
        pytest.fail(f"{reason}; `tests/run` installs what is missing")
    pytest.skip(f"{reason}, and it cannot be installed here (not root, or not Linux)")


@pytest.fixture(scope="session")
def browser() -> "Iterator[Browser]":
    """Start the system's Chromium; one for all tests, because playwright runs once in a process."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - a third of a second, which stories do not need

    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        unavailable("there is no Chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()
