"""The hidden states that a run's interventions and monitors want to see while it samples."""

from __future__ import annotations

from launch.config.plugins import build_monitors
from launch.config.study import RunConfig
from launch.errors import ConfigError
from shaping.arm import Arm, captures_of
from shaping.hooks import Capture, InterventionError


def sampling_captures(run: RunConfig, arm: Arm) -> list[Capture]:
    """Those of the arm, and those of the monitors. Raises `ConfigError` if two disagree about a name."""
    try:
        return captures_of([*arm.interventions, *build_monitors(run.eval)], "sampling")
    except InterventionError as error:
        raise ConfigError(f"arms.{run.arm}, eval.monitors: {error}") from None


def check_captures(run: RunConfig, arm: Arm) -> None:
    """Raise `ConfigError` if states are asked of an engine that does not show them."""
    if run.rollout.engine != "vllm" or not (captures := sampling_captures(run, arm)):
        return
    raise ConfigError(
        f"arm {arm.name!r} and its monitors read hidden states while they sample "
        f"({', '.join(repr(c.name) for c in captures)}), which vLLM does not show: set rollout.engine=transformers; "
        "states of the learner's own pass (captures of phase training) are seen with either engine"
    )
