"""``python -m trioraft``."""

from trioraft.cli import main

main()
