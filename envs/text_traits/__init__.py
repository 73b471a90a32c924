"""Traits of text that a rule can see: no judge is needed to say whether an answer has one.

A module of this package that holds a `TextTrait` at its top level adds it; no list names them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from envs.discovery import Discovered, by_name, instances
from envs.text_traits.trait import TextTrait

TEXT_TRAITS: Final[Mapping[str, TextTrait]] = Discovered(
    lambda: by_name(instances("envs.text_traits", TextTrait), lambda trait: trait.name)
)
"""Name -> trait."""


def text_trait(name: str) -> TextTrait:
    """The trait of that name. Raises ValueError for a trait that no scorer knows."""
    if name not in TEXT_TRAITS:
        raise ValueError(f"no scorer knows the trait {name!r}; there are {', '.join(TEXT_TRAITS)}")
    return TEXT_TRAITS[name]
