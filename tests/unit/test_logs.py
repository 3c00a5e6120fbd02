"""The log: one line per event, libraries included, never on standard output."""

import io
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from trioraft.logger import Logger
from trioraft.logs import configure_logging


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    Logger.always_logging = False
    logging.getLogger("trioraft").setLevel(logging.NOTSET)
    logging.captureWarnings(False)
    root.handlers[:], root.level = handlers, level


def test_json_lines_start_with_time_level_and_event() -> None:
    stream = io.StringIO()
    configure_logging("INFO", "json", stream)
    Logger("trioraft.test").bind(node="n").info("became leader", term=3)
    line = json.loads(stream.getvalue())
    assert list(line)[:3] == ["timestamp", "level", "event"]
    assert (line["level"], line["event"], line["node"], line["term"]) == ("info", "became leader", "n", 3)
    assert datetime.fromisoformat(line["timestamp"]) - datetime.now(UTC) < timedelta(seconds=5)
    assert line["timestamp"].endswith("Z")


def test_libraries_are_heard_from_warnings_on_in_the_same_form() -> None:
    stream = io.StringIO()
    configure_logging("INFO", "json", stream)
    logging.getLogger("library").info("chatter")
    logging.getLogger("library").warning("%s is odd", "this")
    line = json.loads(stream.getvalue())
    assert (line["level"], line["event"], line["logger"]) == ("warning", "this is odd", "library")


def test_lines_below_the_level_are_not_written() -> None:
    stream = io.StringIO()
    configure_logging("ERROR", "json", stream)
    Logger("trioraft.test").warning("no")
    logging.getLogger("library").warning("no")
    Logger("trioraft.test").error("yes")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["yes"]


@pytest.mark.parametrize("log_format", ["json", "auto"])
def test_an_exception_stays_on_its_line(log_format: str) -> None:
    stream = io.StringIO()  # no terminal, so auto is json
    configure_logging("INFO", log_format, stream)
    try:
        raise ValueError("with a\nbreak")
    except ValueError:
        Logger("trioraft.test").exception("failed")
    (text,) = stream.getvalue().splitlines()
    assert "ValueError: with a\nbreak" in json.loads(text)["exception"]


def test_console_lines_are_plain_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    configure_logging("INFO", "console", stream)
    Logger("trioraft.test").info("became leader", term=3)
    assert "became leader" in stream.getvalue()
    assert "term=3" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


STEERING = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202enode"


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_text_of_others_controls_a_terminal(log_format: str) -> None:
    stream = io.StringIO()
    configure_logging("INFO", log_format, stream)
    log = Logger("trioraft.test").bind(name=STEERING)
    log.info("peer", peer_name=STEERING, line="two\nlines")
    log.warning(f"alert {STEERING}", several=(STEERING, STEERING))
    logging.getLogger("library").warning("%s is odd", STEERING)
    try:
        raise ValueError(STEERING)
    except ValueError:
        log.exception("failed")
    text = stream.getvalue()
    assert not [line for line in text.splitlines() if not line.isprintable()]
    assert "\\x1b[2J" in text or "\\u001b[2J" in text, "and nothing is lost"
