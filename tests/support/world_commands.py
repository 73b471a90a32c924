"""Shared by the tests of single worlds: commands given by hand."""

from __future__ import annotations

from typing import Any

from envs.core import TextEnv
from envs.episode import Labels


def play(env: TextEnv, *commands: str) -> list[tuple[str, float, Labels, dict[str, Any]]]:
    """(observation, reward, labels, info) of each command."""
    record = []
    for command in commands:
        text, reward, _, _, info = env.step(f"ACTION: {command}")
        record.append((text, float(reward), info["labels"], info))
    return record
