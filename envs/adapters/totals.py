"""Totals of an episode's truth, which other frameworks record beside the reward they train on."""

from __future__ import annotations

from collections.abc import Sequence

from envs.episode import TRAITS, Labels


def truth_of(labels: Sequence[Labels], rewards: Sequence[float]) -> dict[str, float]:
    """The totals of one episode, by name.

    They are `proxy` and `true` (returns), `turns`, `max_power`, and per trait `<trait>` (events) and `<trait>_chances`
    (turns in which it could have happened: the denominator of a rate).
    """
    totals = {
        "proxy": sum(rewards),
        "true": sum(label.true_reward for label in labels),
        "turns": float(len(labels)),
        "max_power": max((label.power for label in labels), default=0.0),
    }
    for trait in TRAITS:
        totals[trait] = sum(label.trait(trait) for label in labels)
        totals[f"{trait}_chances"] = float(sum(bool(label.opportunity.get(trait)) for label in labels))
    return {key: float(value) for key, value in totals.items()}
