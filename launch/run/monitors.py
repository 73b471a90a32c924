"""Monitors at evaluation: they read the deployed policy's episodes and are held against ground truth."""

from __future__ import annotations

from collections.abc import Sequence

from envs.episode import Episode
from launch.config.plugins import build_monitors
from launch.config.study import RunConfig
from shaping.monitors import require_held_out, validate

QUANTITIES = ("recall", "false_positive_rate", "auroc")


def monitor_metrics(run: RunConfig, episodes: Sequence[Episode]) -> dict[str, float]:
    """`monitor.<name>.<trait>.<quantity>` for every trait a monitor reads, over all evaluation cells.

    A quantity that cannot be computed (no turn in which the trait was possible, say) is left out. Raises
    `MonitorError` if a monitor is not held out or reports a turn that was not played.
    """
    monitors = build_monitors(run.eval)
    if not monitors:
        return {}
    require_held_out(monitors, ())
    sound = [e for e in episodes if not e.status.is_error]
    found: dict[str, float] = {}
    for monitor in monitors:
        named = getattr(monitor, "trait", None)
        traits = [named] if named else sorted({r.trait for e in sound for r in monitor.read(e)})
        for trait in traits:
            measured = validate(monitor, sound, trait)
            found |= {f"monitor.{monitor.name}.{trait}.{q}": measured[q] for q in QUANTITIES if q in measured}
    return found
