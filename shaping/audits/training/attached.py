"""Metrics of a policy with adapters that it is deployed without, and what dropping them changed.

All of them are metrics of the evaluation, on the same seeds and sampling noise as the deployed policy's:

    with_quarantine/<metric>     kept and quarantine adapters, as the arm samples (K + Q)
    quarantine_alone/<metric>    the quarantine adapters alone (Q)
    as_sampled/<metric>          as the arm samples, where a kept adapter is added at deployment only
    frozen_alone/<metric>        the frozen adapters alone, before which no task was learned
    absorb/<metric>              with_quarantine minus deployed, of metrics that are better when lower:
                                 how much of the trait the quarantine adapter holds
    competence_cost/<metric>     the same difference of metrics that are better when higher: what dropping it costs
"""

from __future__ import annotations

from collections.abc import Mapping

from shaping.audits.metrics import metrics_of

WITH_QUARANTINE, QUARANTINE_ALONE, FROZEN_ALONE = "with_quarantine/", "quarantine_alone/", "frozen_alone/"
AS_SAMPLED = "as_sampled/"
ABSORB, COMPETENCE_COST = "absorb/", "competence_cost/"
ATTACHED = (WITH_QUARANTINE, QUARANTINE_ALONE, FROZEN_ALONE, AS_SAMPLED, ABSORB, COMPETENCE_COST)
"""Prefixes of a metric of the evaluation."""
_DIFFERENCE = {"lower_is_better": ABSORB, "higher_is_better": COMPETENCE_COST}


def prefix_of(metric: str) -> str:
    """Which of `ATTACHED` a metric's name begins with; empty: none."""
    return next((prefix for prefix in ATTACHED if metric.startswith(prefix)), "")


def attached_metrics(found: Mapping[str, Mapping[str, float]], deployed: Mapping[str, float]) -> dict[str, float]:
    """All of these metrics.

    Args:
        found: prefix -> the evaluation's metrics of that policy.
        deployed: the metrics of the deployed policy.
    """
    metrics = {f"{prefix}{name}": value for prefix, own in found.items() for name, value in own.items()}
    directions = {metric.name: metric.direction for metric in metrics_of("evaluation")}
    for name, value in found.get(WITH_QUARANTINE, {}).items():
        prefix = _DIFFERENCE.get(directions.get(name.partition(".")[0], ""))
        if prefix and name in deployed:
            metrics[f"{prefix}{name}"] = value - deployed[name]
    return metrics
