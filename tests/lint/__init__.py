"""What is checked of the sources beside format, style and types; `tests/run lint` runs it, by `python -m tests.lint`.

Each module here with a function `problems(root)` is a check: it lists what is wrong in the project at that path, a
line or more for each, with what to do about it.
"""
