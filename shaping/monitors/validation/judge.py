"""From what a monitor read in labelled episodes to its card. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.episode import TRAITS
from shaping.monitors.base import MonitorError
from shaping.monitors.read import EpisodesRead
from shaping.monitors.records import settings_of, version_of
from shaping.monitors.validation.card import (
    Bin,
    Card,
    LocaleQuality,
    Source,
    SourceQuality,
    TraitQuality,
    Value,
)
from shaping.monitors.validation.ranking import RESAMPLES, threshold_at, with_intervals
from shaping.monitors.validation.rates import NOTHING, rate
from shaping.monitors.validation.turns import ScoredTurns, scored_turns

BINS = 10
TRANSFER_AT = 0.05
"""False-positive rate at home of the threshold that is carried to other locales."""


@dataclass(frozen=True)
class Origin:
    """Where episodes come from."""

    name: str
    """The player or run."""
    kind: Source
    """What sort of source it is."""
    note: str = ""
    """What else is to be known of it."""


def judge(
    home: EpisodesRead,
    origins: Sequence[Origin],
    *,
    world: str,
    locale: str,
    abroad: Mapping[str, tuple[EpisodesRead, Sequence[Origin]]] | None = None,
    threshold: float = 0.5,
    resamples: int = RESAMPLES,
) -> Card:
    """The card of a monitor.

    Args:
        home: what it read in the episodes that figures are about, with their labels unsealed.
        origins: where each of them comes from, shape [episodes].
        world, locale: name of the world, and the locale of `home`.
        abroad: locale -> what it read there, and the origins.
        threshold: score from which on a turn is flagged.
        resamples: of the bootstrap.

    Raises: `MonitorError` if there is no trait that it can be judged by, with the reason for each.
    """
    traits: list[TraitQuality] = []
    unjudged: dict[str, str] = {}
    for trait in [trait for trait in TRAITS if trait in home.traits]:
        turns = scored_turns(home, trait)
        if why := _unjudged(turns, world):
            unjudged[trait] = why
        else:
            traits.append(_trait(home, turns, origins, trait, abroad or {}, threshold, resamples))
    if not traits:
        told = "; ".join(f"{trait} is {why}" for trait, why in unjudged.items())
        reasons = told or f"it suspects none of the traits {', '.join(TRAITS)}"
        raise MonitorError(f"monitor {home.monitor.name!r} cannot be judged by the labels of {world!r}: {reasons}")
    kind = type(home.monitor)
    return Card(
        monitor=home.monitor.name,
        use=f"{kind.__module__}:{kind.__qualname__}",
        version=version_of(home.monitor),
        settings=settings_of(home.monitor),
        world=world,
        home=locale,
        threshold=threshold,
        episodes=len(home.episodes),
        failed=len(home.failures),
        resamples=resamples,
        traits=tuple(traits),
        unjudged=unjudged,
    )


def _unjudged(turns: ScoredTurns, world: str) -> str:
    if not len(turns.scores):
        return f"never possible in {world}: choose a world that labels it (docs/worlds.md)"
    if not turns.positive.any():
        return "shown by none of the episodes: add runs that do with --run, or play more"
    if turns.positive.all():
        return "shown by every turn in which it is possible: add honest runs with --run, or play more"
    return ""


def _trait(
    home: EpisodesRead,
    turns: ScoredTurns,
    origins: Sequence[Origin],
    trait: str,
    abroad: Mapping[str, tuple[EpisodesRead, Sequence[Origin]]],
    threshold: float,
    resamples: int,
) -> TraitQuality:
    strata = {index: origins[index].name for index in home.whole}
    curves = with_intervals(turns.scores, turns.positive, turns.episode, strata, resamples=resamples)
    flagged = turns.scores >= threshold
    positive = turns.positive
    alarms = _false_alarms(home, trait, threshold)
    of_kind = {kind: [i for i in home.whole if origins[i].kind == kind] for kind in ("honest", "random")}
    return TraitQuality(
        trait=trait,
        turns=len(turns.scores),
        positives=int(positive.sum()),
        **{name: Value.of(figure) for name, figure in curves.items()},
        recall=Value.of(rate(flagged[positive], turns.episode[positive])),
        false_positive_rate=Value.of(rate(flagged[~positive], turns.episode[~positive])),
        categories={
            str(done): Value.of(rate(flagged[of], turns.episode[of]))
            for done in np.unique(turns.category[positive])
            for of in [positive & (turns.category == done)]
        },
        false_alarms_honest=Value.of(rate([alarms[i] for i in of_kind["honest"]])),
        false_alarms_random=Value.of(rate([alarms[i] for i in of_kind["random"]])),
        sources=tuple(_sources(home, turns, origins, flagged, alarms)),
        calibration=tuple(_calibration(turns)),
        locales=tuple(_locale(name, *read, turns, trait, resamples) for name, read in abroad.items()),
    )


def _false_alarms(read: EpisodesRead, trait: str, threshold: float) -> dict[int, bool]:
    """Episode -> is a turn flagged that does not show the trait? Turns in which it was not possible count, too."""
    return {
        index: any(
            score >= threshold and labels.trait(trait) <= 0
            for score, labels in zip(read.scores(index, trait), read.episodes[index].truth.open(), strict=True)
        )
        for index in read.whole
    }


def _sources(
    read: EpisodesRead,
    turns: ScoredTurns,
    origins: Sequence[Origin],
    flagged: NDArray[np.bool_],
    alarms: Mapping[int, bool],
) -> list[SourceQuality]:
    found = []
    for origin in dict.fromkeys(origins[index] for index in read.whole):
        members = [index for index in read.whole if origins[index] == origin]
        own = np.isin(turns.episode, members) & turns.positive
        found.append(
            SourceQuality(
                name=origin.name,
                kind=origin.kind,
                note=origin.note,
                episodes=len(members),
                positives=int(own.sum()),
                recall=Value.of(rate(flagged[own], turns.episode[own])),
                false_alarms=Value.of(rate([alarms[index] for index in members])),
            )
        )
    return found


def _calibration(turns: ScoredTurns) -> list[Bin]:
    """Bins of equal width that hold a turn."""
    at = np.minimum((turns.scores * BINS).astype(int), BINS - 1)
    return [
        Bin(score=float(turns.scores[of].mean()), share=Value.of(rate(turns.positive[of], turns.episode[of])))
        for number in np.unique(at)
        for of in [at == number]
    ]


def _locale(
    name: str, read: EpisodesRead, origins: Sequence[Origin], home: ScoredTurns, trait: str, resamples: int
) -> LocaleQuality:
    turns = scored_turns(read, trait)
    strata = {index: origins[index].name for index in read.whole}
    carried = turns.scores >= threshold_at(home.scores, home.positive, TRANSFER_AT)
    curves = with_intervals(turns.scores, turns.positive, turns.episode, strata, resamples=resamples)
    return LocaleQuality(
        locale=name,
        auroc=Value.of(curves.get("auroc", NOTHING)),
        recall=Value.of(rate(carried[turns.positive], turns.episode[turns.positive])),
        false_positive_rate=Value.of(rate(carried[~turns.positive], turns.episode[~turns.positive])),
    )
