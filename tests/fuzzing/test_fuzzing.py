"""A bounded run of each target, and proof that broken promises are noticed."""

import random
import re

import pytest

from tests.fuzzing import TARGETS, corpus, targets
from tests.fuzzing.__main__ import fuzz
from trioraft.datagrams import headers
from trioraft.datagrams.endpoint import Endpoint
from trioraft.datagrams.replay import ReplayWindow

RUNS = 5_000


@pytest.mark.parametrize("target", TARGETS)
def test_no_promise_is_broken(target: str) -> None:
    printed = fuzz(target, runs=RUNS, seed=1)
    done = re.search(r"Done (\d+) runs", printed)
    assert done is not None, printed
    assert int(done[1]) >= RUNS


@pytest.mark.parametrize("target", TARGETS)
def test_the_corpus_reaches_what_random_bytes_do_not(target: str) -> None:
    inputs = [path.read_bytes() for path in corpus(target).iterdir()]
    assert len(inputs) >= 10
    for data in inputs:
        getattr(targets, target)(data)


def test_a_window_that_takes_a_counter_twice_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReplayWindow, "accept", lambda window, counter: True)
    with pytest.raises(targets.BrokenPromiseError):
        targets.window(bytes([0, 9, 129, 127]))


def test_a_decoder_that_lets_an_exception_through_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(data: bytes) -> None:
        raise KeyError(data[0])

    monkeypatch.setattr(headers, "parse_datagram_untrusted", careless)
    with pytest.raises(KeyError):
        targets.decoder(b"anything")


def test_an_endpoint_that_answers_with_more_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Endpoint, "datagrams_to_send", lambda endpoint: [(bytes(1000), targets.STRANGER)])
    with pytest.raises(targets.BrokenPromiseError):
        targets.endpoint(b"\x00\x05hello")


def test_random_bytes_are_malformed() -> None:
    source = random.Random(1)
    for _ in range(1000):
        data = source.randbytes(source.randrange(100))
        with pytest.raises(headers.MalformedError):
            headers.parse_datagram_untrusted(data)
