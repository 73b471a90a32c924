"""Monitors: readers of episodes that report suspicions, held out from training. One file, one method."""

from typing import Any

from envs.discovery import exported
from shaping.monitors.base import Monitor as Monitor
from shaping.monitors.base import MonitorError as MonitorError
from shaping.monitors.base import Reading as Reading
from shaping.monitors.base import require_held_out as require_held_out
from shaping.monitors.validation.turns import validate as validate


def __getattr__(name: str) -> Any:
    return exported(__name__, Monitor, name)
