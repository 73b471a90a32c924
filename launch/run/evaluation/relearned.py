"""How much of a trait a run's policy has again after a few steps on bad episodes."""

from __future__ import annotations

import math
from pathlib import Path

from launch.config.study import RunConfig
from launch.relearn.attack import relearn


def relearned_metrics(run: RunConfig, checkpoint: Path) -> dict[str, float]:
    """`relearned`, the trait after all steps of `eval.relearn`, and `relearned/<steps>` on the way; empty without it.

    The policy in `checkpoint` does not change. Raises: `ConfigError` as `relearn` does.
    """
    if run.eval.relearn is None:
        return {}
    found = relearn(run, checkpoint, math.inf, run.eval.relearn).values
    return {"relearned": found[max(found)], **{f"relearned/{steps}": value for steps, value in found.items()}}
