"""The sections of a study's report: found by their names before anything runs."""

from __future__ import annotations

from typing import Any

from launch.config.plugins import SECTION, PluginError, builtins, find_class, installed
from launch.config.study import StudyConfig


def find_sections(study: StudyConfig) -> list[Any]:
    """One `launch.report.sections.base.Section` per name that the study lists; without a list all, by position.

    Raises `PluginError` for a name that is none.
    """
    if not study.report.sections:
        names = [*builtins(SECTION), *installed(SECTION)]
        return sorted((find_class(name, SECTION)() for name in names), key=lambda section: section.position)
    return [_find(name, f"report.sections.{index}") for index, name in enumerate(study.report.sections)]


def check_sections(study: StudyConfig) -> None:
    """Find the sections that the study lists. Raises `PluginError`."""
    if study.report.sections:
        find_sections(study)


def _find(name: str, where: str) -> Any:
    try:
        return find_class(name, SECTION)()
    except PluginError as error:
        raise PluginError(f"{where}: {error}") from error.__cause__
