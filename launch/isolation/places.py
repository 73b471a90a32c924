"""Files that an isolated plug-in may read: Python, packages, and modules beside it. Never the output of studies."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
"""The folder that holds the packages of this project."""
PACKAGES = ("envs", "rewards", "shaping", "launch")
MODULES = (".py", ".so", ".pyc")
_DEEPEST = 64


def installed() -> list[Path]:
    """Folders of Python, its packages, and this project."""
    return [Path(sys.prefix), Path(sys.base_prefix), *(PROJECT / name for name in PACKAGES)]


def without(place: Path, hidden: Path, depth: int = 0) -> Iterator[Path]:
    """`place`, or the parts of it that do not lead to `hidden`, if that is below."""
    place = place.resolve()
    if place == hidden or hidden in place.parents or depth > _DEEPEST:
        return
    if place not in hidden.parents:
        yield place
        return
    for child in sorted(place.iterdir()):
        yield from without(child, hidden, depth + 1)


def modules_in(folder: Path, hidden: Path) -> list[Path]:
    """The modules and packages in a folder of plug-ins. All else stays out of reach: data, results, hidden files."""
    try:
        children = sorted(folder.iterdir())
    except OSError:
        return []
    named = [c for c in children if c.name.partition(".")[0].isidentifier()]
    found = [c for c in named if c.suffix in MODULES or ("." not in c.name and _holds_modules(c))]
    return [c for c in found if list(without(c, hidden)) == [c.resolve()]]


def _holds_modules(folder: Path) -> bool:
    return any(True for pattern in ("*.py", "*/*.py") for _ in folder.glob(pattern))


def linked(search_path: Sequence[str], inside: Path, hidden: Path) -> tuple[list[str], list[Path]]:
    """The search path of the isolated process, and the files that it may read because of it.

    Folders of Python and of installed packages stay as they are. For any other folder `inside` gets one with links to
    its modules and packages: the process can list the links, and nothing else of the folder.
    """
    known = [place.resolve() for place in installed()]
    path: list[str] = []
    readable: list[Path] = []
    for number, entry in enumerate(dict.fromkeys(os.path.abspath(entry) for entry in search_path)):
        folder = Path(entry).resolve()
        if any(place == folder or place in folder.parents for place in known):
            path.append(entry)
        elif folder.is_file():  # a zip file
            path.append(entry)
            readable += without(folder, hidden)
        elif found := modules_in(folder, hidden):
            links = inside / f"modules-{number}"
            links.mkdir(parents=True)
            for child in found:
                (links / child.name).symlink_to(child.resolve())
            path.append(str(links))
            readable += (child.resolve() for child in found)
    return path, readable
