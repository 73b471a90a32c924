"""The code of the plug-ins that a run uses: a hash of each source file, and the version of an installed package.

Nothing is imported: with `--isolated`, plug-ins are not to run in this process. Of classes that are imported already,
the files of their base classes count, too.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from importlib.machinery import PathFinder
from importlib.metadata import EntryPoint, packages_distributions, version
from pathlib import Path
from typing import Any

from envs.modules.own_modules import OwnModuleError, find_file, module_name, split
from launch.config.plugins import KINDS, builtins, installed
from launch.config.study import RunConfig
from launch.storage.versions import PACKAGES
from shaping.models.model_files import content_hash

Code = dict[str, Any]
"""Of one plug-in: {"files": {name: hash}}, and {"package": "name==version"} if it is installed."""


def plugin_code(run: RunConfig) -> dict[str, Code]:
    """Name in the config -> code, for every plug-in of a run that does not ship with the framework."""
    found = {}
    for use in sorted(set(_uses(run))):
        point = None if ":" in use else _entry_point(use)
        if ":" in use or point is not None:
            found[use] = _code(point.value if point else use, point)
    return found


def changed_code(before: Mapping[str, Code], now: Mapping[str, Code]) -> list[str]:
    """How the code of plug-ins differs, one line per plug-in and file.

    Files of base classes are compared where both sides know them: with `--isolated`, nothing is imported to tell them.
    """
    lines = []
    for use in sorted({*before, *now}):
        old, new = before.get(use, {}), now.get(use, {})
        files, others = old.get("files", {}), new.get("files", {})
        compared = set(files) & set(others) or {*files, *others}
        lines += [f"plug-in {use}: {n} differs" for n in sorted(compared) if files.get(n) != others.get(n)]
        if old.get("package") != new.get("package"):
            lines.append(f"plug-in {use}: {old.get('package')} -> {new.get('package')}")
    return lines


def _uses(run: RunConfig) -> Iterator[str]:
    """Everything that the config names as a plug-in, at any depth."""
    for worlds in (run.train.worlds, run.eval.worlds):
        yield from (name.partition("@")[0] for name in worlds)
    document = run.model_dump(mode="json")
    yield from _nested([document["arm_config"], document["context_arms"], document["eval"]["monitors"]])


def _nested(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if isinstance(value.get("use"), str):
            yield value["use"]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _nested(item)


def _entry_point(use: str) -> EntryPoint | None:
    """The entry point of that name, unless a built-in has it."""
    found = [(kind, points[use]) for kind in KINDS if use in (points := installed(kind))]
    return next((point for kind, point in found if use not in builtins(kind)), None)


def _code(use: str, point: EntryPoint | None) -> Code:
    module, name = split(use)
    files = {
        file_name: path for each in [module, *_bases(module, name)] if (file_name := _name(each, path := _file(each)))
    }
    code: Code = {"files": {file_name: content_hash(path) for file_name, path in files.items() if path is not None}}
    if point is not None and point.dist is not None:
        code["package"] = f"{point.dist.name}=={point.dist.version}"
    elif package := _package(module, _file(module)):
        code["package"] = package
    return code


def _bases(module: str, name: str) -> list[str]:
    """Modules of the base classes of a class that is imported, without those of installed packages and of ours."""
    found: Any = sys.modules.get(_loaded(module))
    for part in name.split("."):
        found = getattr(found, part, None)
    modules = [base.__module__ for base in found.__mro__] if isinstance(found, type) else []
    return [each for each in modules if each.partition(".")[0] not in PACKAGES and not _is_installed(_file(each))]


def _loaded(module: str) -> str:
    try:
        return module_name(module)
    except OwnModuleError:
        return ""


def _name(module: str, path: Path | None) -> str:
    """The name of a module's file without the folder that it is found in; by its path if that names it."""
    if path is None:
        return ""
    if module.endswith(".py"):
        return module
    return module.replace(".", "/") + ("/__init__.py" if path.name == "__init__.py" else path.suffix)


def _file(module: str) -> Path | None:
    """The file of a module, found without importing a package that it is in."""
    if module.endswith(".py"):
        with suppress(OwnModuleError):
            return find_file(module)
        return None
    path: Any = [*sys.path, os.getcwd()]
    spec = None
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        spec = PathFinder.find_spec(".".join(parts[:depth]), path)
        if spec is None:
            break
        path = spec.submodule_search_locations or []
    if spec is None and module in sys.modules:  # found by a finder of its own, as installed in editable mode
        origin = getattr(sys.modules[module], "__file__", None)
    else:
        origin = spec.origin if spec is not None else None
    return Path(origin) if origin and Path(origin).is_file() else None


def _is_installed(path: Path | None) -> bool:
    """Is it of an installed package, or of Python itself?"""
    if path is None:
        return True
    folders = {sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib")}
    return any(path.is_relative_to(folder) for folder in folders)


def _package(module: str, path: Path | None) -> str:
    """`name==version` of the installed package that a module is of."""
    names = _distributions().get(module.partition(".")[0], []) if _is_installed(path) else []
    return f"{names[0]}=={version(names[0])}" if names else ""


@cache
def _distributions() -> Mapping[str, list[str]]:
    return packages_distributions()
