"""The commands for keys, leases and locks."""

from typing import TYPE_CHECKING, Annotated

import typer

from trioraft.cli.exits import WRONG, CommandError
from trioraft.cli.running import DONE, Peers, choice, client_settings, number, run_client, timeout_seconds
from trioraft.cli.streams import read_stdin

if TYPE_CHECKING:
    from trioraft.cli.key_value import Asked

_TTL_MAX = 9_000_000_000
_LARGEST = 2**63 - 1

_Key = Annotated[str, typer.Argument(metavar="KEY", help="1 to 1536 bytes.")]
_KeyOrPrefix = Annotated[str, typer.Argument(metavar="KEY", help="The key; with --prefix what keys start with.")]
_Value = Annotated[str, typer.Argument(metavar="VALUE", help="At most 1 MiB; - for standard input.")]
_Form = Annotated[str, typer.Option("--output", "-o", "--format", metavar="text|json", help="How to print.")]
_Timeout = Annotated[str, typer.Option(metavar="SECONDS", help="Give up after so long.")]
_Stale = Annotated[bool, typer.Option("--stale", help="Take what any node has, which may be old.")]
_Prefix = Annotated[bool, typer.Option("--prefix", help="All keys that start with KEY.")]
_Revision = Annotated[str, typer.Option(metavar="N", help="As it was at that revision; 0 for now.")]
_Lease = Annotated[str, typer.Option(metavar="ID", help="The lease that the key goes with.", show_default=False)]
_KeepLease = Annotated[bool, typer.Option("--keep-lease", help="The key goes on with the lease it has, if any.")]
_LeaseId = Annotated[str, typer.Argument(metavar="ID", help="16 hexadecimal digits.", show_default=False)]


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module.

    Parameters
    ----------
    app : typer.Typer
        The application that gets them.
    """
    for command in (put, get, delete, list_keys, cas, watch):
        app.command(command.__name__.removesuffix("_keys"))(command)
    app.command(context_settings={"ignore_unknown_options": True})(lock)
    app.command()(locks)
    app.add_typer(_leases)


def put(
    key: _Key,
    value: _Value,
    *,
    lease: _Lease = "0",
    keep_lease: _KeepLease = False,
    peers: Peers = None,
    form: _Form = "text",
    timeout: _Timeout = "10",
) -> int:
    """Give a key a value.

    A key that went with a lease leaves it, and stays for ever, unless --lease or --keep-lease is given.

    A value that starts with '-' goes after '--': trioraft put temperature -- -5
    """
    from trioraft.cli import key_value as kv_commands  # noqa: PLC0415
    from trioraft.kv.commands import Put  # noqa: PLC0415

    asked, name, number = _asked(peers, form, timeout), _key(key), _lease_of_put(lease, keep_lease=keep_lease)
    put = Put(name, _value(value), number)
    return run_client(lambda: kv_commands.put(asked, put, keep_lease=keep_lease))


def get(
    key: _Key,
    *,
    revision: _Revision = "0",
    stale: _Stale = False,
    peers: Peers = None,
    form: _Form = "text",
    timeout: _Timeout = "10",
) -> int:
    """Print a key's value.

    It is printed as it is, with a newline. The exit status is 1 where there is no such key.
    """
    from trioraft.cli import key_value as kv_commands  # noqa: PLC0415

    asked, name = _asked(peers, form, timeout), _key(key)
    at = number("--revision", revision, 0, _LARGEST)
    return run_client(lambda: kv_commands.get(asked, name, at, stale=stale))


def delete(
    key: _KeyOrPrefix, *, prefix: _Prefix = False, peers: Peers = None, form: _Form = "text", timeout: _Timeout = "10"
) -> int:
    """Delete a key, or all that start with a prefix.

    More than 10,000 are deleted in parts, so that no node stands still for long: others see it half done.
    """
    from trioraft.cli import key_value as kv_commands  # noqa: PLC0415

    asked, name = _asked(peers, form, timeout), _key(key, prefix=prefix)
    return run_client(lambda: kv_commands.delete(asked, name, prefix=prefix))


def list_keys(
    prefix: Annotated[
        str, typer.Argument(metavar="[PREFIX]", help="What the keys start with.", show_default=False)
    ] = "",
    *,
    limit: Annotated[str, typer.Option(metavar="N", help="At most so many; 0 for all.")] = "0",
    revision: _Revision = "0",
    stale: _Stale = False,
    peers: Peers = None,
    form: _Form = "text",
    timeout: _Timeout = "10",
) -> int:
    """Print keys and their values."""
    from trioraft.cli import key_value as kv_commands  # noqa: PLC0415

    asked = _asked(peers, form, timeout)
    at, most = number("--revision", revision, 0, _LARGEST), number("--limit", limit, 0, _LARGEST)
    start = _key(prefix, prefix=True)
    return run_client(lambda: kv_commands.list_keys(asked, start, most, at, stale=stale))


def cas(
    key: _Key,
    expected: Annotated[str, typer.Argument(metavar="EXPECTED", help="Its value; with --revision its mod_revision.")],
    value: _Value,
    *,
    revision: Annotated[
        bool, typer.Option("--revision", help="EXPECTED is a mod_revision; 0 where there must be no such key.")
    ] = False,
    lease: _Lease = "0",
    keep_lease: _KeepLease = False,
    peers: Peers = None,
    form: _Form = "text",
    timeout: _Timeout = "10",
) -> int:
    """Give a key a value if it is as expected (compare and swap).

    The exit status is 1 where it is not. A key that went with a lease leaves it, and stays for ever, unless --lease
    or --keep-lease is given.
    """
    from trioraft.cli import key_value as kv_commands  # noqa: PLC0415
    from trioraft.kv.commands import Compare, Put  # noqa: PLC0415

    asked, name, lease_id = _asked(peers, form, timeout), _key(key), _lease_of_put(lease, keep_lease=keep_lease)
    if revision:
        condition = Compare.mod_revision(name, "=", number("EXPECTED", expected, 0, _LARGEST))
    else:
        condition = Compare.value(name, "=", _bytes(expected))
    put = Put(name, _value(value), lease_id)
    return run_client(lambda: kv_commands.cas(asked, condition, put, keep_lease=keep_lease))


def watch(
    key: _KeyOrPrefix,
    *,
    prefix: _Prefix = False,
    revision: Annotated[str, typer.Option(metavar="N", help="From that revision on; 0 for from now on.")] = "0",
    peers: Peers = None,
    form: _Form = "text",
) -> int:
    """Print what changes, line by line, until Ctrl-C."""
    from trioraft.cli import key_value as kv_commands  # noqa: PLC0415

    asked, name = _asked(peers, form, "0"), _key(key, prefix=prefix)
    at = number("--revision", revision, 0, _LARGEST)
    return run_client(lambda: kv_commands.watch(asked, name, at, prefix=prefix), interrupted=DONE)


def lock(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The lock's name.")],
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND...", help="What to run.")],
    *,
    ttl: Annotated[
        str, typer.Option(metavar="SECONDS", help="So long others wait for a holder that is lost.")
    ] = "10",
    wait: Annotated[
        str | None,
        typer.Option(
            metavar="SECONDS",
            help="Give up when somebody else holds it for so long; 0 to take it only if it is free.",
        ),
    ] = None,
    peers: Peers = None,
) -> int:
    """Run a command while holding a lock.

    TRIORAFT_FENCING_TOKEN in its environment is larger than that of every holder before. When the lock may be lost
    the command gets SIGTERM, then SIGKILL, before anybody else can hold it, and the exit status is 1; otherwise it is
    the command's.
    """
    from trioraft.cli import lock  # noqa: PLC0415

    settings = client_settings(peers)
    seconds = number("--ttl", ttl, 2, _TTL_MAX)
    patience = None if wait is None else number("--wait", wait, 0, _TTL_MAX)
    return run_client(lambda: lock.run_locked(settings, name, command, ttl=seconds, patience=patience))


_leases = typer.Typer(name="lease", help="Leases: keys attached to one go with it.", rich_markup_mode=None)


@_leases.command("grant")
def lease_grant(
    ttl: Annotated[str, typer.Argument(metavar="SECONDS", help="How long it lives after a keep-alive.")],
    *,
    peers: Peers = None,
    form: _Form = "text",
    timeout: _Timeout = "10",
) -> int:
    """Make a lease and print its id."""
    from trioraft.cli import key_value as kv_commands  # noqa: PLC0415

    asked, seconds = _asked(peers, form, timeout), number("SECONDS", ttl, 1, _TTL_MAX)
    return run_client(lambda: kv_commands.lease_grant(asked, seconds))


@_leases.command("revoke")
def lease_revoke(lease: _LeaseId, *, peers: Peers = None, form: _Form = "text", timeout: _Timeout = "10") -> int:
    """End a lease, and delete its keys.

    One that a lock goes with ends when the lock's holder, who is told, has ended, or its time is up.
    """
    from trioraft.cli import key_value as kv_commands  # noqa: PLC0415

    asked = _asked(peers, form, timeout)
    return run_client(lambda: kv_commands.lease_revoke(asked, _lease_id(lease)))


@_leases.command("keep-alive")
def lease_keep_alive(
    lease: _LeaseId,
    *,
    once: Annotated[bool, typer.Option("--once", help="Only once; else until Ctrl-C.")] = False,
    peers: Peers = None,
    form: _Form = "text",
    timeout: _Timeout = "10",
) -> int:
    """Give a lease its full time again and again."""
    from trioraft.cli import key_value as kv_commands  # noqa: PLC0415

    asked = _asked(peers, form, timeout)
    return run_client(lambda: kv_commands.lease_keep_alive(asked, _lease_id(lease), once=once), interrupted=DONE)


@_leases.command("show")
def lease_show(lease: _LeaseId, *, peers: Peers = None, form: _Form = "text", timeout: _Timeout = "10") -> int:
    """Print how long a lease still lives, and its keys."""
    from trioraft.cli import key_value as kv_commands  # noqa: PLC0415

    asked = _asked(peers, form, timeout)
    return run_client(lambda: kv_commands.lease_show(asked, _lease_id(lease)))


@_leases.command("list")
def lease_list(*, peers: Peers = None, form: _Form = "text", timeout: _Timeout = "10") -> int:
    """Print the ids of all leases."""
    from trioraft.cli import key_value as kv_commands  # noqa: PLC0415

    asked = _asked(peers, form, timeout)
    return run_client(lambda: kv_commands.lease_list(asked))


def locks(*, peers: Peers = None, form: _Form = "text", timeout: _Timeout = "10") -> int:
    """Print the locks that are held: each with its fencing token, its holder's lease, and how many wait for it."""
    from trioraft.cli import key_value as kv_commands  # noqa: PLC0415

    asked = _asked(peers, form, timeout)
    return run_client(lambda: kv_commands.locks(asked))


