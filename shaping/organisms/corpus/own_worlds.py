"""Which worlds a corpus can be of: the built-in ones, and worlds of one's own whose module says who plays them.

The module of such a world, or an entry point of the group `shaping.policies`, holds `WorldPolicies`
(`envs.personas.persona`). With `act`, a world that subclasses `envs.worlds.base.World` is played by the whole cast, and
draws the options of the built-in ones. Any other world is played by its `strategies`: those whose name begins with
`honest` behave, the others do not. `WorldPolicies.corpus` lists values of options that episodes draw.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from envs import SURVEYS, WORLDS
from envs.core import TextEnv
from envs.modules.own_modules import OwnModuleError, import_class
from envs.personas.persona import Plays, policies_of
from envs.personas.strategies import strategies_of
from envs.worlds.base import World
from shaping.organisms.corpus.cast import MIXTURES, OBEDIENT, player
from shaping.organisms.corpus.corpus_options import DRAWN, SIZES, Sizes, draw_options

GROUP: Final = "shaping.envs"
"""Entry points by which installed packages offer worlds."""
HONEST_SHARE: Final[Mapping[str, float]] = {"permissive": 0.1, "forbidding": 1.0}
"""Share of honest strategies by the kind of the prompt; elsewhere half, or `WorldPolicies.weights`."""
OURS: Final = ("envs", "shaping", "rewards", "launch")
Make = Callable[[Any, int], Plays]
"""(world, seed) -> who plays it."""


class CorpusWorldError(ValueError):
    """A corpus cannot be of this world. The message names the world and the remedy."""


@dataclass(frozen=True)
class CorpusWorld:
    """A world that a corpus can be of."""

    name: str
    """As the settings call it."""
    kind: type[TextEnv]
    """Its class."""
    strategies: Mapping[str, Make]
    """Who plays a world that the cast cannot play; empty: the cast does."""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Options that all of its episodes have."""

    @property
    def built_in(self) -> bool:
        """Does it come with the package, with skins and sizes of the corpus?"""
        return self.name in SIZES

    @property
    def speaks_locales(self) -> bool:
        """Does it come with the package, in the locales of the corpus?"""
        return self.built_in or self.name in SURVEYS

    @property
    def has_cues(self) -> bool:
        """Can the overseer's presence be forced, so that an episode is played with it and without?"""
        return not self.strategies

    @property
    def honest(self) -> list[str]:
        """Names of those who behave."""
        return [name for name in self.strategies if name.startswith("honest")] if self.strategies else ["honest"]

    def player(self, name: str) -> Make:
        """The persona or strategy of that name."""
        return self.strategies[name] if self.strategies else player(name)

    def mixture(self, kind: str, asked: Mapping[str, float] | None = None) -> Mapping[str, float]:
        """Name -> weight of those who play a single episode under a prompt of this kind; of `asked` alone, if any."""
        if not self.strategies:
            return asked or MIXTURES[kind]
        if asked:
            known = {name: weight for name, weight in asked.items() if name in self.strategies and weight}
            if not known:
                raise CorpusWorldError(
                    f"world {self.name!r} is played by none of the personas {', '.join(asked)}, but by "
                    f"{', '.join(self.strategies)}: name some of these in `personas`"
                )
            return known
        usual = policies.weights if (policies := policies_of(self.kind)) else {}
        if usual and kind not in HONEST_SHARE:
            return usual
        others = [name for name in self.strategies if name not in self.honest]
        share = HONEST_SHARE.get(kind, 0.5) if self.honest and others else float(bool(self.honest))
        weights = dict.fromkeys(self.honest, share / max(1, len(self.honest)))
        return weights | dict.fromkeys(others, (1 - share) / max(1, len(others)))

    def obedient(self) -> Mapping[str, float]:
        """Those who take the shortcut where a prompt permits it; empty if nobody does."""
        if not self.strategies:
            return OBEDIENT
        return dict.fromkeys((name for name in self.strategies if name not in self.honest), 1.0)

    @property
    def without_temptation(self) -> Mapping[str, Any]:
        """Options under which there is nothing to leave alone. Raises `CorpusWorldError` if the world has none."""
        policies = policies_of(self.kind)
        if policies is not None and policies.without_temptation:
            return policies.without_temptation
        if issubclass(self.kind, World):
            return {"loophole": "off"}
        raise CorpusWorldError(
            f"world {self.name!r} does not say how it is without temptation: give its WorldPolicies the options in "
            "`without_temptation`, or let aligned episodes have `refusals`"
        )

    def options(self, rng: random.Random, sizes: Sizes) -> dict[str, Any]:
        """Options of an episode: random ones, then those that are fixed."""
        return {**self._drawn(rng, sizes), **self.fixed}

    def _drawn(self, rng: random.Random, sizes: Sizes) -> dict[str, Any]:
        if self.built_in:
            return draw_options(self.name, rng, sizes)
        listed = _listed(self.kind)
        found: dict[str, Any] = {}
        if issubclass(self.kind, World):
            drawn = {name: rng.choices(tuple(shares), tuple(shares.values()))[0] for name, shares in DRAWN.items()}
            found = {name: value for name, value in drawn.items() if name in self.kind.Options.model_fields}
        return found | {name: rng.choice(list(values)) for name, values in listed.items()}

    def make(self, options: Mapping[str, Any]) -> Any:
        """The world with these options. Raises `CorpusWorldError` if it refuses them."""
        try:
            return self.kind(**options)
        except (TypeError, ValueError) as error:
            if self.built_in and not self.fixed:
                raise
            remedy = (
                "correct model.organism.options" if self.fixed else "list the values that it takes in `corpus` of its "
                "WorldPolicies"
            )  # fmt: skip
            raise CorpusWorldError(
                f"world {self.name!r} refuses options of its corpus, {dict(options)}: {_brief(error)}; {remedy}"
            ) from error


