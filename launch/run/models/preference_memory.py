"""What the training of a preference model holds at the least, estimated before it is begun."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil

from launch.config.study import RunConfig
from launch.preference.stage import PreferenceModelStage, preference_stage
from launch.run.memory import GIB, USABLE, TooLargeError, check_memory, gpu_memory
from shaping.models.sizes import ModelSizes, sizes_of

FLOAT = 4
"""Bytes of a number: preference models are trained in float32, in bfloat16 but for its passes."""


def training_bytes(stage: PreferenceModelStage, sizes: ModelSizes) -> int:
    """Bytes of weights, and of gradients and AdamW's two moments of what trains. Activations come on top.

    How long the answers are is not known before they are made, so that nothing that would fit is refused.
    """
    rank = stage.training.lora_rank
    trained = sizes.parameters if rank is None else sizes.adaptable * rank
    return FLOAT * (sizes.parameters + 3 * trained)


def check_all_memory(starts: Sequence[tuple[RunConfig, Path]], memory: float | None = None) -> None:
    """`launch.run.memory.check_memory` for agents, and `check_preference_memory` for preference models."""
    check_memory(starts, memory)
    check_preference_memory(starts)


def check_preference_memory(starts: Iterable[tuple[RunConfig, Path]], free: float | None = None) -> None:
    """Raise `TooLargeError` for the first preference model that cannot be trained here.

    `free`: bytes; None: those of a GPU where the run computes on one, else those of this machine that are available.
    """
    for run, model in starts:
        if (stage := preference_stage(run.stages)) is None:
            continue
        try:
            sizes = sizes_of(model)
        except ValueError:  # of a model of unknown size nothing is refused
            continue
        room = _free(run) if free is None else free
        if (needed := training_bytes(stage, sizes)) > USABLE * room:
            raise TooLargeError(
                f"{run.directory_name}: a preference model of {sizes.parameters / 1e6:,.1f} M weights needs "
                f"{needed / GIB:.1f} GiB for weights, gradients and moments alone, and {room / GIB:.1f} GiB are free: "
                "set stages.0.training.lora_rank, or choose a smaller model"
            )


def preference_line(run: RunConfig, model: Path) -> str:
    """For a dry run: what its training holds; empty for a run of another kind."""
    if (stage := preference_stage(run.stages)) is None:
        return ""
    try:
        sizes = sizes_of(model)
    except ValueError as error:
        return f"not estimated: {error}"
    held = training_bytes(stage, sizes) / GIB
    return (
        f"{sizes.parameters / 1e6:,.2f} M weights; {held:.2f} GiB for weights, gradients and moments, and activations"
    )


def _free(run: RunConfig) -> float:
    on_gpu = None if run.train.device == "cpu" else gpu_memory()
    return float(psutil.virtual_memory().available) if on_gpu is None else on_gpu
