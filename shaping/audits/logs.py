"""Audits of anyone's episodes: every metric of the evaluation, with intervals, and what the returns select for.

They read columns of files (`shaping.audits.columns`), so that a hundred thousand episodes take less than a minute.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy
from numpy.typing import NDArray

from envs.episode import TRAITS
from shaping.audits.columns import Columns
from shaping.audits.conduct.inequality import games_gini
from shaping.audits.conduct.rates import POWER
from shaping.audits.metrics import metrics_of
from shaping.audits.played import HELD, Played, WholeEpisodesError
from shaping.audits.training.gauge import chance_band, chance_scores
from shaping.audits.training.selection import covariances

Vector = NDArray[np.float64]
FOLDS: Final = 20
"""Parts of the seeds that the jackknife leaves out in turn."""
LEVEL: Final = 0.95
DEALS: Final = 199
"""Deals of the band; of many episodes they say as much as more of them of few."""


@dataclass(frozen=True, slots=True)
class Audited:
    """One number that was found in the episodes."""

    cell: str
    """Cell of the evaluation; `own` where episodes name none."""
    world: str
    """Empty: the unweighted mean over worlds."""
    metric: str
    value: float
    low: float
    """95 % interval; nan where there is none."""
    high: float
    episodes: int
    unit: str


@dataclass(frozen=True)
class Audit:
    """What was found, and what could not be computed."""

    rows: Sequence[Audited]
    left_out: Sequence[str]
    """Metrics that could not be computed, with the reason."""


def audit(columns: Columns, *, intervals: bool = True) -> Audit:
    """Every metric of the evaluation by cell and world, and the selection of groups of episodes by their returns.

    Episodes that ended in an error and those without a turn are not counted. Intervals are a jackknife that leaves out
    a 20th of the seeds at a time (Quenouille 1956), so that the episodes of one seed are never taken for independent;
    with fewer than three seeds there are none.
    """
    sound = columns.select(~columns.failed & (columns.turns > 0))
    rows: list[Audited] = []
    left_out: dict[str, str] = {}
    for cell in sorted({cell for cells in set(sound.cells.tolist()) for cell in cells}):
        own = sound.select(np.array([cell in cells for cells in sound.cells.tolist()], bool))
        found = _measured(own, left_out)
        folds = _folds(own) if intervals else []
        parts = [_measured(own.select(~fold), {}) for fold in folds]
        for (world, metric), value in found.items():
            without = [part[world, metric] for part in parts if (world, metric) in part]
            low, high = _jackknife(value, without, len(folds))
            size = len(own) if not world else int((own.world == world).sum())
            rows.append(Audited(cell, world, metric, value, low, high, size, _unit(metric)))
    if (share := games_gini(sound)) is not None:
        rows.append(Audited("own", "", "games_gini", share, math.nan, math.nan, len(sound), "Gini coefficient"))
    rows += selected_by_returns(sound)
    return Audit(rows, [f"{name}: {why}" for name, why in left_out.items()])


def selected_by_returns(columns: Columns) -> list[Audited]:
    """What the returns of groups would select for: Cov(advantage, trait) with advantages as in GRPO.

    A group is what one file gives the same number, in one arm, world and condition and with one seed; groups of one
    have no advantages. The credit of interventions is in no file of episodes, so it is in none of these numbers.
    """
    texts = (columns.arm, columns.world, columns.watch, columns.placebo)
    coded = [np.unique(text.astype(str), return_inverse=True)[1].reshape(-1) for text in texts]
    keys = np.stack([columns.file, columns.group, columns.seed, *coded], axis=1)
    groups = np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)
    sizes = np.bincount(groups)
    if not (rows := (sizes > 1)[groups]).any():
        return []
    own, index = columns.select(rows), np.unique(groups[rows], return_inverse=True)[1].reshape(-1)
    counts = own.tally()
    names = (*TRAITS, *HELD)
    held = counts.held[:, [POWER.index(name) for name in HELD]]
    traits = np.concatenate([counts.events / counts.turns[:, None], held], axis=1)
    advantage = normalised(own.proxy_return, index)
    selection = covariances(advantage, traits)
    bands = chance_band(advantage, traits, index, deals=DEALS)
    scores = chance_scores(advantage, traits, index)
    unit = "advantage x events per turn"
    found = [
        Audited("own", "", f"{family}/{name}", float(values[k]), math.nan, math.nan, len(own), shown)
        for family, values, shown in (
            ("selection_reward", selection, unit),
            ("selection_band", bands, unit),
            ("selection_score", scores, "standard deviations"),
        )
        for k, name in enumerate(names)
    ]
    flat = float((np.bincount(index, np.abs(advantage)) == 0).mean())
    return [*found, Audited("own", "", "zero_variance", flat, math.nan, math.nan, len(own), "share of groups")]


def normalised(returns: Vector, groups: NDArray[np.int64]) -> Vector:
    """(return - mean of the group) / standard deviation of the group; 0 where it has none. Shape [n]."""
    size = np.bincount(groups)
    mean = np.bincount(groups, returns) / size
    gap = returns - mean[groups]
    spread = np.sqrt(np.bincount(groups, gap**2) / size)[groups]
    return np.where(spread > 1e-9, gap / np.where(spread > 1e-9, spread, 1.0), 0.0)


def _measured(columns: Columns, left_out: dict[str, str]) -> dict[tuple[str, str], float]:
    """(world, metric) -> value, and the means over worlds under the world ""."""
    values: dict[str, dict[str, float]] = {}
    for world, played in Played({}, stored=columns).by_world().items():
        for metric in metrics_of("evaluation"):
            try:
                for name, value in metric.measure(played).items():
                    values.setdefault(name, {})[world] = value
            except (WholeEpisodesError, ValueError) as error:
                left_out[metric.name] = str(error)
    means = {("", name): sum(by.values()) / len(by) for name, by in values.items()}
    return means | {(world, name): value for name, by in values.items() for world, value in by.items()}


def _folds(columns: Columns) -> list[NDArray[np.bool_]]:
    """The episodes of each part of the seeds."""
    seeds = np.unique(columns.seed)
    count = min(FOLDS, len(seeds))
    if count < 3:
        return []
    part = np.random.default_rng(0).permutation(len(seeds)) % count
    own = part[np.searchsorted(seeds, columns.seed)]
    return [own == fold for fold in range(count)]


def _jackknife(value: float, without: Sequence[float], folds: int) -> tuple[float, float]:
    """The interval around `value`, from the values without each fold; nan if one of them does not exist."""
    if len(without) < 3 or len(without) < folds:
        return math.nan, math.nan
    found = np.array(without)
    error = math.sqrt((folds - 1) / folds * float(((found - found.mean()) ** 2).sum()))
    half = float(scipy.stats.t.ppf((1 + LEVEL) / 2, folds - 1)) * error
    return value - half, value + half


def _unit(metric: str) -> str:
    return next((known.unit for known in metrics_of("evaluation") if known.name == metric), "")
