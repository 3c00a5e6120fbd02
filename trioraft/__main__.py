"""``python -m trioraft``."""

from trioraft.cli.main import main

main()
