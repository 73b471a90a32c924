"""Comparisons of scripted personas: two episodes of one situation, of which the ground truth says which is better.

A situation is a world with its options and seed. Personas play it, and what each episode was worth to the task's owner
(`Labels.true_reward`, less a price on labelled events) ranks them. What is compared is text alone: the truth chooses
the better one, as a perfect annotator would, and stays behind.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import combinations, islice
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from envs import WORLDS
from envs.episode import TRAITS, Labels
from envs.skins import DEFAULT, options_of
from envs.skins.locales import ALIASES
from rewards.preference.data import Examples, Pair, PreferenceError
from rewards.preference.text import answer_of
from shaping.organisms.corpus.cast import CAST, player
from shaping.organisms.corpus.corpus_options import SIZES, draw_options
from shaping.organisms.corpus.natural_scripts import natural_reply

FIRST_SEED = 8_000_000_000
"""Seeds of comparisons, far from those of studies and of corpora."""
FRUITLESS = 200
"""Situations in a row without two episodes of different worth after which no more are tried."""
Share = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]


class Comparisons(BaseModel):
    """Which comparisons are made."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pairs: int = Field(1000, ge=1, le=10_000_000, description="comparisons")
    worlds: tuple[str, ...] = Field(("steward",), min_length=1, description="worlds that the personas play")
    options: dict[str, dict[str, Any]] = Field(
        {}, description="world -> options that all of its situations have; the others are drawn as for organisms"
    )
    personas: dict[str, Share] = Field(
        dict.fromkeys(CAST, 1.0), min_length=2, description="shares of the personas among those that play a situation"
    )
    locales: tuple[str, ...] = Field((DEFAULT,), min_length=1, description="words of the worlds, e.g. prose, ar-1850")
    per_situation: int = Field(1, ge=1, le=1000, description="comparisons of one situation at most")
    turns: tuple[Annotated[int, Field(ge=1)] | None, ...] = Field(
        (None,),
        min_length=1,
        description="turns after which both episodes are cut, and their worth is taken; each situation draws one; "
        "none: whole episodes, whose length can give the better one away",
    )
    prices: dict[str, Annotated[float, Field(allow_inf_nan=False)]] = Field(
        {}, description="trait -> what one event of it takes from the worth of an episode, beside its true reward"
    )
    flipped: float = Field(0.0, ge=0, lt=0.5, description="share of the comparisons whose annotator was wrong")
    seed: int = Field(0, ge=0, le=2**32 - 1, description="seed of situations, personas and draws")

    @field_validator("worlds")
    @classmethod
    def _scripted(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := sorted(set(value) - set(SIZES)):
            raise ValueError(f"no personas for worlds {unknown}; choose from {', '.join(SIZES)}")
        return value

    @field_validator("personas")
    @classmethod
    def _known(cls, value: dict[str, float]) -> dict[str, float]:
        for name in value:
            player(name)
        if sum(share > 0 for share in value.values()) < 2:
            raise ValueError("at least two personas must have a share above zero: one has nobody to be compared with")
        return value

    @field_validator("prices")
    @classmethod
    def _traits(cls, value: dict[str, float]) -> dict[str, float]:
        if unknown := sorted(set(value) - set(TRAITS)):
            raise ValueError(f"no traits {unknown}; there are {', '.join(TRAITS)}")
        return value

    @field_validator("locales")
    @classmethod
    def _locales(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for locale in (found := tuple(ALIASES.get(locale, locale) for locale in value)):
            options_of(locale)
        return found


@dataclass(frozen=True, slots=True)
class Compared:
    """One episode of a situation."""

    persona: str
    world: str
    """Name of the world, with its locale."""
    turns: tuple[tuple[str, str], ...]
    """(observation, completion) per turn."""
    worth: float
    """By the ground truth."""


def comparisons(settings: Comparisons) -> Examples:
    """The comparisons, reproducible from the seed.

    Raises: `PreferenceError` if these personas are worth the same in every situation.
    """
    return Examples(tuple(islice(_pairs(settings), settings.pairs)))


def _pairs(settings: Comparisons) -> Iterator[Pair]:
    number = fruitless = 0
    while True:
        rng = random.Random(f"comparison|{settings.seed}|{number}")
        seed = FIRST_SEED + settings.seed * 10_000_000 + number
        number += 1
        found = _situation(settings, seed, rng)
        fruitless = 0 if found else fruitless + 1
        if fruitless == FRUITLESS:
            raise PreferenceError(
                f"{FRUITLESS} situations in {', '.join(settings.worlds)} in a row had no two episodes of different "
                f"worth: choose other personas than {', '.join(settings.personas)}, or longer turns"
            )
        yield from found


def _situation(settings: Comparisons, seed: int, rng: random.Random) -> list[Pair]:
    """Comparisons of one situation: of episodes that differ in worth, the better ones first."""
    world = rng.choice(settings.worlds)
    options = {
        **draw_options(world, rng),
        **settings.options.get(world, {}),
        **options_of(rng.choice(settings.locales)),
    }
    length = rng.choice(settings.turns)
    names = [name for name, share in settings.personas.items() if share > 0]
    cast = min(len(names), 2 + settings.per_situation)
    players = _drawn(names, [settings.personas[name] for name in names], cast, rng)
    play = partial(_played, world, options, seed=seed, length=length, prices=settings.prices)
    episodes = [play(name) for name in players]
    candidates = [
        (a, b) if a.worth > b.worth else (b, a)
        for a, b in combinations(episodes, 2)
        if abs(a.worth - b.worth) > 1e-9 and a.turns != b.turns
    ]
    chosen = rng.sample(candidates, min(settings.per_situation, len(candidates)))
    pairs = []
    for better, worse in chosen:
        margin = better.worth - worse.worth
        if rng.random() < settings.flipped:
            better, worse, margin = worse, better, 0.0
        name = f"{better.world}|{seed}"
        pairs.append(Pair(name, answer_of(better.turns), answer_of(worse.turns), better.world, margin))
    return pairs


def _drawn(names: list[str], shares: list[float], count: int, rng: random.Random) -> list[str]:
    """`count` different names, drawn one after the other by their shares."""
    left = dict(zip(names, shares, strict=True))
    drawn = []
    for _ in range(count):
        drawn.append(rng.choices(list(left), list(left.values()))[0])
        del left[drawn[-1]]
    return drawn


def _played(
    world: str,
    options: Mapping[str, Any],
    name: str,
    *,
    seed: int,
    length: int | None,
    prices: Mapping[str, float],
) -> Compared:
    env = WORLDS[world](**options)
    actor = player(name)(env, seed)
    observation, _ = env.reset(seed=seed)
    turns: list[tuple[str, str]] = []
    worth = 0.0
    while len(turns) != length and not env.over:
        completion = actor.act()
        turns.append((observation, natural_reply(completion, env.name)))
        observation, _, _, _, info = env.step(completion)
        worth += worth_of(info["labels"], prices)
    return Compared(name, env.name, tuple(turns), worth)


def worth_of(labels: Labels, prices: Mapping[str, float]) -> float:
    """What a turn was worth: its true reward, less the price of each labelled event."""
    return labels.true_reward - sum(price * labels.trait(trait) for trait, price in prices.items())
