"""The commands for keys and leases, after their arguments are read."""

import base64
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import trio

from trioraft.cli.exits import CommandError
from trioraft.cli.silence import silence_told
from trioraft.cli.streams import tell
from trioraft.client.client import Client, NoAnswerError, open_client
from trioraft.client.status import printable
from trioraft.clock import FOREVER, boottime
from trioraft.datagrams.endpoint import Domain
from trioraft.errors import ProposalError
from trioraft.kv.commands import DELETED_MAX, Compare, DeleteRange, Event, EventKind, KeyValue, Put
from trioraft.kv.errors import KeyValueError
from trioraft.kv.keys import PutOutcome
from trioraft.kv.lock import HeldLease, held_until, keep_lease_alive
from trioraft.kv.lock_keys import LOCKS, held_locks
from trioraft.kv.results import DeleteRangeResult, ErrorCode
from trioraft.settings.settings import ClientSettings


@dataclass(frozen=True, slots=True)
class Asked:
    """The options that the commands have in common.

    Attributes
    ----------
    settings : ClientSettings
        The addresses of the cluster, and the keys.
    as_json : bool
        Whether to print JSON.
    timeout : float
        How many seconds to try; 0 for no limit.
    """

    settings: ClientSettings
    as_json: bool
    timeout: float


@asynccontextmanager
async def _client(asked: Asked, domain: Domain = Domain.CLIENT) -> AsyncIterator[Client]:
    """Open a client for one command, and cancel the command after its timeout."""
    async with open_client(asked.settings, domain) as client, silence_told(client, asked.timeout):
        try:
            with trio.move_on_after(asked.timeout or FOREVER) as scope:
                yield client
        except (KeyValueError, ProposalError) as error:
            raise CommandError(printable(str(error))) from None
        if scope.cancelled_caught:
            raise NoAnswerError(f"{printable(client.problem)} (waited {asked.timeout:g} s)")


async def put(asked: Asked, put: Put, *, keep_lease: bool) -> int:
    """Put a value."""
    async with _client(asked) as client:
        outcome = await client.put_if((), put, keep_lease=keep_lease)
        _say_put(asked, outcome, {"revision": outcome.put.revision})
    return 0


def _say_put(asked: Asked, outcome: PutOutcome, document: dict[str, Any]) -> None:
    """Print the result of a put, and that the key has left a lease: it stays for ever then, which may surprise."""
    text = f"revision {outcome.put.revision}"
    if outcome.left:
        text += f"; the key has left its lease {outcome.left:016x} (--keep-lease keeps it)"
        document["left_lease"] = f"{outcome.left:016x}"
    _say(asked, text, document)


async def get(asked: Asked, key: bytes, revision: int, *, stale: bool) -> int:
    """Print a key's value."""
    async with _client(asked, Domain.READER) as client:
        kv = await client.get(key, revision=revision, stale=stale)
        if kv is None:
            raise CommandError(f"there is no key {_text(key)}")
        if asked.as_json:
            _print_json(_document(kv))
        else:
            sys.stdout.buffer.write(kv.value + b"\n")
            sys.stdout.buffer.flush()
    return 0


async def delete(asked: Asked, key: bytes, *, prefix: bool) -> int:
    """Delete a key, or all with a prefix."""
    async with _client(asked) as client:
        deleted = 0
        while (result := await _delete_some(client, key, prefix=prefix)) is None:
            deleted += await _delete_first(client, key)
        deleted += result.deleted
        _say(asked, f"deleted {deleted}", {"deleted": deleted, "revision": result.revision})
    return 0


async def _delete_some(client: Client, key: bytes, *, prefix: bool) -> DeleteRangeResult | None:
    """Delete a key, or all with a prefix; None where those are too many for one command."""
    try:
        return await client.delete(key, prefix=prefix)
    except KeyValueError as error:
        if error.code != ErrorCode.TOO_LARGE or not prefix:
            raise
    return None


