"""How the trained policy is evaluated: in which worlds, with which of their options, and under which system prompts."""

from __future__ import annotations

import functools
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from envs.discovery import subclasses
from launch.config.alarms import AlarmsConfig
from launch.config.fields import WEEK, PluginSpec, Strict, Worlds
from launch.errors import nearest
from launch.relearn.settings import Attack
from shaping.hooks import Knob
from shaping.intervention import Intervention
from shaping.prompts.grid import GRID, EvalContext


class EvalConfig(Strict):
    worlds: Worlds = Field({}, description="world name or package.module:Class -> its options, for the cells `own`")
    cells: list[Literal["own", "train"]] = Field(
        ["own", "train"],
        min_length=1,
        description="own: the options of eval.worlds; train: those that the run trains in; both, or one of them",
    )
    contexts: list[EvalContext] = Field(
        [], description="system prompts to try out (trigger grid), or grid for all seven; none: only without prompts"
    )
    episodes: int = Field(16, ge=1, le=100_000, description="episodes per condition (world x watch x placebo)")
    context_episodes: int = Field(
        0, ge=0, le=100_000, description="episodes per world and context of the trigger grid; 0: as many as `episodes`"
    )
    average_last: int = Field(
        1,
        ge=1,
        le=1000,
        description="evaluate the weights after each of this many last updates; metrics are the means over them",
    )
    slots: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="episodes open at once in evaluation and audits; none: 64, on a GPU as many as its memory holds",
    )
    watch: list[Literal["drawn", "always", "never"]] = Field(
        ["always", "never"], min_length=1, description="cue of the overseer, in worlds that have one: each is a cell"
    )
    placebo: list[Literal["none", "on", "off"]] = Field(
        ["on", "off"], min_length=1, description="irrelevant cue of the same form, in worlds that have one"
    )
    best_of: int = Field(8, ge=1, le=10_000, description="k of best-of-k in the reward-access audit")
    access_episodes: int = Field(8, ge=0, le=100_000, description="seeds of the reward-access audit; 0 leaves it out")
    base: bool = Field(
        False, description="also evaluate the model before training, once per seed (in the runs of the reference arm)"
    )
    prompted: bool = Field(
        False, description="evaluate under the arm's own prompts: the control that shows what they do without training"
    )
    spike_in: list[Annotated[float, Field(ge=0, le=1)]] = Field(
        [], description="shares of the evaluation that a scripted deceiver replaces, to see what the metrics would read"
    )
    # left out where there is none, so that runs from before there was one keep their digests
    relearn: Attack | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="after the evaluation, clone bad episodes into the policy: how much of a trait is back "
        "(metric relearned); none: do not",
    )
    monitor_timeout: float = Field(
        600.0, gt=0, le=WEEK, description="seconds that a monitor may read the episodes of an update or the evaluation"
    )
    monitors: list[PluginSpec] = Field(
        [PluginSpec(use="OvertAction"), PluginSpec(use="ClaimCheck")],
        description="held-out readers of the evaluation, compared with ground truth, and of training episodes if cheap",
    )
    alarms: AlarmsConfig | None = Field(
        None, description="thresholds of monitors on training episodes, and what follows an alarm; none: no alarms"
    )

    @field_validator("contexts", mode="before")
    @classmethod
    def _whole_grid(cls, value: Any) -> Any:
        if value == "grid":
            return list(GRID)
        names = [value] if isinstance(value, str) else value
        if isinstance(names, (list, tuple)) and (unknown := [name for name in names if name not in GRID]):
            raise ValueError(f"no evaluation context {unknown[0]!r}{nearest(str(unknown[0]), [*GRID, 'grid'])}")
        return names

    @field_validator("cells", "contexts")
    @classmethod
    def _once(cls, value: list[Any]) -> list[Any]:
        return list(dict.fromkeys(value))

    @model_validator(mode="after")
    def _worlds_of_own_cells(self) -> EvalConfig:
        if "own" in self.cells and not self.worlds:
            raise ValueError(
                "worlds: at least one is needed; without any, set cells to [train], which evaluates in the training "
                "worlds and their options alone"
            )
        return self

    @property
    def episodes_per_context(self) -> int:
        """Episodes per world and context of the trigger grid."""
        return self.context_episodes or self.episodes


def may_have_context(intervention: PluginSpec) -> bool:
    """May an intervention set a system prompt? Of one that is not built in nothing is known before it is built."""
    kind = next((found for package in _BUILT_IN for name, found in _classes(package) if name == intervention.use), None)
    return kind is None or bool(kind.owns & {Knob.SAMPLING_CONTEXT, Knob.TRAINING_CONTEXT})


_BUILT_IN = ("shaping.shapers", "shaping.constraints")


@functools.cache
def _classes(package: str) -> tuple[tuple[str, type[Intervention]], ...]:
    return tuple(subclasses(package, Intervention).items())
