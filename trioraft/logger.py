"""The logger of this package: structlog where the program uses it, else the standard library's logging.

structlog takes 8 MB and an eighth of a second, so a node does not load it into a program that has no use for it. The
programs of this package use it (:mod:`trioraft.logs`).
"""

import logging
import sys
from typing import Any, Self


class Logger:
    """A logger with fields that each of its lines has.

    Parameters
    ----------
    name : str
        Its name.
    **fields : object
        The fields.
    """

    __slots__ = ("_fields", "_name")

    def __init__(self, name: str, /, **fields: object) -> None:
        self._name = name
        self._fields = fields

    def bind(self, /, **fields: object) -> Self:
        """Make a logger with further fields.

        Parameters
        ----------
        **fields : object
            The further fields.

        Returns
        -------
        Logger
            The new logger.
        """
        return type(self)(self._name, **{**self._fields, **fields})

    def info(self, event: str, /, **fields: object) -> None:
        """Log what people may want to know."""
        self._log("info", event, fields)

    def warning(self, event: str, /, **fields: object) -> None:
        """Log what people should look at some time."""
        self._log("warning", event, fields)

    def error(self, event: str, /, **fields: object) -> None:
        """Log what people should look at now."""
        self._log("error", event, fields)

    def exception(self, event: str, /, **fields: object) -> None:
        """Log the exception that is handled just now, with its traceback."""
        self._log("exception", event, fields)

    def _log(self, method: str, event: str, fields: dict[str, Any]) -> None:
        structured = getattr(sys.modules.get("structlog"), "get_logger", None)
        if structured is not None:
            getattr(structured(self._name, **self._fields), method)(event, **fields)
            return
        words = [event, *(f"{name}={value!r}" for name, value in {**self._fields, **fields}.items())]
        getattr(logging.getLogger(self._name), method)("%s", " ".join(words), stacklevel=3)