async def _delete_first(client: Client, prefix: bytes) -> int:
    """Delete half as many keys with a prefix as one command can, because others may be put meanwhile."""
    keys = await client.list(prefix, limit=DELETED_MAX // 2, keys_only=True)
    if not keys:
        return 0
    deleted = await client.txn((), [DeleteRange(keys[0].key, keys[-1].key + b"\0")])
    return sum(part.deleted for part in deleted.responses if isinstance(part, DeleteRangeResult))


async def list_keys(asked: Asked, prefix: bytes, limit: int, revision: int, *, stale: bool) -> int:
    """Print keys and values."""
    async with _client(asked, Domain.READER) as client:
        found = await client.list(prefix, limit=limit, revision=revision, stale=stale)
        if asked.as_json:
            _print_json([_document(kv) for kv in found])
        else:
            for kv in found:
                print(f"{_text(kv.key)} {_text(kv.value)}")  # noqa: T201 - what the command is for
    return 0


async def cas(asked: Asked, expected: Compare, put: Put, *, keep_lease: bool) -> int:
    """Put a value if the key is as expected."""
    async with _client(asked) as client:
        outcome = await client.put_if((expected,), put, keep_lease=keep_lease)
        revision = outcome.put.revision
        if not revision and not asked.as_json:
            raise CommandError(f"nothing was changed: the key {_text(put.key)} is not as expected")
        _say_put(asked, outcome, {"succeeded": bool(revision), "revision": revision or None})
    return 0 if revision else 1


async def watch(asked: Asked, key: bytes, revision: int, *, prefix: bool) -> int:
    """Print changes as they come."""
    async with _client(asked, Domain.READER) as client:
        async for event in client.watch(key, prefix=prefix, revision=revision):
            kv = event.kv
            if asked.as_json:
                _print_json(_event_document(event))
            elif event.kind == EventKind.PUT:
                print(f"put {_text(kv.key)} {_text(kv.value)}", flush=True)  # noqa: T201 - what it is for
            else:
                print(f"delete {_text(kv.key)}", flush=True)  # noqa: T201 - what it is for
    return 0


async def lease_grant(asked: Asked, ttl: int) -> int:
    """Grant a lease."""
    async with _client(asked) as client:
        granted = await client.lease_grant(ttl)
        _say(asked, f"{granted.id:016x}", {"id": f"{granted.id:016x}", "ttl": granted.ttl})
    return 0


async def lease_revoke(asked: Asked, lease: int) -> int:
    """End a lease."""
    async with _client(asked) as client:
        deleted = await client.lease_revoke(lease)
        text, document = f"deleted {deleted}", {"deleted": deleted, "ends_within": 0.0}
        with suppress(KeyValueError):  # the lease is gone already
            left = (await client.lease_time_to_live(lease)).remaining
            text += f"; a lock goes with it, which is free when its holder has ended, in {left:.1f} s at most"
            document["ends_within"] = round(left, 3)
        _say(asked, text, document)
    return 0


async def lease_keep_alive(asked: Asked, lease: int, *, once: bool) -> int:
    """Renew a lease, once or until interrupted."""
    async with _client(asked) as client:
        sent_at = boottime()
        ttl = await client.lease_keep_alive(lease)
        _say(asked, f"lives for {ttl} s", {"id": f"{lease:016x}", "ttl": ttl})
    if not once:
        async with _client(Asked(asked.settings, asked.as_json, 0)) as client:
            lost = await keep_lease_alive(client, HeldLease(lease, ttl, held_until(sent_at, ttl)))
            raise CommandError(printable(lost))
    return 0


async def lease_show(asked: Asked, lease: int) -> int:
    """Print how long a lease still lives, and its keys."""
    async with _client(asked, Domain.READER) as client:
        found = await client.lease_time_to_live(lease, keys=True)
        document = {
            "id": f"{lease:016x}",
            "ttl": found.granted_ttl,
            "remaining": round(found.remaining, 3),
            "keys": [_encoded("key", key) for key in found.keys],
        }
        lines = [f"lives for {found.remaining:.1f} s of {found.granted_ttl} s", *map(_text, found.keys)]
        if asked.as_json:
            _print_json(document)
        else:
            print("\n".join(lines))  # noqa: T201 - what the command is for
    return 0


async def lease_list(asked: Asked) -> int:
    """Print the ids of all leases."""
    async with _client(asked, Domain.READER) as client:
        ids = [f"{lease:016x}" for lease in await client.leases()]
        if asked.as_json:
            _print_json(ids)
        else:
            for lease in ids:
                print(lease)  # noqa: T201 - what the command is for
    return 0


async def locks(asked: Asked) -> int:
    """Print the locks that are held."""
    async with _client(asked, Domain.READER) as client:
        found = held_locks(await client.list(LOCKS, keys_only=True))
    if asked.as_json:
        _print_json(
            [
                {
                    **_encoded("name", lock.name),
                    "fencing_token": lock.fencing_token,
                    "lease": f"{lock.lease:016x}",
                    "waiting": lock.waiting,
                }
                for lock in found
            ]
        )
        return 0
    for lock in found:
        waiting = f", {lock.waiting} waiting" if lock.waiting else ""
        print(f"{_text(lock.name)} token {lock.fencing_token}, lease {lock.lease:016x}{waiting}")  # noqa: T201
    return 0


# --- the output --------------------------------------------------------------------------------------------


def _say(asked: Asked, text: str, document: Mapping[str, Any]) -> None:
    """Print the result, as text or as JSON."""
    tell(json.dumps(document) if asked.as_json else text)


def _print_json(document: object) -> None:
    json.dump(document, sys.stdout)
    sys.stdout.write("\n")
    sys.stdout.flush()


def _encoded(field: str, data: bytes) -> dict[str, str]:
    """Encode bytes as text or, where they are not UTF-8, as base64 in a field of another name."""
    try:
        return {field: data.decode()}
    except UnicodeDecodeError:
        return {field: base64.b64encode(data).decode(), f"{field}_encoding": "base64"}


def _document(kv: KeyValue) -> dict[str, Any]:
    document: dict[str, Any] = {
        **_encoded("key", kv.key),
        **_encoded("value", kv.value),
        "create_revision": kv.create_revision,
        "mod_revision": kv.mod_revision,
        "version": kv.version,
    }
    if kv.lease:
        document["lease"] = f"{kv.lease:016x}"
    return document


def _event_document(event: Event) -> dict[str, Any]:
    if event.kind == EventKind.PUT:
        return {"type": "put", **_document(event.kv)}
    return {"type": "delete", **_encoded("key", event.kv.key), "mod_revision": event.kv.mod_revision}


def _text(data: bytes) -> str:
    """Return bytes as one printable line."""
    return printable(data.decode("utf-8", "backslashreplace"))
