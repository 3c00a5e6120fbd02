"""Checks of the sources beside format, style and types; `tests/run lint` runs them by `python -m tests.lint`.

Each module here with a function `problems(root)` is a check: it lists the problems of the project at that path, a
line or more for each, with the way to solve it.
"""
