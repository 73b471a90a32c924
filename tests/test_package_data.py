"""What a wheel holds besides code: type markers and templates."""

from __future__ import annotations

from pathlib import Path

import pytest
from setuptools import Distribution

ROOT = Path(__file__).resolve().parents[1]


def test_every_package_ships_its_types_and_templates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    built = Distribution()
    built.parse_config_files(["pyproject.toml"])
    command = built.get_command_obj("build_py")
    command.ensure_finalized()
    shipped = {f"{package}/{name}" for package, _, _, names in command.data_files for name in names}
    assert {f"{package}/py.typed" for package in ("envs", "rewards", "shaping", "launch")} <= shipped
    templates = {path.relative_to(ROOT) for path in (ROOT / "launch").rglob("*.j2")}
    held = {Path(package.replace(".", "/")) / name for package, _, _, names in command.data_files for name in names}
    assert templates <= held
