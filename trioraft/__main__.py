"""``trioraft``, and ``python -m trioraft``."""

import sys

# The packages that only an extra of this one brings.
_EXTRAS = {
    **dict.fromkeys(("h11", "prometheus_client"), "etcd"),
    **dict.fromkeys(("rich", "structlog", "typer"), "cli"),
    **dict.fromkeys(("flask_swagger_ui", "hypercorn", "jinja2", "quart", "quart_schema", "quart_trio"), "monitor"),
}


def main() -> None:
    """Run the command, or say in one line which extra of the package it needs."""
    try:
        from trioraft.cli.main import main as run  # noqa: PLC0415 - what it needs may not be installed

        run()
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRAS:
            raise
        text = f"this needs the package {package!r}: pip install 'trioraft[{_EXTRAS[package]}]'"
        print(f"trioraft: {text}", file=sys.stderr)  # noqa: T201 - for the user of the command
        sys.exit(2)


if __name__ == "__main__":
    main()
