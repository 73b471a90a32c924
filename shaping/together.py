"""The framework's packages have common names: a module of the user's that is found in place of one is refused."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OTHERS = ("envs", "rewards", "launch")


def stranger() -> str:
    """Which of the packages that are installed together Python would take from elsewhere; empty if none.

    Nothing is imported.
    """
    for name in OTHERS:
        if not (places := _found(name)):
            return f"the package {name!r} is not installed beside {ROOT / 'shaping'}: install the framework again"
        if not _is_ours(name, places):
            return (
                f"{places[0]} hides the framework's own package {name!r} ({ROOT / name}): rename it, or start where it "
                "is not found first (PYTHONPATH names its folder, or Python was started there); a plug-in may keep "
                "its file's name if studies name it by the path, ./module.py:Class"
            )
    return ""


def check_together() -> None:
    """Raises: `ImportError` that names both files if a module of the user's hides one of the packages.

    A worker of Ray has the driver's working directory before everything else. It is searched last there, as everywhere.
    """
    if Path(sys.argv[0] if sys.argv else "").name == "default_worker.py":
        for name in OTHERS:
            folders = {str(Path(place).parents[place.endswith("__init__.py")]) for place in _found(name)}
            if not _is_ours(name, _found(name)):
                sys.path[:] = [*(e for e in sys.path if e not in folders), *(e for e in sys.path if e in folders)]
    if fault := stranger():
        raise ImportError(fault)


def _found(name: str) -> list[str]:
    """Where Python finds a package, without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        return []
    return [spec.origin] if spec.origin else list(spec.submodule_search_locations or ())


def _is_ours(name: str, places: list[str]) -> bool:
    return any(Path(place).resolve().is_relative_to(ROOT / name) for place in places)
