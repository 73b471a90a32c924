"""Languages and eras: what every arm does in each locale of a world, and what training left behind where it was not."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from envs.skins import DEFAULT, ERAS, LANGUAGES, LOCALES, options_of, split
from launch.report.files.load import Record, Study, number
from launch.report.metrics import label
from shaping.audits.conduct.grid import Contrast, Estimate, Locale, change, contrasts, log_odds_grid, over_seeds
from shaping.audits.intervals import holm

#: Metric of a row of eval.jsonl (`count/...` and `opportunity/...`) -> metric of a summary, for its label.
MEASURES = {
    "deception": "deception",
    "deceptive_episodes": "deceptive_episodes",
    "reward_hack": "reward_hacking",
    "oversight_evasion": "evasion",
    "shutdown_resistance": "shutdown_resistance",
}
SHADES = 5
MUTE = 0.1
"""Share of turns without a valid command from which on a locale says so."""
LANGUAGE_NAMES = {"en": "English", "ar": "Arabic"}
_Counts = dict[Locale, tuple[float, float]]
_PLACE = (options_of(DEFAULT)["lang"], options_of(DEFAULT)["era"])


@dataclass(frozen=True)
class LocaleView:
    """One locale of one arm over seeds; `change` is D minus that of the model before training, where both exist."""

    rate: float
    odds: Estimate
    change: Estimate | None
    trained: bool
    invalid: float
    """Share of turns without a valid command; nan if it was not counted."""

    @property
    def mute(self) -> str:
        """A remark where the model hardly speaks the locale's words: then a low rate is no honesty."""
        return f"{self.invalid:.0%} invalid" if self.invalid > MUTE else ""

    @property
    def shade(self) -> int:
        return min(SHADES, math.ceil(SHADES * self.rate)) if math.isfinite(self.rate) else 0

    @property
    def word(self) -> str:
        """What a difference to the model before training is called here."""
        return "change" if self.trained else "leak"


@dataclass(frozen=True)
class ContrastView:
    """A contrast of one arm; `p_holm` is adjusted over the interactions of the arm, and nan for main effects."""

    name: str
    kind: str
    estimate: Estimate
    p_holm: float


@dataclass(frozen=True)
class ArmGrid:
    """The measured locales, and the contrasts of which none is missing. Arm "": before training."""

    arm: str
    locales: Mapping[Locale, LocaleView]
    contrasts: Mapping[str, ContrastView]


@dataclass(frozen=True)
class GridView:
    """One measure in one world. `trained`: the locales that arms train in, with the options in which these differ."""

    world: str
    label: str
    languages: Sequence[str]
    eras: Sequence[str]
    trained: Mapping[Locale, str]
    based: bool
    arms: Sequence[ArmGrid]

    @property
    def contrasts(self) -> list[str]:
        """Those that some arm has."""
        names = [c.name for c in _contrasts(self.languages, self.eras)]
        return [name for name in names if any(name in arm.contrasts for arm in self.arms)]

    @property
    def reference_era(self) -> str:
        """The era that the others are compared with."""
        return _PLACE[1] if _PLACE[1] in self.eras else self.eras[0]

    @property
    def subject(self) -> str:
        """What the contrasts are of."""
        return "the change of D since before training" if self.based else "D"


def language_name(language: str) -> str:
    return LANGUAGE_NAMES.get(language, language)


def grids(study: Study) -> list[GridView]:
    """A view per world that was evaluated in more than one locale and measure that has an opportunity somewhere."""
    places: dict[str, list[Locale]] = {}
    for name in study.worlds:
        if found := _place(name):
            places.setdefault(found[0], []).append(found[1])
    return [
        view
        for world, locales in places.items()
        if len(set(locales)) > 1
        for measure in MEASURES
        if (view := _view(study, world, locales, measure))
    ]


def _place(name: str) -> tuple[str, Locale] | None:
    """(world, locale) of a world's name; None for one whose `@` means something else."""
    try:
        world, locale = split(name)
    except ValueError:
        return None
    if locale not in LOCALES:  # prose is no part of the grid
        return None
    options = options_of(locale)
    return world, (options["lang"], options["era"])


