"""A study as pandas frames. Pure functions of what reports read; each frame is new."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from launch.report.claims.verdict import Verdict
from launch.report.files.load import Record, Run, Study
from launch.report.table import Values, summarise

if TYPE_CHECKING:
    from pandas import DataFrame

_RUN = ("arm", "seed", "role", "family", "subject", "updates", "status")
_VERDICT = ("claim", "point", "verdict", "statement", "sentence", "reason", "must", "behaved", "controls_failed")
_EFFECT = ("claim", "point", "metric", "contrast", "mean", "low", "high", "n", "level", "effect", "p")


def runs(study: Study) -> DataFrame:
    """One row per run, complete or missing, with its point on the axes."""
    rows: list[dict[str, Any]] = []
    for run in study.runs:
        started = {"subject": run.subject, "updates": len(run.train), "status": "complete"}
        rows.append(_run(study, run.arm, run.seed) | started)
    for missing in study.missing:
        rows.append(_run(study, missing.arm, missing.seed) | {"status": missing.reason})
    axes = list(dict.fromkeys(axis for arm in study.arms.values() for axis in arm.sweep_point))
    return _frame(rows, [*_RUN[:4], *axes, *_RUN[4:]])


def _run(study: Study, arm: str, seed: int) -> dict[str, Any]:
    info = study.arms.get(arm)
    known = {"role": info.role, "family": info.group, **info.sweep_point} if info else {}
    return {"arm": arm, "seed": seed, **known}


def updates(of: Sequence[Run]) -> DataFrame:
    """The rows of metrics.jsonl."""
    return _rows(of, [run.train for run in of], ["update"])


def evaluation(of: Sequence[Run]) -> DataFrame:
    """The rows of eval.jsonl, those of the model before training with the phase `base`."""
    return _rows(of, [[*run.base, *run.evaluation] for run in of], ["world", "watch", "placebo"])


def summary(of: Sequence[Run], values: Values) -> DataFrame:
    """One row per run with the metrics that may be quoted."""
    rows = [
        {"arm": run.arm, "seed": run.seed}
        | {metric: by_seed[run.seed] for metric, by_seed in values[run.arm].items() if run.seed in by_seed}
        for run in of
    ]
    return _frame(rows, ["arm", "seed"])


def table(values: Values) -> DataFrame:
    """Arm, metric, mean, low, high, n."""
    rows = [
        {"arm": arm, "metric": metric, **cell._asdict()}
        for arm, metrics in summarise(values).items()
        for metric, cell in metrics.items()
    ]
    return _frame(rows, ["arm", "metric", "mean", "low", "high", "n"])


def verdicts(judged: Sequence[Verdict]) -> DataFrame:
    """One row per claim and point."""
    rows = [
        {name: getattr(each, name) for name in _VERDICT if name not in ("behaved", "controls_failed")}
        | {
            "must": each.must or "",
            "behaved": each.behaved if each.must else None,
            "controls_failed": ", ".join(each.controls_failed),
        }
        for each in judged
    ]
    return _frame(rows, _VERDICT)


def effects(judged: Sequence[Verdict]) -> DataFrame:
    """One row per number; `effect` is empty for those that decide nothing."""
    rows = [
        {
            "claim": each.claim,
            "point": each.point,
            "metric": number.metric,
            "contrast": number.contrast,
            **number.interval._asdict(),
            "level": number.level,
            "effect": number.effect if number.decides else "",
            "p": number.p,
        }
        for each in judged
        for number in each.outcomes
    ]
    return _frame(rows, _EFFECT)


def _rows(of: Sequence[Run], lines: Sequence[Sequence[Record]], first: Sequence[str]) -> DataFrame:
    rows = [{"arm": run.arm, "seed": run.seed, **line} for run, own in zip(of, lines, strict=True) for line in own]
    return _frame(rows, ["arm", "seed", *first])


def _frame(rows: Sequence[Mapping[str, Any]], first: Sequence[str]) -> DataFrame:
    """The columns in the order in which they are met, `first` ones first."""
    import pandas as pd

    columns = dict.fromkeys([*first, *(key for row in rows for key in row)])
    return pd.DataFrame(list(rows), columns=list(columns))
