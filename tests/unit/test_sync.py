"""The client for programs without trio, when it is used in ways that cannot work: every one ends with clear words."""

import os
import threading
import time

import pytest

from trioraft import sync
from trioraft.address import PeerName
from trioraft.client.client import NoAnswerError
from trioraft.settings.settings import ClientSettings

NOBODY = ClientSettings(app_name="trioraft", peers=(PeerName("127.0.0.1", 9),))


def test_a_client_that_is_not_open_says_so() -> None:
    client = sync.Client(NOBODY)
    with pytest.raises(RuntimeError, match="not open"):
        client.get("a")
    with client:
        pass
    with pytest.raises(RuntimeError, match="not open"):
        client.get("a")


def test_a_thread_that_waits_while_the_client_is_closed_gets_an_error() -> None:
    failures: list[BaseException] = []

    def put(client: sync.Client) -> None:
        try:
            client.put("a", "1", timeout=60)
        except BaseException as failure:
            failures.append(failure)

    started = time.monotonic()
    with sync.Client(NOBODY) as client:
        threads = [threading.Thread(target=put, args=(client,)) for _ in range(5)]
        for thread in threads:
            thread.start()
        time.sleep(0.2)
    for thread in threads:
        thread.join(10)
    assert time.monotonic() - started < 10
    assert [str(failure) for failure in failures] == ["unknown: the client was closed before there was an answer"] * 5
    assert all(isinstance(failure, NoAnswerError) for failure in failures)


def test_a_failure_inside_is_raised_where_a_thread_waits_and_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object) -> None:
        raise OSError(5, "the socket is broken")

    def use_it() -> None:
        with sync.Client(NOBODY) as client:
            monkeypatch.setattr("trioraft.datagrams.client_loop.ClientLoop.flush", fail)
            with pytest.raises(NoAnswerError, match="the client has failed"):
                client.put("a", "1", timeout=20)

    with pytest.raises(BaseException) as caught:  # noqa: PT011 - with or without a group around it
        use_it()
    assert "the socket is broken" in repr(caught.value)


def test_a_client_from_before_a_fork_says_so() -> None:
    with sync.Client(NOBODY) as client:
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            try:
                client.get("a", timeout=5)
            except RuntimeError as error:
                os.write(writer, str(error).encode())
            finally:
                client.__exit__(None, None, None)
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as text:
            assert "opened before a fork" in text.read()
        os.waitpid(child, 0)
        with pytest.raises(NoAnswerError, match=r"waited 0\.1 s"):
            client.get("a", timeout=0.1)
