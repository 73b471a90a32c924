"""From what a notebook says to the arm and the run config that a study would have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from envs.core import TextEnv
from launch.config.fields import PluginSpec
from launch.config.plugins import INTERVENTION, PluginError, load
from launch.config.study import RunConfig, StudyConfig
from launch.errors import ConfigError, describe
from shaping.arm import Arm, compose
from shaping.hooks import InterventionError
from shaping.intervention import Intervention

One = Intervention | str | Mapping[str, Any]
Given = Arm | One | Sequence[One] | None
"""An arm as a notebook writes it; None: the unshaped policy."""

_UNSHAPED = "unshaped"
_SHAPED = "shaped"


def arm_of(given: Given) -> Arm:
    """The arm. Raises `ConfigError` or `PluginError` for interventions that do not exist or do not go together."""
    if isinstance(given, Arm):
        return given
    single = isinstance(given, Intervention | str | Mapping)
    several: Sequence[Any] = [] if given is None else [given] if single else list(given)
    built = [each if isinstance(each, Intervention) else _loaded(each, number) for number, each in enumerate(several)]
    try:
        return compose("+".join(type(each).__name__ for each in built) or _UNSHAPED, built)
    except InterventionError as error:
        raise PluginError(str(error)) from None


def run_of(
    world: str | type[TextEnv],
    options: Mapping[str, Any],
    model: str,
    arm: Arm,
    train: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> RunConfig:
    """The config of a run in one world. Raises `ConfigError` that names the setting that is wrong.

    Args:
        world: its name, or its class, which is recorded as its name.
        options: options of the world.
        model: the model's directory.
        arm: what episodes are played under; the config does not hold it.
        train: settings of `train`.
        seed: seed of the run.
    """
    name = world if isinstance(world, str) else str(getattr(world, "name", "") or world.__name__)
    document = {
        "name": "notebook",
        "seeds": [seed],
        "model": model,
        "train": {"groups": 1, "group_size": 2, "updates": 0, **(train or {}), "worlds": {name: dict(options)}},
        "eval": {"cells": ["train"]},
        "arms": {_UNSHAPED: {"role": "reference"}, _SHAPED: {"role": "treatment", "label": arm.name}},
    }
    try:
        runs = StudyConfig.model_validate(document).runs()
    except ValidationError as error:
        raise ConfigError(describe(error, StudyConfig)) from None
    return next(run for run in runs if run.arm == _SHAPED)


def _loaded(given: Any, number: int) -> Intervention:
    where = f"arm.{number}"
    try:
        spec = PluginSpec.model_validate(given)
    except ValidationError as error:
        raise ConfigError(describe(error, PluginSpec, prefix=where)) from None
    found: Intervention = load(spec, INTERVENTION, where)
    return found
