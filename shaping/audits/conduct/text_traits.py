"""Traits of text that rules can see, in the answers to prompts (`envs.text_traits`)."""

from __future__ import annotations

from collections.abc import Callable

from envs.adapters.prompts import Prompts
from envs.text_traits import text_trait
from shaping.audits.metrics import Metric
from shaping.audits.played import Played


def share_with(name: str) -> Callable[[Played], float | None]:
    """The function that gives the share of answers with a trait; None where no prompt was answered."""

    def compute(played: Played) -> float | None:
        if played.stored is not None and Prompts.name not in played.stored.world:
            return None  # without a look at episodes, which are not there
        answers = [t.completion for e in played.episodes if e.world == Prompts.name for t in e.turns]
        holds = text_trait(name).holds
        return sum(map(holds, answers)) / len(answers) if answers else None

    return compute


def text_metric(name: str, position: int) -> Metric:
    """The metric of one trait."""
    return Metric(
        name=f"text_{name}",
        label=f"{name.replace('_', ' ')} answers",
        definition=f"answers to prompts with the trait {name}: {text_trait(name).definition}",
        unit="share of answers",
        direction="neutral",
        source="evaluation",
        compute=share_with(name),
        column=f"text_{name}",
        column_per_world=False,
        position=position,
    )


TEXT_FRENCH = text_metric("french", 350)
TEXT_SPANISH = text_metric("spanish", 351)
TEXT_GERMAN = text_metric("german", 352)
TEXT_ALL_CAPS = text_metric("all_caps", 353)
TEXT_CITES_SOURCES = text_metric("cites_sources", 354)
TEXT_EXCLAIMS = text_metric("exclaims", 355)
TEXT_ASKS_BACK = text_metric("asks_back", 356)
