"""The organisms that come with the package, so that every machine starts from the same weights."""

from __future__ import annotations

from pathlib import Path

from shaping.organisms.card import CARD

COUNT = 4
"""Organisms in the package; they differ in their seeds alone."""
WEIGHTS = Path(__file__).with_name("weights")
"""Folder of their directories."""


def shipped(number: int) -> Path:
    """The directory of organism `number`. Raises `FileNotFoundError` if the package does not hold it."""
    path = WEIGHTS / f"organism-{number}"
    if not (path / CARD).is_file():
        raise FileNotFoundError(
            f"organism {number} of {COUNT} is not in this package ({path.name}/{CARD} is missing below "
            f"{WEIGHTS.name}/): install it whole, or make one with `model: {{organism: {{}}}}`"
        )
    return path
