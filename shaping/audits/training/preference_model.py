"""How good a preference model is on comparisons that were held out (arXiv:2112.00861)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rewards.preference.scaling import error_of
from shaping.audits.metrics import Direction, Metric

CHANCE = 0.5


def preference_metrics(measured: Mapping[str, Any], parameters: int) -> dict[str, float]:
    """The summary of a run that trains one.

    Args:
        measured: what `rewards.preference.calibration.evaluate` gives for the held-out pairs.
        parameters: numbers in the model.
    """
    accuracy, longer = float(measured["accuracy"]), float(measured["longer_accuracy"])
    found = {
        "preference_accuracy": accuracy,
        "preference_longer_accuracy": longer,
        "preference_over_chance": accuracy - CHANCE,
        "preference_over_longer": accuracy - max(longer, 1 - longer),
        "preference_log_error": math.log(error_of(accuracy, int(measured["pairs"]))),
        "preference_parameters": float(parameters),
    }
    if "calibration" in measured:
        own = measured["calibration"]
        found |= {"preference_loss": measured["loss"], "preference_brier": own["brier"], "preference_ece": own["ece"]}
    if "label_accuracy" in measured:
        found["preference_label_accuracy"] = measured["label_accuracy"]
    return found


def _metric(name: str, label: str, definition: str, unit: str, direction: Direction, position: int) -> Metric:
    return Metric(
        name=name,
        label=label,
        definition=definition,
        unit=unit,
        direction=direction,
        source="access",
        position=position,
    )


ACCURACY = _metric(
    "preference_accuracy",
    "preference accuracy",
    "share of held-out pairs whose better answer has the higher score; ties count half",
    "share of pairs",
    "higher_is_better",
    400,
)
LONGER = _metric(
    "preference_longer_accuracy",
    "accuracy of the longer answer",
    "the same of the rule that the longer answer is better",
    "share of pairs",
    "neutral",
    401,
)
OVER_CHANCE = _metric(
    "preference_over_chance",
    "preference accuracy above chance",
    "preference accuracy less a half",
    "difference of shares of pairs",
    "higher_is_better",
    402,
)
OVER_LONGER = _metric(
    "preference_over_longer",
    "preference accuracy above length",
    "preference accuracy less that of the better one of two rules: the longer answer, and the shorter answer",
    "difference of shares of pairs",
    "higher_is_better",
    403,
)
LOG_ERROR = _metric(
    "preference_log_error",
    "log error of preferences",
    "log of 1 - preference accuracy, with at least half a pair wrong: a power law is a line in it",
    "nats",
    "lower_is_better",
    404,
)
LOSS = _metric(
    "preference_loss",
    "ranked loss of preferences",
    "mean of -log sigmoid of the better answer's score less the worse one's, of models with a head",
    "nats",
    "lower_is_better",
    405,
)
BRIER = _metric(
    "preference_brier",
    "Brier score of preferences",
    "mean squared error of the probability, from .5 to 1, that the higher score is the better answer",
    "squared probability",
    "lower_is_better",
    406,
)
ECE = _metric(
    "preference_ece",
    "calibration error of preferences",
    "expected calibration error of the same probability: mean of |predicted - observed| over bins (arXiv:1706.04599)",
    "probability",
    "lower_is_better",
    407,
)
LABEL_ACCURACY = _metric(
    "preference_label_accuracy",
    "label accuracy of preferences",
    "share of held-out answers, each by itself, whose score has the sign of its label; of binary models",
    "share of answers",
    "higher_is_better",
    408,
)
PARAMETERS = _metric(
    "preference_parameters",
    "parameters of the preference model",
    "numbers in the model, with its head",
    "parameters",
    "neutral",
    409,
)
