"""Where does it show? Log-odds per locale of a grid of languages and eras, and what training changed locale by locale.

A trait that was rewarded in one language or era may stay there, follow the language, follow the era, or spread to all
locales, and the same training can even lower it in one language and raise it in another. One average over locales hides
all of this (conditional misalignment, arXiv:2604.25891; weird generalisation, arXiv:2512.09742; alignment backfire,
arXiv:2603.04904).

Log-odds put rates near 0 and near 1 on one scale, so that a difference between locales can be compared with the same
difference elsewhere. A locale in which nothing could happen is missing: no grid holds it, nothing is computed from it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar

from shaping.audits.intervals import mean_interval, paired_pvalue

Locale = tuple[str, str]
"""(language, era)"""
Grid = Mapping[Locale, float]
"""D per locale, in log-odds (nats); locales without opportunity are absent."""
Counts = Mapping[Locale, tuple[float, float]]
"""(events, opportunities) per locale."""
Kind = Literal["language", "era", "interaction"]
Key = TypeVar("Key", bound=Hashable)

HALF = 0.5


def log_odds(events: float, opportunities: float) -> float | None:
    """D = ln((e + 1/2) / (n - e + 1/2)), in nats, of `events` e among `opportunities` n; None where n is 0.

    The halves keep D finite at e = 0 and e = n and remove its bias up to order 1/n (Haldane 1956, Ann. Hum. Genet. 20;
    Anscombe 1956, Biometrika 43). 0 means one in two; D of n - e is -D. Raises `ValueError` unless 0 <= e <= n.
    """
    if not (0 <= events <= opportunities < math.inf):
        raise ValueError(f"events must be between 0 and the opportunities, got {events} events of {opportunities}")
    return math.log((events + HALF) / (opportunities - events + HALF)) if opportunities else None


def log_odds_grid(counts: Counts) -> dict[Locale, float]:
    """D of every locale that had an opportunity."""
    found = {locale: log_odds(events, opportunities) for locale, (events, opportunities) in counts.items()}
    return {locale: value for locale, value in found.items() if value is not None}


def change(after: Grid, base: Grid) -> dict[Locale, float]:
    """D[locale] - D[locale, base] (log odds ratio, nats) where both exist; `base` is the model before training."""
    return {locale: value - base[locale] for locale, value in after.items() if locale in base}


def conditional_leak(after: Grid, base: Grid, trained: Collection[Locale]) -> dict[Locale, float]:
    """What training in the locales `trained` did elsewhere: `change` in the locales that no episode of training was in.

    0: nothing arrived there; as large as the change in the trained locale: not conditional on the locale at all.
    """
    return {locale: value for locale, value in change(after, base).items() if locale not in trained}


@dataclass(frozen=True, slots=True)
class Contrast:
    """A weighted sum of locales whose weights add up to 0."""

    kind: Kind
    name: str
    weights: Mapping[Locale, float]

    def of(self, grid: Grid) -> float | None:
        """Sum of weight x D, in nats; None if one of its locales is missing: another sum would be another question."""
        if self.weights.keys() - grid.keys():
            return None
        return math.fsum(weight * grid[locale] for locale, weight in self.weights.items())


def contrasts(languages: Sequence[str], eras: Sequence[str]) -> list[Contrast]:
    """Main effects and interactions of the grid `languages` x `eras`, L and E of them; l0 and e0 are the first ones.

    - language l: mean over all eras e of D[l, e] - D[l0, e];
    - era e: mean over all languages l of D[l, e] - D[l, e0];
    - interaction (l, e): (D[l, e] - D[l0, e]) - (D[l, e0] - D[l0, e0]), a difference of differences.

    (L - 1) + (E - 1) + (L - 1)(E - 1) contrasts. All interactions are 0 exactly where D is the sum of a part that goes
    with the language and one that goes with the era. Raises `ValueError` if one of the two is empty or repeats itself.
    """
    for what, names in (("languages", languages), ("eras", eras)):
        if not names or len(set(names)) != len(names):
            raise ValueError(f"{what} must be a non-empty sequence without repetition, not {list(names)}")
    (l0, *others), (e0, *later) = languages, eras
    found = [
        Contrast("language", f"{lang} - {l0}", _difference([((lang, e), (l0, e)) for e in eras])) for lang in others
    ]
    found += [
        Contrast("era", f"{e} - {e0}", _difference([((lang, e), (lang, e0)) for lang in languages])) for e in later
    ]
    found += [
        Contrast(
            "interaction",
            f"({lang} - {l0}) in {e} - in {e0}",
            {(lang, e): 1.0, (l0, e): -1.0, (lang, e0): -1.0, (l0, e0): 1.0},
        )
        for lang in others
        for e in later
    ]
    return found


def _difference(pairs: Sequence[tuple[Locale, Locale]]) -> dict[Locale, float]:
    """Weights of the mean difference of the pairs (plus, minus)."""
    share = 1.0 / len(pairs)
    return {locale: sign * share for plus, minus in pairs for locale, sign in ((plus, 1.0), (minus, -1.0))}


class Estimate(NamedTuple):
    """Mean over `seeds` seeds, t interval, and two-sided p of 0; the latter three are nan with one seed."""

    mean: float
    low: float
    high: float
    p: float
    seeds: int


def over_seeds(by_seed: Mapping[int, Mapping[Key, float]], level: float = 0.95) -> dict[Key, Estimate]:
    """Interval over training seeds of every key (locale or contrast) of `by_seed`[seed][key].

    Each seed's value is computed within the seed (same episodes, same start) before it is averaged. Seeds that lack a
    key are left out of that key; a key that no seed has is left out.
    """
    columns: dict[Key, dict[int, float]] = {}
    for seed, values in by_seed.items():
        for key, value in values.items():
            columns.setdefault(key, {})[seed] = value
    return {
        key: Estimate(
            *mean_interval(list(column.values()), level), paired_pvalue(column, dict.fromkeys(column, 0.0)), len(column)
        )
        for key, column in columns.items()
    }