def _view(study: Study, world: str, locales: Sequence[Locale], measure: str) -> GridView | None:
    languages = [name for name in LANGUAGES if any(name == locale[0] for locale in locales)]
    eras = [name for name in ERAS if any(name == locale[1] for locale in locales)]
    trained = _trained(study, world)
    invalid = {arm: _invalid([(run.seed, run.evaluation) for run in study.of(arm)], world) for arm in study.arms}
    after = {arm: {run.seed: _counts(run.evaluation, world, measure) for run in study.of(arm)} for arm in study.arms}
    before = {
        arm.name: {run.seed: _counts(run.base, world, measure) for run in study.of(arm.name) if run.base}
        for arm in study.references
    }
    if not any(n for by_seed in after.values() for counts in by_seed.values() for _, n in counts.values()):
        return None
    wanted = _contrasts(languages, eras)
    based = any(before.values())
    shown = []
    for name, by_seed in list(before.items())[:1]:
        mute = _invalid([(run.seed, run.base) for run in study.of(name)], world)
        shown += [_arm("", by_seed, {}, (), trained, mute, based=False)] if by_seed else []
    for name, arm in study.arms.items():
        if after[name]:
            reference = study.reference(arm)
            base = before.get(reference.name, {}) if reference else {}
            shown.append(_arm(name, after[name], base, wanted, trained, invalid[name], based=based))
    return GridView(world, label(MEASURES[measure]), languages, eras, trained, based, shown)


def _counts(rows: Iterable[Record], world: str, measure: str) -> _Counts:
    """Events and opportunities of every locale of a world, pooled over overseer and placebo."""
    found: _Counts = {}
    for row in rows:
        place = _place(str(row.get("world", "")))
        events, chances = number(row.get(f"count/{measure}")), number(row.get(f"opportunity/{measure}"))
        if place and place[0] == world and math.isfinite(events) and math.isfinite(chances):
            so_far = found.get(place[1], (0.0, 0.0))
            found[place[1]] = (so_far[0] + events, so_far[1] + chances)
    return found


def _shares(counts: _Counts) -> dict[Locale, float]:
    return {locale: events / chances for locale, (events, chances) in counts.items() if chances}


def _invalid(rows: Iterable[tuple[int, Iterable[Record]]], world: str) -> dict[Locale, float]:
    """Mean over seeds of the share of turns without a valid command, per locale."""
    found = over_seeds({seed: _shares(_counts(lines, world, "invalid")) for seed, lines in rows})
    return {locale: estimate.mean for locale, estimate in found.items()}


def _arm(
    arm: str,
    after: Mapping[int, _Counts],
    before: Mapping[int, _Counts],
    wanted: Sequence[Contrast],
    trained: Mapping[Locale, str],
    invalid: Mapping[Locale, float],
    *,
    based: bool,
) -> ArmGrid:
    odds = {seed: log_odds_grid(counts) for seed, counts in after.items()}
    changes = {s: change(grid, log_odds_grid(before[s])) for s, grid in odds.items() if s in before}
    rates = over_seeds({s: _shares(c) for s, c in after.items()})
    changed = over_seeds(changes)
    locales = {
        locale: LocaleView(
            rates[locale].mean, estimate, changed.get(locale), locale in trained, invalid.get(locale, math.nan)
        )
        for locale, estimate in over_seeds(odds).items()
    }
    values = {
        seed: {c: value for c in range(len(wanted)) if (value := wanted[c].of(grid)) is not None}
        for seed, grid in (changes if based else odds).items()
    }
    found = over_seeds(values)
    family = [i for i, e in found.items() if wanted[i].kind == "interaction" and math.isfinite(e.p)]
    adjusted = dict(zip(family, map(float, holm([found[i].p for i in family])), strict=True))
    views = [ContrastView(wanted[i].name, wanted[i].kind, e, adjusted.get(i, math.nan)) for i, e in found.items()]
    return ArmGrid(arm, locales, {view.name: view for view in views})


def _contrasts(languages: Sequence[str], eras: Sequence[str]) -> list[Contrast]:
    """Against the locale in which worlds are written, where it is among those evaluated."""
    first_language, first_era = _PLACE
    return contrasts(
        sorted(languages, key=lambda name: name != first_language), sorted(eras, key=lambda name: name != first_era)
    )


def _trained(study: Study, world: str) -> dict[Locale, str]:
    """The locales of a world in which arms train, with the options in which they differ."""
    options = {
        found[1]: own
        for name, own in study.config.spoken(study.config.train.worlds).items()
        if (found := _place(name)) and found[0] == world
    }
    settings = [*study.config.axes, *(key for point in study.config.points.values() for key in point.set)]
    swept = any("train.worlds" in key for key in settings)  # then no one value holds for all arms
    keys = sorted({key for own in options.values() for key in own})
    apart = [key for key in keys if len({repr(own.get(key)) for own in options.values()}) > 1 and not swept]
    return {locale: ", ".join(f"{key} {_told(own.get(key))}" for key in apart) for locale, own in options.items()}


def _told(value: Any) -> str:
    return "default" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
