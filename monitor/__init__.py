"""The monitor: a page that shows a cluster live, and a JSON API with the same facts."""

from .app import create_app
from .server import run_monitor

__all__ = ["create_app", "run_monitor"]
