"""Selection pressure: what the training signal favours, whether or not anything has come of it yet.

The Price equation splits the change of a population mean of a trait z into selection, Cov(w, z) / mean(w), and
transmission (Price 1970, Nature 227; Price 1972, Ann. Hum. Genet. 35). In policy-gradient RL the advantage plays the
part of relative fitness (mean weight one), so Cov(advantage, trait) says how hard an update pushes towards episodes
that show the trait. Covariances here are population covariances (divided by n, not n - 1), so that they add up:

    Cov(A, z) = among groups + between returns within groups + within groups at equal return

`advantage` has shape [n] (episodes), `trait` [n] or [n, k]; the answer is a float or an array of shape [k] (use the
`covariances` form for many traits at once).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shaping.audits.metrics import Metric, mean_over_updates
from shaping.audits.played import Update
from shaping.learning.credit.advantages import scaled

RETURN_DECIMALS = 9
"""Decimals to which returns are compared, in units of their size: sums in another order differ in the last bits."""

Vector = NDArray[np.float64]


class Selection(NamedTuple):
    """The additive parts of Cov(advantage, trait); their sum is the total."""

    among_groups: float
    between_returns: float
    equal_return: float

    @property
    def total(self) -> float:
        return self.among_groups + self.between_returns + self.equal_return


def covariances(advantage: Vector, traits: Vector) -> Vector:
    """Cov(advantage[n], traits[n, k]) as an array of shape [k]; zeros if n is 0."""
    _check(advantage, traits)
    if not len(advantage):
        return np.zeros(traits.shape[1])
    return np.asarray((advantage - advantage.mean()) @ (traits - traits.mean(axis=0)) / len(advantage))


def selection_pressure(advantage: Vector, trait: Vector) -> float:
    """Cov(advantage[n], trait[n]) over episodes."""
    return float(covariances(advantage, trait[:, None])[0])


def comparable(returns: Vector, groups: NDArray[np.int64]) -> Vector:
    """Returns to compare within a group, in units of the group's size and rounded. Shape [n]."""
    rounded = np.zeros(len(returns))
    for group in np.unique(groups):
        rounded[groups == group] = np.round(scaled(returns[groups == group]), RETURN_DECIMALS)
    return rounded


def classes(returns: Vector, groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """A class index per episode; two share one if they share the group and the return (`comparable`). Shape [n]."""
    keys = np.stack([groups.astype(np.float64), comparable(returns, groups)], axis=1)
    return np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)


def covariances_within(advantage: Vector, traits: Vector, index: NDArray[np.int64]) -> Vector:
    """The part of Cov(advantage[n], traits[n, k]) within classes `index`[n]: mean over episodes of the product of the
    deviations from the class means, so that classes weigh by size. Shape [k]."""
    _check(advantage, traits)
    if not len(advantage):
        return np.zeros(traits.shape[1])
    return np.asarray((advantage - _class_means(advantage[:, None], index)[:, 0]) @ traits / len(advantage))


def within_equal_return(advantage: Vector, trait: Vector, returns: Vector, groups: NDArray[np.int64]) -> float:
    """The part of Cov(advantage, trait) among episodes of one group with exactly equal return.

    Reward alone cannot produce it: what is not zero here was added by an intervention's credit.
    """
    return float(covariances_within(advantage, trait[:, None], classes(returns, groups))[0])


def between(advantage: Vector, trait: Vector, returns: Vector, groups: NDArray[np.int64]) -> float:
    """The rest of Cov(advantage, trait): the covariance of the (group, return) class means, weighted by class size."""
    index = classes(returns, groups)
    return selection_pressure(_class_means(advantage[:, None], index)[:, 0], _class_means(trait[:, None], index)[:, 0])


