"""What a wheel holds besides code: type markers and templates."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_every_package_ships_its_types_and_templates() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    data = settings["tool"]["setuptools"]["package-data"]
    held = {path for package, patterns in data.items() for each in patterns for path in (ROOT / package).glob(each)}
    assert {ROOT / package / "py.typed" for package in ("envs", "rewards", "shaping", "launch")} <= held
    assert set((ROOT / "launch").rglob("*.j2")) <= held
