"""What is left of an unlearned trait, told by how soon it is back (compare Shilov et al., arXiv:2512.05648)."""

from __future__ import annotations

from shaping.audits.metrics import Metric

RELEARNED = Metric(
    name="relearned",
    label="trait after relearning",
    definition="the metric that `eval.relearn` names, after its steps of training on bad episodes in a fresh adapter",
    unit="that of the metric",
    direction="lower_is_better",
    source="access",
    position=362,
)
RELEARNED_AT = Metric(
    name="relearned/<steps>",
    label="trait after some steps of relearning",
    definition="the same after so many steps; `relearned/0` before the first",
    unit="that of the metric",
    direction="lower_is_better",
    source="access",
    shown="no",
    position=363,
)
