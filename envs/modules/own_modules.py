"""Modules of the user's: beside a study's file, in the working directory, or named by their path.

A plug-in is named `package.module:Class`, or `./folder/module.py:Class`. Folders are searched after everything that is
installed, so that no file there can take the place of an installed module. The framework's own packages have common
names (`envs`, `rewards`): a file of the user's that one of them hides is an error, and never another class in silence.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import sys
import threading
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from types import ModuleType
from typing import Any

OURS = ("envs", "rewards", "shaping", "launch")
"""The framework's packages."""
ROOT = Path(__file__).resolve().parents[2]
"""The folder that holds them."""
_beside: dict[str, None] = {}
_loading = threading.RLock()
_by_path: dict[str, str] = {}
"""Name of a module that was loaded by its path -> how configs named the file."""


class OwnModuleError(ImportError):
    """A module of the user's is not found, is hidden by another one, or lacks the class."""


def look_beside(folder: Path) -> None:
    """Search this folder, too: it holds a study's file."""
    if folder.resolve() != ROOT / "launch" / "studies":
        _beside[str(folder.resolve())] = None
        extend_search_path()


def extend_search_path() -> None:
    """Put the folders that are searched at the end of `sys.path`, which workers are sent."""
    for folder in _folders():
        if folder not in sys.path:
            sys.path.append(folder)


def _folders() -> list[str]:
    return list(dict.fromkeys([*_beside, os.getcwd()]))


def is_path(use: str) -> bool:
    """Does this name a plug-in by the path of its file (`./envs/market.py:Market`)?"""
    return use.rpartition(":")[0].endswith(".py")


def split(use: str) -> tuple[str, str]:
    """(module or path, class) of `package.module:Class` or `./module.py:Class`."""
    module, _, name = use.rpartition(":") if is_path(use) else use.partition(":")
    return module, name


def named(kind: type) -> str:
    """What a config calls a class that is not built in."""
    return f"{_by_path.get(kind.__module__, kind.__module__)}:{kind.__qualname__}"


def module_name(module: str) -> str:
    """The name in `sys.modules` of what `split` gives: a file that is named by its path has one of its own."""
    if not module.endswith(".py"):
        return module
    digest = blake2b(str(find_file(module)).encode(), digest_size=4).hexdigest()
    return f"{Path(module).stem}_{digest}"


def find_file(path: str) -> Path:
    """The file of a path: beside the study, in the working directory, or in a folder that another process sent.

    Raises: `OwnModuleError` if there is none.
    """
    if Path(path).is_absolute():
        places = [Path(path)]
    else:
        places = [Path(folder) / path for folder in dict.fromkeys([*_folders(), *filter(None, sys.path)])]
    if (found := next((place for place in places if place.is_file()), None)) is None:
        raise OwnModuleError(
            f"there is no file {path!r}, neither beside the study's file nor in the working directory {os.getcwd()}"
        )
    return found.resolve()


def import_module(module: str, name: str = "Class") -> ModuleType:
    """Import `package.module`, or a file by its path; `name` is that of the wanted class, for messages.

    Raises: `OwnModuleError` that names both files if a file of the user's is hidden by a module of the framework or by
    another file of the user's, and whatever the module raises.
    """
    extend_search_path()
    importlib.invalidate_caches()
    if not module.endswith(".py"):
        _refuse_hidden(module, name)
        return _imported(module) or importlib.import_module(module)
    with _loading:
        return sys.modules.get(module_name(module)) or _loaded(module)


def _loaded(path: str) -> ModuleType:
    file, name = find_file(path), module_name(path)
    if (folder := str(file.parent)) not in sys.path:
        sys.path.append(folder)  # its neighbours, as a script finds them
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None  # the name ends in .py
    made = importlib.util.module_from_spec(spec)
    sys.modules[name], _by_path[name] = made, path
    try:
        spec.loader.exec_module(made)
    except BaseException:
        del sys.modules[name]
        raise
    return made


def _imported(name: str) -> ModuleType | None:
    """A module whose import is over. While another thread still imports one, it lacks classes."""
    module = sys.modules.get(name)
    return None if getattr(getattr(module, "__spec__", None), "_initializing", False) else module


def _refuse_hidden(module: str, name: str) -> None:
    """Raise `OwnModuleError` if a file of the user's has this name, and Python takes another one."""
    top, own = module.partition(".")[0], list(_own_files(module))
    if own and top in OURS:
        raise OwnModuleError(
            f"{own[0]} is hidden by the framework's own package {top!r} ({ROOT / top}): rename your file or folder, or "
            f"name it by its path, {_path_of(own[0])}:{name}"
        )
    if len(own) > 1:
        raise OwnModuleError(
            f"{own[0]} and {own[1]} are both called {module!r}: rename one, or name the one you mean by its path, "
            f"{_path_of(own[0])}:{name}"
        )


def hidden_by(module: str, name: str, found: ModuleType) -> str:
    """Which file of the user's an installed module has been taken for, as the end of a sentence; empty if none."""
    taken = Path(getattr(found, "__file__", None) or "")
    other = [file for file in _own_files(module) if file != taken.resolve()]
    if not other:
        return ""
    return f"; {other[0]} is hidden by {taken}: rename it, or name it by its path, {_path_of(other[0])}:{name}"


def _own_files(module: str) -> Iterator[Path]:
    """Files of this name in the folders that are searched, each once, without those of the framework."""
    parts, seen = module.split("."), set()
    for folder in _folders():
        for name in (Path(*parts).with_suffix(".py"), Path(*parts, "__init__.py"), Path(f"{parts[0]}.py")):
            file = (Path(folder) / name).resolve()
            ours = parts[0] in OURS and file.is_relative_to(ROOT / parts[0])
            if file.is_file() and not ours and file not in seen:
                seen.add(file)
                yield file
                break


def _path_of(file: Path) -> str:
    """A file as a config names it."""
    for folder in _folders():
        if file.is_relative_to(folder):
            return f"./{file.relative_to(folder).as_posix()}"
    return str(file)


def import_class(use: str) -> Any:
    """What `package.module:Class` or `./module.py:Class` names. Raises: `OwnModuleError`, or what the module raises."""
    module, name = split(use)
    return class_in(import_module(module, name), module, name)


def class_in(found: ModuleType, module: str, name: str) -> Any:
    """What a module that `split` names calls `name`. Raises: `OwnModuleError` if there is nothing."""
    try:
        return getattr(found, name)
    except AttributeError:
        classes = [each for each, value in vars(found).items() if isinstance(value, type)]
        close = difflib.get_close_matches(name, classes, n=1, cutoff=0.55)
        said = (
            f" (did you mean {close[0]!r}?)" if close else f" (valid: {', '.join(sorted(classes))})" if classes else ""
        )
        raise OwnModuleError(f"{module} has no class {name!r}{said}{hidden_by(module, name, found)}") from None


def not_found(error: BaseException, module: str) -> str:
    """Where a module was looked for, as the end of a sentence; empty if it was found, and its import failed."""
    name = error.name if isinstance(error, ModuleNotFoundError) else None
    if name is None or not f"{module}.".startswith(f"{name}."):
        return ""
    return f"; it is neither installed nor in {' or '.join(_folders())}: start there, or name the file by its path"
