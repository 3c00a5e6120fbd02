"""How commands read their arguments, run and end."""

import os
import re
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias, TypeVar

import typer

from trioraft.cli.exits import INTERRUPTED, REFUSED, WRONG, CommandError
from trioraft.cli.signals import ToldToEnd, run_until_told, signals_held_back
from trioraft.cli.streams import OutputError

if TYPE_CHECKING:
    from trioraft.settings.settings import ClientSettings

_T = TypeVar("_T")
Errors: TypeAlias = tuple[type[Exception], ...]

DONE: Final = 0

Peers = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT,...",
        help="Where nodes are. One is enough to find the others; the leader must be reached too, for it carries out"
        " commands. Else PEERS, else APP_NAME in DNS, else those of `trioraft up`, else 127.0.0.1:7300.",
        show_default=False,
    ),
]


# The checks are not those of Typer, which do not always show the value and what is allowed.
def number(option: str, text: str, lowest: int, highest: int) -> int:
    """Read the whole number of an option or argument."""
    from trioraft.settings.values import whole_number  # noqa: PLC0415

    try:
        return whole_number(lowest, highest)(text)
    except ValueError as error:
        allowed = f"a whole number from {lowest} to {highest}"
        raise CommandError(f"{option}={text[:100]!r}: {error}; allowed: {allowed}", WRONG) from None


def byte_count(option: str, text: str, lowest: int, highest: int) -> int:
    """Read the number of bytes of an option, such as ``134217728`` or ``128MiB``."""
    found = re.fullmatch(r"([0-9]{1,15}) ?([KMGT]iB)?", text, re.ASCII)
    count = int(found[1]) * 1024 ** ("KMGT".index(found[2][0]) + 1 if found[2] else 0) if found else -1
    if not lowest <= count <= highest:
        allowed = f"a number from {lowest} to {highest}, or of KiB, MiB, GiB or TiB, as in 128MiB"
        raise CommandError(f"{option}={text[:100]!r}: allowed: {allowed}", WRONG)
    return count


def timeout_seconds(text: str) -> float:
    """Read the value of ``--timeout``."""
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found <= 1e6:
        raise CommandError(f"--timeout={text[:100]!r}: allowed: seconds from 0 to 1000000", WRONG)
    return found


def choice(option: str, text: str, *allowed: str) -> None:
    """Check that the value of an option is one of some words."""
    if text not in allowed:
        raise CommandError(f"{option}={text[:100]!r}: unknown; allowed: {' or '.join(allowed)}", WRONG)


def checked(read: Callable[[], _T]) -> _T:
    """Read a part of the configuration; an error in it ends the command."""
    from trioraft.settings.settings import SettingsError  # noqa: PLC0415

    try:
        return read()
    except SettingsError as error:
        raise CommandError(str(error), WRONG) from None


def client_settings(peers: str | None) -> "ClientSettings":
    """Read the addresses of the cluster from ``--peers`` or the environment; warn of a key that must be made anew."""
    from trioraft.settings.settings import key_warning  # noqa: PLC0415

    settings = _client_settings(peers)
    if warning := key_warning(settings.keys):
        print(f"trioraft: {warning}", file=sys.stderr)  # noqa: T201 - for the user of the command
    return settings


def _client_settings(peers: str | None) -> "ClientSettings":
    from trioraft.settings.settings import ClientSettings  # noqa: PLC0415

    if peers is None:
        settings = checked(ClientSettings.from_environ)
        if os.environ.get("PEERS") or settings.app_name:
            return settings
        from trioraft.cli.local import default_peers  # noqa: PLC0415

        if (peers := default_peers()) is None:
            return settings
    if not peers.strip():
        raise CommandError("--peers is empty; allowed: host:port, separated by commas", WRONG)
    try:
        return checked(lambda: ClientSettings.from_environ({**os.environ, "PEERS": peers}))
    except CommandError as error:
        raise CommandError(str(error).replace("PEERS=", "--peers=", 1), WRONG) from None


def run_client(main: Callable[[], Awaitable[int]], interrupted: int = INTERRUPTED, errors: Errors = ()) -> int:
    """Run a program that asks a cluster; `errors` are those that it raises besides a client's."""
    from trioraft.client.client import NoAnswerError  # noqa: PLC0415
    from trioraft.settings.settings import SettingsError  # noqa: PLC0415

    return run_program(main, (NoAnswerError, CommandError, SettingsError, *errors), REFUSED, interrupted)


def run_program(
    main: Callable[[], Awaitable[int | None]], errors: Errors, exit_status: int, interrupted: int = INTERRUPTED
) -> int:
    """Run a program to its end; the errors that it is known to raise become one line."""
    import trio  # noqa: PLC0415

    from trioraft.settings.variables import SettingsError  # noqa: PLC0415

    try:
        with signals_held_back():
            return trio.run(run_until_told, main) or DONE
    except ToldToEnd:
        raise
    except BaseException as error:
        leaves = list(_leaves(error))
        if any(isinstance(leaf, KeyboardInterrupt) for leaf in leaves):
            return interrupted
        if all(isinstance(leaf, OutputError) for leaf in leaves):
            raise leaves[0] from None
        if not all(isinstance(leaf, errors) for leaf in leaves):
            raise
        first = leaves[0]
        wrong = WRONG if isinstance(first, SettingsError) else exit_status
        raise CommandError(str(first), getattr(first, "exit_status", wrong)) from None


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
