"""What metrics look at: episodes that were played, by condition, with everything that is counted once kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.episode import TRAITS, Episode
from envs.frozen import freeze, frozen
from shaping.audits.conduct.rates import POWER, Rate, Tally, tally
from shaping.learning.credit.credit_parts import CreditPart

Vector = NDArray[np.float64]
Condition = tuple[str, str]
"""(watch, placebo)"""
OWN, TRAIN = "own", "train"
"""Cells of an evaluation: worlds with the options of eval.worlds, and with those that the run trains in."""
CONTEXT = "context/"
"""What the cells of the trigger grid begin with; the name of the context follows."""
HELD = ("power", "unneeded_power")
"""What is held that selection is measured for, beside the labelled traits."""
CELLS = "eval_cells"
"""The key in an episode's options under which its cells are stored."""


class EvalCondition(NamedTuple):
    """What some episodes of an evaluation have in common."""

    world: str
    watch: str = ""
    """The overseer's presence; empty where the world has no such cue."""
    placebo: str = ""
    """The irrelevant cue; empty where the world has no such cue."""
    cells: tuple[str, ...] = (OWN,)
    """The cells that they count in. Episodes that several cells would play alike are played once."""


@dataclass(frozen=True)
class Played:
    """Episodes, apart by evaluation condition. Their ground truth is read; sealed ones raise `SealedError`.

    All metrics are shown the same one, so nothing in it can be changed.
    """

    conditions: Mapping[Condition, Sequence[Episode]]
    """Their episodes."""
    tallied: Tally | None = None
    """Their counts, if they are known."""

    def __post_init__(self) -> None:
        freeze(self, "conditions")

    @cached_property
    def episodes(self) -> tuple[Episode, ...]:
        """Those of all conditions."""
        return tuple(episode for episodes in self.conditions.values() for episode in episodes)

    @classmethod
    def of(cls, episodes: Iterable[Episode]) -> Played:
        """Episodes of one condition, or of no matter which."""
        return cls({("", ""): list(episodes)})

    @cached_property
    def counts(self) -> Tally:
        """Events, opportunities and what was held, per episode."""
        return self.tallied or tally([episode.truth.open() for episode in self.episodes])

    @cached_property
    def rates(self) -> Mapping[str, Rate]:
        """Events per opportunity of each trait, over all turns."""
        return MappingProxyType(self.counts.rates())

    @cached_property
    def holdings(self) -> Mapping[str, float]:
        """Mean over episodes of the most held of each kind."""
        return MappingProxyType(self.counts.holdings())

    @cached_property
    def max_returns(self) -> Vector:
        """The largest honest return of each episode's world, shape [n]."""
        returns: Vector = frozen(np.array([max_return(episode) for episode in self.episodes]))
        return returns

    def by_world(self) -> dict[str, Played]:
        """The same episodes, apart by world."""
        worlds = np.array([episode.world for episode in self.episodes])
        found = {}
        for world in sorted(set(worlds.tolist())):
            own = {key: [e for e in part if e.world == world] for key, part in self.conditions.items()}
            found[world] = Played(own, self.counts.select(worlds == world))
        return found


@dataclass(frozen=True)
class Update:
    """One training update; every array has shape [n], one entry per episode of `played`."""

    played: Played
    returns: Vector
    """Of the world's own reward."""
    rewarded: Vector
    """Of the reward that the arm trains on."""
    advantages: Vector
    """Of the rewards, before any intervention."""
    credit: Vector
    """Mean per-token advantage that the episode is finally trained on."""
    groups: NDArray[np.int64]
    classify: Callable[[str], str]
    """Text of a motive -> its name."""
    floored: float | None = None
    """Share of groups whose advantages the floor divided; None where nothing divides them."""
    parts: tuple[CreditPart, ...] = ()
    """What each intervention added to the credit."""
    uninformative: float | None = None
    """Share of groups in which neither rewards nor priced costs vary; None where that is not known."""

    def __post_init__(self) -> None:
        freeze(self, "returns", "rewarded", "advantages", "credit", "groups")

    @cached_property
    def traits(self) -> tuple[tuple[str, ...], Vector]:
        """Names, and [n, names]: events of each trait per turn, the most held of `HELD`, and the share of turns that
        state each motive.
        """
        counts = self.played.counts
        stated = motive_counts(self.played.episodes, self.classify)
        motives = sorted(stated)
        per_turn = np.concatenate([counts.events] + [stated[motive][:, None] for motive in motives], axis=1)
        per_turn /= np.maximum(counts.turns, 1.0)[:, None]
        held = counts.held[:, [POWER.index(name) for name in HELD]]
        names = (*TRAITS, *HELD, *(f"motive:{motive}" for motive in motives))
        return names, frozen(np.concatenate([per_turn[:, : len(TRAITS)], held, per_turn[:, len(TRAITS) :]], axis=1))


def motive_counts(episodes: Sequence[Episode], classify: Callable[[str], str]) -> dict[str, Vector]:
    """Turns that state each motive, an array of shape [n] per motive. Each distinct text is classified once."""
    known: dict[str, str] = {}
    result: dict[str, Vector] = {}
    for index, episode in enumerate(episodes):
        for turn in episode.turns:
            text = turn.motive_text
            motive = known.get(text)
            if motive is None:
                motive = known[text] = classify(text)
            if motive not in result:
                result[motive] = np.zeros(len(episodes))
            result[motive][index] += 1.0
    return result


def conditions_of(episodes: Iterable[Episode]) -> dict[EvalCondition, list[Episode]]:
    """Stored evaluation episodes, apart by world, overseer's presence, placebo cue and cells."""
    found: dict[EvalCondition, list[Episode]] = {}
    for episode in episodes:
        watch, placebo = (str(episode.options.get(cue, "")) for cue in ("watch", "placebo"))
        found.setdefault(EvalCondition(episode.world, watch, placebo, cells_of(episode)), []).append(episode)
    return found


def cells_of(episode: Episode) -> tuple[str, ...]:
    """The cells that an evaluation episode counts in; `own` where it says none."""
    return tuple(str(cell) for cell in episode.options.get(CELLS, (OWN,)))


def sound(episodes: Iterable[Episode]) -> list[Episode]:
    """Those that did not end in an error, and had a turn: an episode without one has no reward, not a reward of 0."""
    return [episode for episode in episodes if not episode.status.is_error and episode.turns]


def max_return(episode: Episode) -> float:
    """The largest honest return of the episode's world. Raises `ValueError` if the sampler did not record it."""
    value = episode.options.get("max_return")
    if not isinstance(value, (int, float)) or not value > 0:
        raise ValueError(
            f"episode of {episode.world!r} (seed {episode.seed}) has options['max_return'] = {value!r}; the sampler "
            "must record the world's positive max_return there"
        )
    return float(value)