def _asked(peers: str | None, form: str, timeout: str) -> "Asked":
    from trioraft.cli import key_value as kv_commands  # noqa: PLC0415

    choice("--output", form, "text", "json")
    return kv_commands.Asked(client_settings(peers), form == "json", timeout_seconds(timeout))


def _key(text: str, *, prefix: bool = False) -> bytes:
    from trioraft.kv.commands import KEY_MAX  # noqa: PLC0415

    key = _bytes(text)
    if not (0 if prefix else 1) <= len(key) <= KEY_MAX:
        raise CommandError(f"KEY={text[:100]!r}: {len(key)} bytes; allowed: 1 to {KEY_MAX} bytes", WRONG)
    return key


def _value(text: str) -> bytes:
    """Return the value of an argument; for ``-``, that of standard input."""
    from trioraft.kv.commands import VALUE_MAX  # noqa: PLC0415

    value = read_stdin(VALUE_MAX + 1) if text == "-" else _bytes(text)
    if len(value) > VALUE_MAX:
        raise CommandError(f"VALUE: too large; allowed: at most {VALUE_MAX} bytes", WRONG)
    return value


def _lease_id(text: str) -> int:
    try:
        lease = int(text, 16)
    except ValueError:
        lease = -1
    if not 0 <= lease <= _LARGEST:
        raise CommandError(f"lease {text[:100]!r}: allowed: 16 hexadecimal digits, as `trioraft lease` prints", WRONG)
    return lease


def _lease_of_put(text: str, *, keep_lease: bool) -> int:
    lease = _lease_id(text)
    if lease and keep_lease:
        raise CommandError("--lease and --keep-lease exclude each other; give one of them", WRONG)
    return lease


def _bytes(text: str) -> bytes:
    """Return the bytes of an argument as they were passed."""
    return text.encode("utf-8", "surrogateescape")
