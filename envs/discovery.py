"""Finding plug-ins by scanning a package: a new one is one new file, and no list anywhere names it."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import TypeVar

T = TypeVar("T")


def modules(package: str) -> Iterator[ModuleType]:
    """Every module of `package` and of the packages in it, in the order of their names. All are imported.

    Raises ValueError for a folder of modules that is no package: nothing in it would be found, nor installed.
    """
    root = importlib.import_module(package)
    for folder in root.__path__:
        for found in sorted(Path(folder).rglob("*.py")):
            if found.parent != Path(folder) and not (found.parent / "__init__.py").is_file():
                raise ValueError(f"{found.parent} holds modules but no __init__.py: add one, or none of them is found")
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


def exported(package: str, base: type, name: str) -> type:
    """For `__getattr__` of a package: `from package import Name`, whichever of its modules defines the class.

    Names that begin with an underscore, for which Python asks a package at every turn, scan nothing.
    """
    found: dict[str, type] = {} if name.startswith("_") else subclasses(package, base)
    if name not in found:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    return found[name]


def instances(package: str, kind: type[T]) -> list[T]:
    """Every module-level public value of type `kind` in `package`, in the order of modules and of their lines."""
    found: list[T] = []
    for module in modules(package):
        for name, member in vars(module).items():
            if isinstance(member, kind) and not name.startswith("_") and not any(member is other for other in found):
                found.append(member)
    return found


class Discovered(Mapping[str, T]):
    """Name -> plug-in. The first look-up scans the package: plug-ins may import the module that holds the mapping."""

    def __init__(self, find: Callable[[], Mapping[str, T]]) -> None:
        self._find = find
        self._found: Mapping[str, T] | None = None

    def __getitem__(self, name: str) -> T:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def forget(self) -> None:
        """Scan again at the next look-up: a module was added since."""
        self._found = None

    def _all(self) -> Mapping[str, T]:
        if self._found is None:
            self._found = self._find()
        return self._found


def by_name(found: Iterable[T], name: Callable[[T], str]) -> dict[str, T]:
    """`found` under their names. Raises ValueError where two have the same."""
    named: dict[str, T] = {}
    for each in found:
        if (key := name(each)) in named:
            raise ValueError(f"two plug-ins are called {key!r}: {named[key]!r} and {each!r}; rename one")
        named[key] = each
    return named
