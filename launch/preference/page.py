"""The results of `shaping preference scale` in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from launch.report.markdown import table

_LAW_HEAD = ("objective", "pre-training", "a (parameters)", "b (examples)", "R2", "models")


def page(result: dict[str, Any]) -> str:
    """Fits, then accuracy of every model, a mean over seeds with the least and the most of them."""
    rows: Sequence[dict[str, Any]] = result["rows"]
    parts = ["# Preference models: accuracy by size, examples and objective", ""]
    if result["left"]:
        parts += [f"{result['left']} models of the grid are not trained yet.", ""]
    if rows:
        parts += [
            f"Accuracy on {rows[0]['pairs']} comparisons in {rows[0]['situations']} situations that no model was "
            f"trained on. The rule that the longer answer is better has {rows[0]['longer_accuracy']:.3f}.",
            "",
            "Error = factor x parameters^-a x examples^-b, by least squares of logarithms over all models of a row; "
            "95 % intervals.",
            "",
            table(_LAW_HEAD, _laws(result["fits"])),
            "",
            table(
                ("objective", "pre-training", "examples", *_sizes(rows)),
                [
                    (objective, stage, str(count), *(_cell(rows, objective, stage, count, m) for m in _models(rows)))
                    for objective, stage, count in dict.fromkeys(
                        (row["objective"], row["pretraining"], row["examples"]) for row in rows
                    )
                ],
            ),
            "",
            "Calibration of the models with most examples: expected calibration error (Brier score) of the probability "
            "that the higher score is the better answer.",
            "",
            table(("objective", "pre-training", *_sizes(rows)), _calibrations(rows)),
            "",
        ]
    return "\n".join(parts)


def _models(rows: Sequence[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["model"] for row in sorted(rows, key=lambda row: row["parameters"])))


def _sizes(rows: Sequence[dict[str, Any]]) -> list[str]:
    size = {row["model"]: row["parameters"] for row in rows}
    return [f"{name} ({size[name] / 1e6:.2g} M)" for name in _models(rows)]


def _laws(fits: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    found = []
    for fit in fits:
        exponents = [_exponent(fit, name) for name in ("parameters", "examples")]
        r2 = "unknown" if fit.get("r2") is None else f"{fit['r2']:.2f}"
        found.append((fit["objective"], fit["pretraining"], *exponents, r2, str(fit.get("points", 0))))
    return found


def _exponent(fit: dict[str, Any], name: str) -> str:
    if name not in fit.get("exponents", {}):
        return "not fitted"
    bounds = fit["intervals"][name]
    interval = "" if bounds is None else f" [{bounds[0]:.3f}, {bounds[1]:.3f}]"
    return f"{fit['exponents'][name]:.3f}{interval}"


def _cell(rows: Sequence[dict[str, Any]], objective: str, stage: str, count: int, model: str) -> str:
    key = (objective, stage, count, model)
    own = [r["accuracy"] for r in rows if (r["objective"], r["pretraining"], r["examples"], r["model"]) == key]
    if not own:
        return ""
    spread = f" ({min(own):.3f} to {max(own):.3f})" if len(own) > 1 else ""
    return f"{sum(own) / len(own):.3f}{spread}"


def _calibrations(rows: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    most = max(row["examples"] for row in rows)
    found = []
    for objective, stage in dict.fromkeys((row["objective"], row["pretraining"]) for row in rows):
        cells = []
        for model in _models(rows):
            key = (objective, stage, most, model)
            own = [r for r in rows if (r["objective"], r["pretraining"], r["examples"], r["model"]) == key]
            own = [r for r in own if "calibration_ece" in r]
            means = [sum(r[f"calibration_{name}"] for r in own) / len(own) for name in ("ece", "brier")] if own else []
            cells.append(f"{means[0]:.3f} ({means[1]:.3f})" if means else "")
        if any(cells):
            found.append((objective, stage, *cells))
    return found
