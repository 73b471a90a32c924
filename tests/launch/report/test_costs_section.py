"""The section What shaping costs: tax and retention against the reference, and nothing without one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from launch.report.results import ArmView
from launch.report.sections.base import Part
from launch.report.sections.training.costs import Costs

VIEWS = [ArmView(name, f"<i>{name}</i>", "constraint", "#000000", 2) for name in ("plain", "priced")]


def content(rewards: dict[str, list[float]], reference: str | None = "plain") -> Any:
    """`rewards`: arm -> true reward of each seed, in every update and at deployment."""
    runs = {
        arm: [
            SimpleNamespace(seed=seed, train=({"loss_tokens": 10.0, "true_reward": reward},) * 5)
            for seed, reward in enumerate(values)
        ]
        for arm, values in rewards.items()
    }
    found = SimpleNamespace(name=reference) if reference else None
    study = SimpleNamespace(arms=dict.fromkeys(rewards), reference=lambda arm: found, of=lambda name: runs[name])
    values = {arm: {"true_reward": dict(enumerate(each))} for arm, each in rewards.items()}
    return Costs().compute(SimpleNamespace(study=study, shown=VIEWS, values=values))  # type: ignore[arg-type]


def test_tax_and_retention_are_against_the_reference_of_the_same_seed() -> None:
    part = Part(Costs(), content({"plain": [0.8, 1.0], "priced": [0.5, 0.6]}))
    page, markdown = str(part.html()), part.markdown()
    # taxes 0.3 and 0.4: mean 0.35, t of one degree of freedom 12.7 x 0.05; retained 1.1 / 1.8
    for text in (page, markdown):
        assert "0.35 [−0.29, 0.99]" in text and "0.61 [0.60, 0.62]" in text
        assert "plain</i>" not in text and "<i>" not in text, "the reference has no row; titles are escaped"
    assert "–" in markdown, "no proxy reward was measured"


def test_without_a_reference_or_a_number_there_is_no_section() -> None:
    assert content({"plain": [0.8], "priced": [0.5]}, reference=None) is None
    assert content({"plain": [], "priced": []}) is None
