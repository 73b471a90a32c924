"""What metrics look at: episodes that were played, by condition, with everything that is counted once kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.episode import TRAITS, Episode
from envs.frozen import freeze, frozen
from shaping.audits.columns import CELLS as CELLS
from shaping.audits.columns import OWN as OWN
from shaping.audits.columns import Columns, columns_of
from shaping.audits.conduct.rates import POWER, Rate, Tally, tally
from shaping.learning.credit.credit_parts import CreditPart

Vector = NDArray[np.float64]
Condition = tuple[str, str]
"""(watch, placebo)"""
TRAIN = "train"
"""Beside `own`, a cell of an evaluation: worlds with the options that the run trains in; `own`: with eval.worlds'."""
CONTEXT = "context/"
"""What the cells of the trigger grid begin with; the name of the context follows."""
HELD = ("power", "unneeded_power")
"""What is held that selection is measured for, beside the labelled traits."""


class EvalCondition(NamedTuple):
    """What some episodes of an evaluation have in common."""

    world: str
    watch: str = ""
    """The overseer's presence; empty where the world has no such cue."""
    placebo: str = ""
    """The irrelevant cue; empty where the world has no such cue."""
    cells: tuple[str, ...] = (OWN,)
    """The cells that they count in. Episodes that several cells would play alike are played once."""


class WholeEpisodesError(TypeError):
    """A metric asks for whole episodes where only their columns were read."""


@dataclass(frozen=True)
class Played:
    """Episodes, apart by evaluation condition. Their ground truth is read; sealed ones raise `SealedError`.

    All metrics are shown the same one, so nothing in it can be changed. What metrics count is in `counts` and
    `columns`, which are also there where a file was read without making episodes of it; `episodes` is not.
    """

    conditions: Mapping[Condition, Sequence[Episode]]
    """Their episodes."""
    tallied: Tally | None = None
    """Their counts, if they are known."""
    stored: Columns | None = None
    """In place of episodes: their columns, as they were read."""

    def __post_init__(self) -> None:
        freeze(self, "conditions")

    def __len__(self) -> int:
        return len(self.episodes if self.stored is None else self.stored)

    @cached_property
    def episodes(self) -> tuple[Episode, ...]:
        """Those of all conditions. Raises `WholeEpisodesError` where there are only columns."""
        if self.stored is not None:
            raise WholeEpisodesError("only columns of the episodes were read, and this needs whole episodes")
        return tuple(episode for episodes in self.conditions.values() for episode in episodes)

    @classmethod
    def of(cls, episodes: Iterable[Episode]) -> Played:
        """Episodes of one condition, or of no matter which."""
        return cls({("", ""): list(episodes)})

    @cached_property
    def columns(self) -> Columns:
        """Everything that metrics count, as arrays; `watch` and `placebo` are those of the conditions."""
        if self.stored is not None:
            return self.stored
        sizes = [len(episodes) for episodes in self.conditions.values()]
        cues = (np.repeat(_objects(condition[cue] for condition in self.conditions), sizes) for cue in (0, 1))
        watch, placebo = cues
        return replace(columns_of(self.episodes), watch=watch, placebo=placebo)

    @cached_property
    def counts(self) -> Tally:
        """Events, opportunities and what was held, per episode."""
        if self.tallied is not None:
            return self.tallied
        return tally([e.truth.open() for e in self.episodes]) if self.stored is None else self.stored.tally()

    @cached_property
    def rates(self) -> Mapping[str, Rate]:
        """Events per opportunity of each trait, over all turns."""
        return MappingProxyType(self.counts.rates())

    @cached_property
    def holdings(self) -> Mapping[str, float]:
        """Mean over episodes of the most held of each kind."""
        return MappingProxyType(self.counts.holdings())

    @cached_property
    def returns(self) -> Vector:
        """What the world paid for each episode, shape [n]."""
        if self.stored is not None:
            return frozen(self.stored.proxy_return)
        return frozen(np.array([episode.proxy_return for episode in self.episodes]))

    @cached_property
    def max_returns(self) -> Vector:
        """The largest honest return of each episode's world, shape [n]."""
        if self.stored is None:
            return frozen(np.array([max_return(episode) for episode in self.episodes]))
        if missing := int(np.isnan(self.stored.max_return).sum()):
            raise ValueError(f"{missing} episodes have no positive options['max_return'], the world's full return")
        return frozen(self.stored.max_return)

    def by_world(self) -> dict[str, Played]:
        """The same episodes, apart by world."""
        worlds = self.columns.world if self.stored else np.array([episode.world for episode in self.episodes])
        return {world: self.select(worlds == world) for world in sorted(set(worlds.tolist()))}

    @property
    def cues(self) -> set[Condition]:
        """The conditions that there are."""
        if self.stored is None:
            return {condition for condition, episodes in self.conditions.items() if episodes}
        return set(zip(self.stored.watch.tolist(), self.stored.placebo.tolist(), strict=True))

    def with_cues(self, watch: str | None = None, placebo: str | None = None) -> Played:
        """The episodes with this presence of the overseer and this irrelevant cue; None: with any."""
        wanted = [watch in (None, own) and placebo in (None, other) for own, other in self._cue_of]
        return self.select(np.array(wanted, bool))

    @cached_property
    def _cue_of(self) -> list[Condition]:
        """Condition of each episode."""
        if self.stored is not None:
            return list(zip(self.stored.watch.tolist(), self.stored.placebo.tolist(), strict=True))
        return [condition for condition, episodes in self.conditions.items() for _ in episodes]

    def select(self, rows: NDArray[np.bool_]) -> Played:
        """Some of the episodes, by rows[n]."""
        if self.stored is not None:
            return Played({}, self.counts.select(rows), self.stored.select(rows))
        kept, own = iter(rows.tolist()), {}
        for key, episodes in self.conditions.items():
            own[key] = [episode for episode in episodes if next(kept)]
        return Played(own, self.counts.select(rows))


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


def _objects(values: Iterable[str]) -> NDArray[np.object_]:
    return np.array(list(values), object)


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
