"""What a run depends on: packages, Python, machine and our own source, recorded in run.json."""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("envs", "rewards", "shaping", "launch")


def pins() -> dict[str, str]:
    """Package -> the version that pyproject.toml pins."""
    found = (re.match(r"^([A-Za-z0-9_.-]+)==([^;\s]+)$", line) for line in requires("shaping") or ())
    return {match[1]: match[2] for match in found if match}


def installed_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@cache
def source_hash() -> str:
    """Hash of every Python file of the framework."""
    found = hashlib.blake2b(digest_size=16)
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            found.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()


@cache
def versions() -> Mapping[str, Any]:
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "packages": {package: installed_version(package) for package in sorted({"shaping", *pins()})},
        "source": source_hash(),
    }
