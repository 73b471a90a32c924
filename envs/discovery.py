"""Finding plug-ins by scanning a package: a new one is one new file, and no list anywhere names it."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import TypeVar

T = TypeVar("T")


def modules(package: str) -> Iterator[ModuleType]:
    """Every module of `package` and of the packages in it, in the order of their names. All are imported."""
    root = importlib.import_module(package)
    for info in sorted(pkgutil.walk_packages(root.__path__, f"{package}."), key=lambda info: info.name):
        yield importlib.import_module(info.name)


def subclasses(package: str, base: type[T]) -> dict[str, type[T]]:
    """Class name -> every public, concrete subclass of `base` that a module of `package` defines itself.

    Raises ValueError where two modules define classes of one name.
    """
    found: dict[str, type[T]] = {}
    for module in modules(package):
        for name, member in vars(module).items():
            own = inspect.isclass(member) and member.__module__ == module.__name__ and issubclass(member, base)
            if not own or member is base or name.startswith("_") or inspect.isabstract(member):
                continue
            if name in found:
                raise ValueError(f"{found[name].__module__} and {module.__name__} both define {name}: rename one")
            found[name] = member
    return found


def instances(package: str, kind: type[T]) -> list[T]:
    """Every module-level public value of type `kind` in `package`, in the order of modules and of their lines."""
    found: list[T] = []
    for module in modules(package):
        for name, member in vars(module).items():
            if isinstance(member, kind) and not name.startswith("_") and not any(member is other for other in found):
                found.append(member)
    return found
