"""What each key is good for at a real node, asked by real commands and by programs that ask for more."""

from functools import partial
from pathlib import Path
from typing import Final, get_args

import trio

from tests.cluster.harness import Cluster
from tests.cluster.test_kv import arguments, environment
from trioraft.asking import waiting
from trioraft.client.client import Client, open_client
from trioraft.datagrams import rights
from trioraft.datagrams.keys import DERIVED, Derived, derive_key
from trioraft.datagrams.sealing import Domain
from trioraft.kv.codec import encode_command, pack
from trioraft.kv.commands import Range
from trioraft.kv.questions import LeaseKeepAlive, LeaseList
from trioraft.messages import (
    AbandonFormation,
    Ask,
    Batch,
    Cancel,
    ChangeMember,
    ChangeSettings,
    Command,
    EndBackup,
    EndSession,
    KeepSession,
    OpenSession,
    Propose,
    ProposeBatch,
    Query,
    ReadBackup,
    ReadSettings,
    Refusal,
    StartBackup,
    StateDigest,
    StepDown,
    Transfer,
    UnknownCommand,
    encode_batch,
)
from trioraft.settings.settings import ClientSettings

KEY = "4b" * 32
FIRST_CLIENT = "client:3343e0002d237b41a618bf7444f4f1894cea00918d20fb7f479d02bb55ec5443"
ENVIRONMENT = {"CLUSTER_KEY": KEY}

COMMANDS: Final[dict[type[Command], Command]] = {
    Transfer: Transfer(1),
    ChangeMember: ChangeMember("remove", 1),
    ChangeSettings: ChangeSettings(1, 1, 1, b"\xa0"),
    AbandonFormation: AbandonFormation(1),
    StartBackup: StartBackup(),
    ReadBackup: ReadBackup(1),
    EndBackup: EndBackup(1),
    StateDigest: StateDigest(),
    OpenSession: OpenSession(),
    EndSession: EndSession(1),
    KeepSession: KeepSession(1),
    Propose: Propose(1, 1, 1, b""),
    ProposeBatch: ProposeBatch(encode_batch(Batch(1, 1, 1, (b"",)))),
    Ask: Ask(pack(LeaseKeepAlive(1)), leader=True),
    Query: Query(encode_command(Range.of("a"))),
    ReadSettings: ReadSettings(),
    StepDown: StepDown(),  # the last one, for nobody leads for a while
}
# One is not answered, the other one is never sent.
NOT_SENT: Final = {Cancel, UnknownCommand}


def test_every_command_and_every_domain_has_its_row() -> None:
    assert set(rights.NEEDED) == set(get_args(Command)) == set(COMMANDS) | NOT_SENT
    assert set(rights.NEEDED.values()) <= {Domain.ADMIN, Domain.CLIENT, Domain.READER}
    assert set(rights.NODE_TAKES) == set(rights.CLIENT_TAKES) == set(Domain)


def settings(cluster: Cluster, key: str) -> ClientSettings:
    return ClientSettings.from_environ({"CLUSTER_KEY": key, "PEERS": cluster.peers})


async def run(cluster: Cluster, key: str, *words: str) -> tuple[int, str]:
    """Run a command with a key; return its exit status and what it says of errors."""
    done = await trio.run_process(
        arguments(*words),
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        env={**environment(cluster), "CLUSTER_KEY": key},
    )
    return done.returncode, done.stderr.decode()


def _same(command: Command) -> Command:
    return command


async def refusals(client: Client) -> dict[type[Command], str]:
    """Ask for everything; return what is refused for want of a key, and which one is needed."""
    found = {}
    for kind, asked in COMMANDS.items():
        response = await waiting.call(client._calls, partial(_same, asked))
        if response.code == Refusal.REFUSED and "keygen" in response.detail:
            assert response.detail.startswith(f"{kind.__name__} needs a")
            found[kind] = response.detail.split("--derive ")[1].split("`")[0]
    return found


async def test_each_key_is_good_for_what_the_table_says(tmp_path: Path) -> None:
    async with Cluster(tmp_path, size=1, environment=ENVIRONMENT) as cluster:
        await cluster.wait_leader()
        for label in ("reader", "client", "admin"):
            async with open_client(settings(cluster, derive_key(KEY, label))) as client:
                found = await refusals(client)
            order = list[str](DERIVED)
            assert found == {
                kind: needed.label
                for kind, needed in rights.NEEDED.items()
                if kind not in NOT_SENT and order.index(needed.label) < order.index(label)
            }
        async with open_client(settings(cluster, derive_key(KEY, "reader"))) as client:
            answer = await waiting.call(client._calls, lambda: Ask(pack(LeaseList()), leader=True))
            assert answer.done, "it only reads"


CALLS: Final[list[tuple[Derived, list[str]]]] = [
    ("status", ["status"]),
    ("reader", ["list"]),
    ("reader", ["settings"]),
    ("reader", ["lease", "list"]),
    ("client", ["put", "a", "1"]),
    ("client", ["lock", "job", "--", "true"]),
    ("admin", ["settings", "--reads", "quorum"]),
    ("admin", ["backup", "BACKUP"]),
]


async def test_a_command_that_needs_another_key_says_which(tmp_path: Path) -> None:
    async with Cluster(tmp_path, size=1, environment=ENVIRONMENT) as cluster:
        await cluster.wait_leader()
        for number, (label, words) in enumerate(CALLS):
            call = [str(tmp_path / f"backup-{number}") if word == "BACKUP" else word for word in words]
            assert await run(cluster, derive_key(KEY, label), *call) == (0, ""), words
            if label == "status":
                continue
            weaker = DERIVED[DERIVED.index(label) + 1]
            status, said = await run(cluster, derive_key(KEY, weaker), *call)
            assert status == 2, words
            assert f"--derive {label}`" in said


async def test_a_client_key_of_the_release_before_is_good_for_what_it_was_and_that_is_said(tmp_path: Path) -> None:
    async with Cluster(tmp_path, size=1, environment=ENVIRONMENT) as cluster:
        await cluster.wait_leader()
        log = cluster.log_file(0)
        for words in (["put", "a", "1"], ["list"]):
            status, said = await run(cluster, FIRST_CLIENT, *words)
            assert status == 0
            assert said.startswith("trioraft: CLUSTER_KEY or CLUSTER_KEY_FILE: a client key of the release before")
            assert said.count("\n") == 1
        assert "needs an admin key" not in log.read_text()
        for _ in range(2):
            assert (await run(cluster, FIRST_CLIENT, "settings", "--reads", "quorum"))[0] == 0
        (line,) = [line for line in log.read_text().splitlines() if "needs an admin key" in line]
        assert "ChangeSettings" in line
