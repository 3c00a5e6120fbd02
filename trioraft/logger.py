"""The logger of this package: structlog where a program uses it, else the standard library's logging.

structlog takes 8 MB and an eighth of a second, so it is not loaded into a program that has no use for it. The
programs of this package use logging in any case, and :mod:`trioraft.logs` makes lines with fields of it.
"""

import logging
import sys
from typing import Any, ClassVar, Self


class Logger:
    """A logger with fields that each of its lines has.

    Parameters
    ----------
    name : str
        Its name.
    **fields : object
        The fields.

    Attributes
    ----------
    always_logging : bool
        Whether all loggers use logging, whose handlers find the fields in the attribute ``fields`` of a record.
    """

    __slots__ = ("_fields", "_name")

    always_logging: ClassVar[bool] = False

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

    def _log(self, method: str, event: str, more: dict[str, Any]) -> None:
        fields = {**self._fields, **more}
        structured = None if self.always_logging else getattr(sys.modules.get("structlog"), "get_logger", None)
        if structured is not None:
            getattr(structured(self._name), method)(event, **fields)
            return
        if not self.always_logging:
            event = " ".join([event, *(f"{name}={value!r}" for name, value in fields.items())])
        log = getattr(logging.getLogger(self._name), method)
        log("%s", event, extra={"fields": fields}, stacklevel=3)
