"""The section Over-optimisation: arms that train on a proxy, and nothing for the others."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from launch.report.palette import styles
from launch.report.results import ArmView
from launch.report.sections.base import Part
from launch.report.sections.training.overoptimisation import Overoptimisation

LAWFUL = [(0.0, 0.0, 0.5), (0.025, 1.0, 0.8), (0.1, 2.0, 0.6)]
"""KL per token, proxy and true reward of three updates, in episodes of 40 tokens: distances 0, 1 and 2."""


def content(rewards: dict[str, str], rows: list[list[tuple[float, float, float]]]) -> Any:
    """`rewards`: arm -> name of its reward; `rows`: the updates of each seed, in every arm."""
    views = [ArmView(name, f"<i>{name}</i>", "control", "#000000", 2) for name in rewards]
    runs = [
        SimpleNamespace(
            train=[{"kl": kl, "sampled_tokens": 40.0, "paid": paid, "true_reward": true} for kl, paid, true in each]
        )
        for each in rows
    ]
    arms = {name: SimpleNamespace(reward=SimpleNamespace(use=use)) for name, use in rewards.items()}
    infos = {name: SimpleNamespace(group="control") for name in rewards}
    study = SimpleNamespace(
        config=SimpleNamespace(arms=arms),
        arms=infos,
        runs=runs,
        of=lambda name: runs,
        look=styles(infos),  # type: ignore[arg-type]
    )
    return Overoptimisation().compute(SimpleNamespace(study=study, shown=views))  # type: ignore[arg-type]


def test_an_arm_on_a_proxy_has_its_curve_and_what_it_lost() -> None:
    shifted = [(kl, paid + 1, true + 0.1) for kl, paid, true in LAWFUL]
    found = content({"plain": "EnvReward", "proxy": "PreferenceModel"}, [LAWFUL, shifted])
    assert [row.arm.name for row in found.rows] == ["proxy"]
    distance, proxy, gold, lost = found.rows[0].cells
    assert (distance.mean, proxy.mean) == (2.0, 2.0) and abs(gold.mean - 0.1) < 1e-9 and abs(lost.mean - 0.2) < 1e-9
    # start .55, alpha .3, and .65 = .55 + 2 (.3 - beta log 2): beta = .25 / log 2, peak at exp(alpha / beta - 1)
    assert found.rows[0].fit == ("0.300", "0.361", "0.845")
    part = Part(Overoptimisation(), found)
    page, markdown = str(part.html()), part.markdown()
    for text in (page, markdown):
        assert "0.20" in text and "0.361" in text and "<i>" not in text


def test_studies_without_a_proxy_or_without_the_kl_have_no_section() -> None:
    assert content({"plain": "EnvReward"}, [LAWFUL]) is None
    assert content({"proxy": "PreferenceModel"}, [LAWFUL[:1]]) is None
