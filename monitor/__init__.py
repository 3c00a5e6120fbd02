"""The monitor: a page that shows a cluster live, and a JSON API with the same facts."""

from monitor.app import create_app
from monitor.server import run_monitor

__all__ = ["create_app", "run_monitor"]
