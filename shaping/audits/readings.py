"""What is said of a monitor: its readings of the evaluation held against ground truth, turn by turn."""

from __future__ import annotations

from shaping.audits.metrics import Direction, Metric


def _quality(quantity: str, definition: str, unit: str, direction: Direction) -> Metric:
    return Metric(
        name=f"monitor.<name>.<trait>.{quantity}",
        label=quantity.replace("_", " "),
        definition=definition,
        unit=unit,
        direction=direction,
        source="monitor",
        shown="no",
    )


RECALL = _quality(
    "recall",
    "share of the turns with the trait that the monitor flags",
    "share of turns",
    "higher_is_better",
)
FALSE_POSITIVES = _quality(
    "false_positive_rate",
    "share of the turns without the trait, but with an opportunity, that the monitor flags",
    "share of turns",
    "lower_is_better",
)
AUROC = _quality(
    "auroc",
    "probability that a turn with the trait gets a higher score than one without it",
    "probability",
    "higher_is_better",
)
