"""Classes of a file that is named by its path: `./envs/market.py:Market`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any


def is_path(module: str) -> bool:
    """Does a config name a file, and not a module?"""
    return module.endswith(".py")


def module_at(path: str) -> ModuleType:
    """The module of the file, under the name of the file; imported once. Raises `ImportError` if there is none.

    Its folder is searched for modules, too, so that files beside it can be imported. A module that has been imported
    under the same name from another file is never replaced, and no error hides it.
    """
    file = Path(path).expanduser().resolve()
    if not file.is_file():
        raise ImportError(f"there is no file {path}")
    if (there := sys.modules.get(file.stem)) is not None:
        if Path(str(getattr(there, "__file__", "") or "")).resolve() == file:
            return there
        raise ImportError(
            f"{path} would be the module {file.stem!r}, and that is imported already from "
            f"{getattr(there, '__file__', None) or 'Python itself'}: rename the file"
        )
    if (folder := str(file.parent)) not in sys.path:
        sys.path.append(folder)  # last: a file there must not shadow an installed module
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module: Any = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[file.stem]
        raise
    return module
