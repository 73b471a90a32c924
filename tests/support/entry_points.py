"""Entry points of other packages, without the packages."""

from __future__ import annotations


class EntryPoint:
    """What `importlib.metadata` finds: it loads `found`, or raises it if it is an exception."""

    value = "elsewhere:Thing"

    def __init__(self, name: str, found: object) -> None:
        self.name, self.found = name, found

    def load(self) -> object:
        if isinstance(self.found, Exception):
            raise self.found
        return self.found
