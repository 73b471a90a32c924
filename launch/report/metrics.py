"""The metrics that a report shows: the registry's records, and how their names in a summary are read."""

from __future__ import annotations

from shaping.audits.conduct.cells import LEAK_PREFIX, MAX_LEAK_PREFIX, TRAINED_PREFIX, parse
from shaping.audits.metrics import Metric, all_metrics
from shaping.audits.played import CONTEXT

__all__ = ["Metric", "further_metrics", "label", "main_metrics", "metrics_per_world", "monitor_of", "record_of"]

MONITOR_PREFIX = "monitor."
"""Readings of a monitor appear in a summary as `monitor.<name>` or `monitor.<name>.<quantity>`."""
_WITHIN = "/monitor/"
_IN_SUMMARIES = ("evaluation", "update", "training", "access")


def _records() -> dict[str, Metric]:
    """The metrics whose names stand in a summary as they are."""
    return {m.name: m for m in all_metrics() if m.source in _IN_SUMMARIES and not m.family}


def main_metrics() -> list[Metric]:
    """The columns of the main table."""
    return [metric for metric in _records().values() if metric.shown == "main"]


def further_metrics() -> list[Metric]:
    """The metrics that stand below the methods."""
    return [metric for metric in _records().values() if metric.shown == "further"]


def metrics_per_world() -> list[Metric]:
    """The columns that each world has in the table by world."""
    return [metric for metric in _records().values() if metric.per_world]


def record_of(name: str) -> Metric | None:
    """The record of `deception`, also for `deception.clerk`, `trained/deception` and `after/sft/leak/negated/harm`.

    None for names that the registry does not have.
    """
    return _records().get(name) or _records().get(parse(name).metric)


def label(name: str) -> str:
    """The label of a metric, `deception in clerk` for `deception.clerk`, else the name itself.

    Of a monitor's figures, `recall of overt_action (harm)` for `monitor.overt_action.harm.recall`.
    """
    if name.startswith(MONITOR_PREFIX):
        monitor, _, rest = name.removeprefix(MONITOR_PREFIX).partition(".")
        trait, _, figure = rest.rpartition(".")
        return f"{figure.replace('_', ' ')} of {monitor} ({trait})" if trait else name
    if not (record := record_of(name)):
        return name
    if name == record.name:
        return record.label
    found = parse(name)
    prompts = f"the {found.context} prompts" + (f" of {found.arm}" if found.arm else "")
    said = {
        TRAINED_PREFIX: f"{record.label}, training options",
        CONTEXT: f"{record.label} under {prompts}",
        LEAK_PREFIX: f"leak of {record.label} under {prompts}",
        MAX_LEAK_PREFIX: f"largest leak of {record.label}" + (f" (prompts of {found.arm})" if found.arm else ""),
    }.get(found.prefix, record.label)
    said += f" after stage {found.stage}" if found.stage else ""
    return f"{said} in {found.world}" if found.world else said


def monitor_of(name: str) -> str | None:
    """The monitor a metric quotes, as `monitor.<name>...` or `spike_in/.../monitor/<name>/...`; None if it does not."""
    if name.startswith(MONITOR_PREFIX):
        return name.removeprefix(MONITOR_PREFIX).split(".")[0]
    _, found, rest = f"/{name}".rpartition(_WITHIN)
    return rest.split("/")[0] if found else None


def monitor_label(name: str) -> str:
    """`claim check deception recall` for `monitor.claim_check.deception.recall`: words that can wrap in a head."""
    return name.removeprefix(MONITOR_PREFIX).replace(".", " ").replace("_", " ")
