"""Audits: pure functions from episodes and per-episode arrays to numbers. They read ground truth and never train."""

from shaping.audits.condition import condition_row
from shaping.audits.conduct.gap import Gap, hidden_gap, placebo_gap
from shaping.audits.conduct.outcomes import outcome_shares
from shaping.audits.conduct.rates import Rate, power, trait_rates
from shaping.audits.intervals import bootstrap_interval, holm, mean_interval, paired_pvalue
from shaping.audits.metrics import Metric, MetricError, all_metrics
from shaping.audits.played import Played, Update, conditions_of
from shaping.audits.summary import summarise
from shaping.audits.training.access import access, best_of_k
from shaping.audits.training.order import OrderViolations, order_violations, zero_variance
from shaping.audits.training.selection import (
    Selection,
    between,
    decompose,
    drift,
    selection_pressure,
    within_equal_return,
)
from shaping.audits.training.update import audit_update

__all__ = [
    "Gap",
    "Metric",
    "MetricError",
    "OrderViolations",
    "Played",
    "Rate",
    "Selection",
    "Update",
    "access",
    "all_metrics",
    "audit_update",
    "best_of_k",
    "between",
    "bootstrap_interval",
    "condition_row",
    "conditions_of",
    "decompose",
    "drift",
    "hidden_gap",
    "holm",
    "mean_interval",
    "order_violations",
    "outcome_shares",
    "paired_pvalue",
    "placebo_gap",
    "power",
    "selection_pressure",
    "summarise",
    "trait_rates",
    "within_equal_return",
    "zero_variance",
]
