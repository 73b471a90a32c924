"""Constraints limit or price actions. One file, one method."""

from typing import Any

from envs.discovery import exported
from shaping.intervention import Constraint


def __getattr__(name: str) -> Any:
    return exported(__name__, Constraint, name)
