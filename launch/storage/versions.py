"""The software of a run, recorded in run.json: Python, packages, machine, and the source of this framework."""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("envs", "rewards", "shaping", "launch")


def pins() -> dict[str, str]:
    """Package -> version pinned in pyproject.toml; empty where the code is used without being installed."""
    try:
        lines = requires("shaping") or []
    except PackageNotFoundError:
        return {}
    matches = (re.match(r"^([A-Za-z0-9_.-]+)==([^;\s]+)$", line) for line in lines)
    return {match[1]: match[2] for match in matches if match}


def installed_version(package: str) -> str | None:
    """The installed version of a package, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@cache
def source_hash() -> str:
    """Hash of every Python file of the framework."""
    source = hashlib.blake2b(digest_size=16)
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            source.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return source.hexdigest()


@cache
def versions() -> Mapping[str, Any]:
    """Versions of everything that may change the results of a run."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "packages": {package: installed_version(package) for package in sorted({"shaping", *pins()})},
        "source": source_hash(),
    }


IGNORED_KEYS = ("name", "output", "report", "tracking", "gauge", "isolated")
"""Keys that do not affect results: the place of a study, what its report shows, its trackers, its processes."""


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Keys whose values differ, as `key: old -> new`; those of `IGNORED_KEYS` are ignored."""
    old, new = _flat(before), _flat(now)
    keys = [key for key in [*old, *(key for key in new if key not in old)] if key.split(".")[0] not in IGNORED_KEYS]
    missing = "(absent)"
    return [
        f"{key}: {old.get(key, missing)!r} -> {new.get(key, missing)!r}"
        for key in keys
        if old.get(key, missing) != new.get(key, missing)
    ]


def _flat(value: Any, key: str = "") -> dict[str, Any]:
    """Nested values by dotted key."""
    if isinstance(value, Mapping) and value:
        items: list[tuple[str, Any]] = [(str(name), item) for name, item in value.items()]
    elif isinstance(value, list) and value:
        items = [(str(index), item) for index, item in enumerate(value)]
    else:
        return {key: value}
    return {k: v for name, item in items for k, v in _flat(item, f"{key}.{name}" if key else name).items()}
