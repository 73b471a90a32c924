"""Warnings that are worth one line per process, however often what they tell of happens."""

from __future__ import annotations

import logging

_told: set[str] = set()


def log_once(logger: logging.Logger, line: str) -> None:
    """Log a warning the first time that it is given in this process."""
    if line not in _told:
        _told.add(line)
        logger.warning("%s", line)
