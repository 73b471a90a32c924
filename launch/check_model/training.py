"""Gate M6: a short training run without any intervention, by the framework's own loop, in a temporary directory."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from launch.check_model.engine import dtype_of, loaded
from launch.config.study import RunConfig, StudyConfig
from launch.run.device import local_device
from launch.run.execute import execute
from launch.storage.rundir import RunDirectory
from shaping.organisms.gates.assay import play_cells
from shaping.organisms.gates.cells import options_of
from shaping.organisms.gates.measure import Observed, learned
from shaping.organisms.gates.record import Gate, Settings, Training

OnUpdate = Callable[[int], None]


def train_gate(
    model: Path, world: str, settings: Settings, training: Training, device: str, on_update: OnUpdate = lambda _: None
) -> Gate:
    """Hacking after training minus before, under no prompt and with the same seeds.

    The interval is that of the episodes: another training seed may give another value.
    """
    before = _played(model, world, settings, device)
    with tempfile.TemporaryDirectory(prefix="shaping-gates-") as folder:
        directory = RunDirectory(Path(folder) / "run")
        execute(run_config(model, world, settings, training, device), model, directory, lambda n, _: on_update(n))
        after = _played(directory.checkpoint, world, settings, device)
    return learned(before, after)


def run_config(model: Path, world: str, settings: Settings, training: Training, device: str) -> RunConfig:
    """The unshaped arm with the settings of most studies. It is hardly evaluated, since M6 plays afterwards."""
    options = options_of(world, settings)
    study = StudyConfig.model_validate(
        {
            "name": "gates",
            "seeds": [training.seed],
            "model": str(model),
            "train": {
                "worlds": {world: options},
                "updates": training.updates,
                "groups": training.groups,
                "group_size": training.group_size,
                "max_tokens": settings.max_tokens,
                "temperature": settings.temperature,
                "device": device,
                "checkpoint_every": 0,
            },
            "learner": {
                "lr": training.lr,
                "advantage_level": "turn",
                "dtype": dtype_of(model, local_device(device, "--device")),
            },
            "eval": {
                "cells": ["train"],
                "episodes": 1,
                "watch": ["drawn"],
                "placebo": ["none"],
                "access_episodes": 0,
                "monitors": [],
            },
            "arms": {"unshaped": {"role": "reference"}},
        }
    )
    return study.runs()[0]


def _played(model: Path, world: str, settings: Settings, device: str) -> list[Observed]:
    subject = loaded(model, settings, device)
    return play_cells(subject.engine, subject.renderer, world, settings, ["none"], slots=subject.slots)["none"]
