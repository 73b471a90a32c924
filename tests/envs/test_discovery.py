"""Plug-ins are found in packages within a package, by their short names."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import shaping.shapers
from envs.discovery import exported, subclasses
from launch.config.plugins import INTERVENTION, PluginError, find_class
from shaping.intervention import Shaper

SOURCE = "from shaping.intervention import Shaper\n\n\nclass Nudge(Shaper):\n    pass\n"


@pytest.fixture
def below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder `nudges` with a shaper, below the package of shapers as far as that can tell."""
    folder = tmp_path / "nudges"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "nudge.py").write_text(SOURCE)
    monkeypatch.setattr(shaping.shapers, "__path__", [*shaping.shapers.__path__, str(tmp_path)])
    yield folder
    for name in [name for name in sys.modules if name.startswith("shaping.shapers.nudges")]:
        del sys.modules[name]


def test_a_shaper_in_a_package_within_the_package_has_a_short_name(below: Path) -> None:
    assert find_class("Nudge", INTERVENTION).__module__ == "shaping.shapers.nudges.nudge"
    assert exported("shaping.shapers", Shaper, "Nudge") is subclasses("shaping.shapers", Shaper)["Nudge"]
    with pytest.raises(PluginError, match="did you mean 'Nudge'"):
        find_class("Nudg", INTERVENTION)
    with pytest.raises(PluginError, match=r"valid: .*Nudge"):
        find_class("Xyzzyqwrt", INTERVENTION)


def test_a_folder_of_modules_that_is_no_package_is_refused_by_name(below: Path) -> None:
    (below / "__init__.py").unlink()
    with pytest.raises(ValueError, match=r"nudges holds modules but no __init__\.py: add one"):
        subclasses("shaping.shapers", Shaper)
