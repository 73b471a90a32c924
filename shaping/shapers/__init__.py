"""Shapers bias motivations and leave every action and every reward reachable. One file, one method."""

from typing import Any

from envs.discovery import exported
from shaping.intervention import Shaper


def __getattr__(name: str) -> Any:
    return exported(__name__, Shaper, name)
