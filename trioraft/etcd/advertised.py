"""The URLs by which clients reach the nodes.

Each node asks the others, in datagrams, and keeps what it has learned in a file, so that it can name the URL of a
node that is down, and without a quorum.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import trio

from trioraft.datagrams import cbor
from trioraft.errors import ProposalError
from trioraft.logger import Logger
from trioraft.messages import Ask, NodeId
from trioraft.node.node import Node
from trioraft.storage.private import open_new

_log: Final = Logger("trioraft.etcd")

_FILE: Final = "client-urls.json"
# The question, beside those of the store (:mod:`trioraft.kv.questions`), which have smaller numbers.
_QUESTION: Final = 100
_URL_MAX: Final = 500

# Others are asked this often, in seconds: soon while somebody's URL is not known, and rarely then.
_ASK_SOON: Final = 0.5
_ASK_AGAIN: Final = 10.0
_ANSWER_SECONDS: Final = 2.0


def is_question(question: bytes) -> bool:
    """Check whether somebody asks for this node's URL.

    Parameters
    ----------
    question : bytes
        A question to the program around the state machine.

    Returns
    -------
    bool
        Whether it is that one.
    """
    return question == _ASKED


_ASKED: Final = cbor.encode([_QUESTION])


class Advertised:
    """What this node knows of URLs.

    Parameters
    ----------
    node : Node
        The node.
    own : callable
        Returns its URL for clients; empty while that is not known.
    directory : Path
        The directory of its data.
    """

    def __init__(self, node: Node, own: Callable[[], str], directory: Path) -> None:
        self._node = node
        self._own = own
        self._file = directory / _FILE
        self._known: dict[NodeId, str] = _read(self._file)

    def urls(self, node: NodeId) -> list[str]:
        """Return the URLs of a node; none where none is known.

        Parameters
        ----------
        node : int
            The node.

        Returns
        -------
        list of str
            The URLs.
        """
        url = self._own() if node == self._node.id else self._known.get(node, "")
        return [url] if url else []

    def answer(self) -> bytes:
        """Return the answer to the question for this node's URL."""
        return cbor.encode([_QUESTION, self._own()])

    async def run(self) -> None:
        """Ask the others, again and again, until cancelled."""
        while True:
            others = [one for one in self._node.consensus.configuration.members if one != self._node.id]
            for other in others:
                await self._ask(other)
            is_complete = bool(others) and all(other in self._known for other in others)
            await trio.sleep(_ASK_AGAIN if is_complete else _ASK_SOON)

    async def _ask(self, node: NodeId) -> None:
        if node not in self._node.reachable_nodes():
            return
        with trio.move_on_after(_ANSWER_SECONDS), suppress(ProposalError):
            response = await self._node.carry_out(Ask(_ASKED), node=node)
            url = _url_in(response.data) if response.done else None
            if not url:  # it has none, or does not know the question
                self._known.setdefault(node, "")
            elif self._known.get(node) != url:
                self._known[node] = url
                await trio.to_thread.run_sync(self._write)

    def _write(self) -> None:
        """Keep what is known."""
        members = self._node.consensus.configuration.member_set
        shown = {f"{node:016x}": url for node, url in self._known.items() if node in members}
        unfinished = self._file.with_suffix(".new")
        try:
            with open_new(unfinished) as file:
                file.write(json.dumps(shown, indent=1).encode())
            unfinished.replace(self._file)
        except OSError as error:
            _log.warning("the URLs of the other nodes cannot be kept", file=str(self._file), why=error.strerror)


def _url_in(answer: bytes) -> str | None:
    try:
        item = cbor.decode_untrusted(answer)
    except ValueError:
        return None
    match item:
        case [number, str(url)] if number == _QUESTION and len(url) <= _URL_MAX and url.isprintable():
            return url
    return None


def _read(file: Path) -> dict[NodeId, str]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return {int(node, 16): url for node, url in found.items() if isinstance(url, str)}
    except (OSError, ValueError, AttributeError):
        return {}
