"""A label source in words, as reports print it beside the arm."""

from __future__ import annotations

from collections.abc import Sequence

from shaping.intervention import Intervention
from shaping.labels.source import LabelSource, sources_of
from shaping.learning.credit.credit_parts import names_of


def described(labels: LabelSource) -> str:
    """`the world's own list of overt shortcuts (oracle), recall 0.5`."""
    sources = {
        "overt": "the world's own list of overt shortcuts (oracle)",
        "oracle": "sealed labels (oracle)",
        "monitor": f"monitor {labels.monitor.name}" if labels.monitor else "a monitor",
        "off": "none",
    }
    said = [sources[labels.source]]
    if labels.traits:
        said.append(f"traits {', '.join(labels.traits)}")
    if labels.source == "monitor":
        said.append(f"threshold {labels.threshold:g}")
    for name in ("recall", "precision"):
        if (value := getattr(labels, name)) < 1:
            said.append(f"{name} {value:g}")
    if labels.false_positives:
        said.append(f"false positives {labels.false_positives:g}")
    told = ", ".join(said)
    return f"as many random turns as by {told} (placebo)" if labels.placebo else told


def labels_in_words(interventions: Sequence[Intervention]) -> list[str]:
    """`GradientRouting: sealed labels (oracle)`, for every label source of an arm."""
    return [
        f"{name}: {described(labels)}"
        for name, intervention in zip(names_of(interventions), interventions, strict=True)
        for labels in sources_of(intervention)
    ]
