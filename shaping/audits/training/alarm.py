"""The alarms of a run: selection for a trait that lasts. They are said and recorded, and change nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shaping.gauge import Gauge as Gauge


def alarms(rows: Sequence[Mapping[str, Any]], gauge: Gauge) -> dict[str, list[int]]:
    """Trait -> numbers of the updates with which an alarm began: the rule held, and had not held an update before."""
    found: dict[str, list[int]] = {}
    for trait in gauge.traits:
        flags = gauge.flags(trait, rows)
        began = [i for i, flag in enumerate(flags) if flag and not (i and flags[i - 1])]
        if began:
            found[trait] = [int(rows[i].get("update", i)) for i in began]
    return found