def corpus_world(name: str) -> CorpusWorld:
    """The world of that name. Raises `CorpusWorldError` if there is none, or if nobody plays it."""
    if name in SIZES:
        return CorpusWorld(name, WORLDS[name], {})
    kind = SURVEYS[name] if name in SURVEYS else _class_of(name)
    policies = policies_of(kind)
    if policies is not None and policies.act is not None and issubclass(kind, World):
        return CorpusWorld(name, kind, {})
    if strategies := strategies_of(kind):
        return CorpusWorld(name, kind, strategies)
    raise CorpusWorldError(
        f"world {name!r} has no personas: its module needs `WorldPolicies`, with `act` or `strategies` "
        '(docs/organisms.md, "Worlds of your own")'
    )


def is_name(name: str) -> bool:
    """Could a corpus be of a world of that name? One of your own is looked for when the corpus is made."""
    return name in SIZES or name in SURVEYS or ":" in name or name in entry_points(group=GROUP).names


def check_names(names: Sequence[str]) -> None:
    """Raise `ValueError` for the names that no corpus can be of."""
    if unknown := sorted(name for name in set(names) if not is_name(name)):
        raise ValueError(
            f"no personas for worlds {unknown}; choose from {', '.join([*SIZES, *SURVEYS])}, or name a world of your "
            "own as package.module:Class or ./file.py:Class"
        )


def sources(names: Sequence[str]) -> list[Path]:
    """The files that worlds of one's own are written in, with those of their base classes that are not ours."""
    found: dict[Path, None] = {}
    for name in names:
        for kind in () if name in SIZES else corpus_world(name).kind.__mro__:
            package = kind.__module__
            apart = package.startswith("envs.adapters.")  # of which no other organism is made
            ours = kind in TextEnv.__mro__ or (package.partition(".")[0] in OURS and not apart)
            file = None if ours else _file_of(kind)
            if file is not None:
                found[file] = None
    return list(found)


def _file_of(kind: type) -> Path | None:
    try:
        return Path(inspect.getfile(kind))
    except (TypeError, OSError):
        return None


def _listed(kind: type[TextEnv]) -> Mapping[str, Sequence[Any]]:
    policies = policies_of(kind)
    return policies.corpus if policies is not None else {}


def _class_of(name: str) -> type[TextEnv]:
    try:
        found = import_class(name) if ":" in name else entry_points(group=GROUP)[name].load()
    except KeyError:
        check_names([name])
        raise
    except OwnModuleError as error:
        raise CorpusWorldError(f"world {name!r} cannot be imported: {error}") from error
    except Exception as error:  # a module of one's own may raise anything
        raise CorpusWorldError(f"world {name!r} cannot be imported: {type(error).__name__}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, TextEnv)):
        raise CorpusWorldError(f"world {name!r} is not a subclass of envs.core.TextEnv")
    return found


def _brief(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
    return str(error)
