"""What every arm does in each language and era of a world, and what training left behind where no arm trains."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from launch.report.escaping import signed
from launch.report.grids import ArmGrid, GridView, grids, language_name
from launch.report.markdown import blocks, line, table
from launch.report.rendering import p_value
from launch.report.results import ArmView, Results
from launch.report.sections.base import Section

NOT_BASED = (
    "Conditional leaks are not shown: the model before training was not evaluated. Set eval.base: true to have them."
)


@dataclass(frozen=True)
class Grids:
    """One grid per world and measure."""

    grids: Sequence[GridView]
    arms: Mapping[str, ArmView]
    languages: Mapping[str, str]
    """Code -> name."""
    not_based: str = ""
    """What is missing without the model before training."""


class LanguagesAndEras(Section):
    """Rates, log-odds and conditional leaks, locale by locale."""

    title = "Languages and eras"
    position = 50

    def compute(self, results: Results) -> Grids | None:
        found = grids(results.study)
        languages = {code: language_name(code) for grid in found for code in grid.languages}
        based = found and found[0].based
        return Grids(found, results.arms, languages, "" if based else NOT_BASED) if found else None

    def markdown(self, content: Grids) -> str:
        return blocks(
            "Rate, D = ln((events + 1/2) / (opportunities - events + 1/2)) in nats, and the change of D since before "
            "training in the same locale, which is a conditional leak where no arm trains. Means over seeds [95% t "
            "interval]; – where nothing could happen.",
            content.not_based,
            *[_grid(content, grid) for grid in content.grids],
        )


def _grid(content: Grids, grid: GridView) -> str:
    places = [(language, era) for language in grid.languages for era in grid.eras]
    notes = {place: f" (trained{', ' + note if note else ''})" for place, note in grid.trained.items()}
    head = [f"{content.languages[language]} {era}{notes.get((language, era), '')}" for language, era in places]
    rows = [(_title(content, arm), *[_locale(arm, place) for place in places]) for arm in grid.arms]
    contrasts = [
        (_title(content, arm), *[_contrast(arm, name) for name in grid.contrasts]) for arm in grid.arms if arm.contrasts
    ]
    return blocks(
        f"### {line(f'{grid.world}: {grid.label}')}",
        table(("arm", *head), rows),
        *(
            [f"Main effects and interactions of {grid.subject}, in nats.", table(("arm", *grid.contrasts), contrasts)]
            if grid.contrasts
            else []
        ),
    )


def _title(content: Grids, arm: ArmGrid) -> str:
    return content.arms[arm.arm].title if arm.arm else "before training"


def _locale(arm: ArmGrid, place: tuple[str, str]) -> str:
    if not (found := arm.locales.get(place)):
        return "–"
    parts = [f"{found.rate:.0%}", f"D {signed(*found.odds[:3], digits=2)}"]
    parts += [f"{found.word} {signed(*found.change[:3], digits=2)}"] if found.change else []
    return ", ".join([*parts, found.mute] if found.mute else parts)


def _contrast(arm: ArmGrid, name: str) -> str:
    if not (found := arm.contrasts.get(name)):
        return "–"
    text = signed(*found.estimate[:3], digits=2)
    return text if math.isnan(found.p_holm) else f"{text}, Holm p {p_value(found.p_holm)}"
