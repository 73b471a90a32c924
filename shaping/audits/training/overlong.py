"""How many completions were cut off by the limit of tokens? Their commands, if any, were never finished."""

from __future__ import annotations

from shaping.audits.metrics import Metric
from shaping.audits.played import Played


def overlong(played: Played) -> float | None:
    """Turns whose completion was cut off / all turns; None without a turn."""
    turns = played.columns.overlong
    return float(turns.mean()) if len(turns) else None


OVERLONG = Metric(
    name="overlong",
    label="overlong completions",
    definition="turns whose completion reached `train.max_tokens` before it ended / all turns",
    unit="share of turns",
    direction="neutral",
    source="evaluation",
    compute=overlong,
    column="overlong",
    column_per_world=False,
    position=345,
)
