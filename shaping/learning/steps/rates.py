"""Learning rates: what is usual for a model's size, and how they rise and fall over the updates of a run."""

from __future__ import annotations

import math
from typing import Literal

LRSchedule = Literal["constant", "linear", "cosine"]

SMALL = 20_000_000
"""Parameters below which a model is like an organism: trained from nothing, and with large steps."""
LARGE = 1_000_000_000
"""Parameters from which a model is trained with smaller steps still."""
FAR = 10.0
"""A rate that is so many times outside the usual ones is far outside."""


def default_lr(parameters: int, *, lora: bool) -> float:
    """The rate of a study that names none: 1e-3 below 20 million parameters, else 1e-6, or 1e-5 with LoRA."""
    if parameters < SMALL:
        return 1e-3
    return 1e-5 if lora else 1e-6


def usual_lrs(parameters: int, *, lora: bool) -> tuple[float, float]:
    """Smallest and largest rate of AdamW that reinforcement learning of a model of this size usually takes."""
    if parameters < SMALL:
        return 1e-4, 3e-3
    if lora:
        return 1e-6, 1e-4
    return (1e-7, 1e-5) if parameters < LARGE else (1e-7, 5e-6)


def unusual_lr(lr: float, parameters: int, *, lora: bool) -> str:
    """A warning of a rate that is far outside the usual ones; empty if it is not."""
    low, high = usual_lrs(parameters, lora=lora)
    if low / FAR <= lr <= high * FAR:
        return ""
    what = "a LoRA adapter" if lora else "all weights"
    risk = "it may destroy the model within a few updates" if lr > high else "it will hardly move the model"
    return (
        f"learner.lr is {lr:g}, and training {what} of a model of {parameters:,} parameters usually takes "
        f"{low:g} to {high:g}: {risk}"
    )


def lr_share(
    update: int, updates: int | None, *, warmup: int = 0, schedule: LRSchedule = "constant", end: float = 0.0
) -> float:
    """Share of the learning rate in the 0-based `update` of `updates`.

    It rises in equal steps over the first `warmup` updates and is 1 in the one after them; then it falls to `end` in
    the last, in a line or by a cosine.

    Raises: ValueError if there is a schedule but no number of `updates`.
    """
    if schedule != "constant" and updates is None:
        raise ValueError(f"learner.lr_schedule={schedule} needs the number of updates of the run")
    if update < warmup:
        return (update + 1) / (warmup + 1)
    if schedule == "constant" or updates is None:
        return 1.0
    falling = updates - 1 - warmup
    done = min((update - warmup) / falling, 1.0) if falling > 0 else 0.0
    fallen = done if schedule == "linear" else (1 - math.cos(math.pi * done)) / 2
    return 1.0 - (1.0 - end) * fallen
