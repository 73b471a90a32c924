"""Make a plain model of the adapters that a run has saved, for programs that load no adapters."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Literal

import torch

from launch.config.study import RunConfig
from launch.errors import ConfigError
from launch.run.models.load_policy import load_trained
from launch.storage.files import make_directory
from shaping.learning.policy import PolicyError
from shaping.models.lora.adapter_checkpoint import stored_adapters

ExportType = Literal["float32", "bfloat16"]


def export(run: RunConfig, checkpoint: Path, out: Path, dtype: ExportType = "float32") -> float:
    """Write the base of a checkpoint with its adapters merged to `out`, which must not exist.

    Returns the share of the adapters' update that rounding has lost: |merged - (W + dW)| / |dW|.

    Raises `ConfigError` if the checkpoint is a whole model already, if it cannot be loaded, or if more than 1 % of the
    update would be lost.
    """
    if stored_adapters(checkpoint) is None:
        raise ConfigError(f"{checkpoint} is a whole model already: copy it")
    if out.exists():
        raise ConfigError(f"{out} exists already: choose another directory")
    if run.seats is not None and run.seats.own_adapters:
        names = ", ".join(sorted(filter(None, run.seats.learned.values())))
        raise ConfigError(
            f"{checkpoint} holds several policies ({names}), and a merge of all of them is none of them: load the one "
            "that you want from adapters/ beside its base"
        )
    policy = load_trained(run, checkpoint)
    with tempfile.TemporaryDirectory(dir=make_directory(out.absolute().parent), prefix=".making-") as scratch:
        unpublished = Path(scratch) / out.name
        try:
            lost = policy.export(unpublished, getattr(torch, dtype))
        except PolicyError as error:
            raise ConfigError(f"{checkpoint}: {error}") from error
        os.replace(unpublished, out)
    return lost