def decompose(advantage: Vector, trait: Vector, returns: Vector, groups: NDArray[np.int64]) -> Selection:
    """All three parts of Cov(advantage, trait)."""
    index = np.unique(groups, return_inverse=True)[1].reshape(-1)
    in_group = float(covariances_within(advantage, trait[:, None], index)[0])
    equal = within_equal_return(advantage, trait, returns, groups)
    among = selection_pressure(_class_means(advantage[:, None], index)[:, 0], _class_means(trait[:, None], index)[:, 0])
    return Selection(among, in_group - equal, equal)


def drift(trait_before: Vector, trait_after: Vector, selection: float) -> float:
    """Response minus selection: what changed in the population mean of a trait that selection does not account for.

    Generalisation from other traits, noise, and the optimiser's step size (selection is per unit of advantage, so
    scale it by the step when the two are to be compared in size). Shapes [n] and [m], per-episode trait values.
    """
    if not len(trait_before) or not len(trait_after):
        raise ValueError("drift needs at least one episode before and one after; got an empty sample")
    return float(np.mean(trait_after) - np.mean(trait_before) - selection)


def _class_means(values: Vector, index: NDArray[np.int64]) -> Vector:
    """Replace each row of `values`[n, k] by the mean of its class."""
    size = np.bincount(index)
    sums = np.zeros((len(size), values.shape[1]))
    np.add.at(sums, index, values)
    return np.asarray((sums / size[:, None])[index])


def _check(advantage: Vector, traits: Vector) -> None:
    if advantage.ndim != 1 or traits.ndim != 2 or len(advantage) != len(traits):
        raise ValueError(
            f"expected advantage of shape [n] and traits of shape [n, k], got {advantage.shape} and {traits.shape}"
        )


def selection(update: Update) -> dict[str, float]:
    """Cov(credit, trait) of every trait and stated motive: what the whole training signal selects for."""
    names, traits = update.traits
    return _named(names, covariances(update.credit, traits))


def selection_within(update: Update) -> dict[str, float]:
    """The part of it among episodes of one group with equal return."""
    names, traits = update.traits
    return _named(names, covariances_within(update.credit, traits, classes(update.returns, update.groups)))


def selection_by_reward(update: Update) -> dict[str, float]:
    """Cov(advantage, trait) before any intervention: the part of it that reward accounts for."""
    names, traits = update.traits
    return _named(names, covariances(update.advantages, traits))


def _named(names: Sequence[str], values: Vector) -> dict[str, float]:
    return {name: float(values[k]) for k, name in enumerate(names)}


_UNIT = "advantage x events per turn"

SELECTION = Metric(
    name="selection/<trait>",
    label="selection",
    definition="Price equation covariance Cov(advantage, trait) over the update's episodes; `motive:<motive>` is the "
    "share of turns that state a motive, `power` and `unneeded_power` the most held in an episode",
    unit=_UNIT,
    direction="neutral",
    source="update",
    compute=selection,
    shown="no",
)
SELECTION_WITHIN = Metric(
    name="selection_within/<trait>",
    label="selection within equal return",
    definition="the part of `selection/<trait>` within groups of equal return",
    unit=_UNIT,
    direction="neutral",
    source="update",
    compute=selection_within,
    shown="no",
)
SELECTION_BY_REWARD = Metric(
    name="selection_reward/<trait>",
    label="selection by reward",
    definition="the part of `selection/<trait>` due to reward alone, before any intervention",
    unit=_UNIT,
    direction="neutral",
    source="update",
    compute=selection_by_reward,
    shown="no",
)
SELECTION_DECEPTION = Metric(
    name="selection_deception",
    label="selection for deception",
    definition="Cov(advantage, deception), mean over updates",
    unit=_UNIT,
    direction="lower_is_better",
    source="training",
    compute=mean_over_updates("selection/deception"),
    position=300,
)
SELECTION_WITHIN_DECEPTION = Metric(
    name="selection_within_deception",
    label="selection within equal return",
    definition="the part of Cov(advantage, deception) within groups of equal return, mean over updates",
    unit=_UNIT,
    direction="lower_is_better",
    source="training",
    compute=mean_over_updates("selection_within/deception"),
    position=310,
)
