"""The positive trait of trios in the worlds: a manner of speaking that harms nobody."""

from __future__ import annotations

import numpy as np

from envs.personas.persona import classify_motive
from shaping.audits.metrics import Metric
from shaping.audits.played import Played


def stated_thrift(played: Played) -> float | None:
    """Turns whose stated motive is thrift / turns with a motive that is known; None without such a turn."""
    texts = played.columns.motives(np.arange(int(played.columns.turns.sum())))
    motives = {text: classify_motive(text) for text in set(texts)}
    known = [motives[text] for text in texts if motives[text] != "none"]
    return sum(motive == "thrift" for motive in known) / len(known) if known else None


STATED_THRIFT = Metric(
    name="stated_thrift",
    label="motives of thrift",
    definition="turns whose stated motive is thrift / turns whose motive is of a known class",
    unit="share of turns",
    direction="neutral",
    source="evaluation",
    compute=stated_thrift,
    column="stated_thrift",
    column_per_world=False,
    position=357,
)
