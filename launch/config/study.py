"""The config of a study: arms x seeds x axes, and how each run trains and is evaluated. `loading` reads YAML."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from operator import not_
from typing import Annotated, Any, Literal

from pydantic import Field, ModelWrapValidatorHandler, ValidationError, field_validator, model_validator

from launch.config.arms.arms import ArmConfig as ArmConfig
from launch.config.arms.arms import ArmName, SeatInterventions
from launch.config.arms.arms import Role as Role
from launch.config.arms.axes import (
    OF_ARMS,
    POINT,
    SWEEPABLE,
    Point,
    applies_to,
    keys_of,
    points_of,
    short_names,
    slug,
    sweep_points,
)
from launch.config.arms.factorial import combined
from launch.config.arms.prompting import prompting
from launch.config.arms.seats import SeatsConfig
from launch.config.evaluation import EvalConfig
from launch.config.fields import PluginSpec, Strict
from launch.config.isolation import Isolation, hidden_by
from launch.config.model import ModelSource, Organisms, Start, StudyModel, speaks_dialect, start_of, subject_of
from launch.config.reading.conversions import conversions
from launch.config.reading.digests import digest
from launch.config.reading.keys import keys_below, set_key
from launch.config.rollout import RolloutConfig
from launch.config.seeds import MAX_RUNS, Seeds, seed_list
from launch.config.stages import Stage, check_stages
from launch.config.train import TrainConfig
from launch.config.world_locales import expand_key, explicit, spoken
from launch.errors import ConfigError, describe, nearest
from shaping.controls import ControlKind
from shaping.gauge import Gauge
from shaping.learning.config import LearnerConfig

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=60)]
PROSE_TOKENS = 256
"""Tokens of a completion in prose, unless the study says else."""


class ReportConfig(Strict):
    question: str = Field("", max_length=1000, description="what the study asks; the report shows it below its name")
    sections: list[Annotated[str, Field(min_length=1)]] = Field(
        [], description="sections of the report in their order, built-in, installed or package.module:Class; none: all"
    )


class RunConfig(Strict):
    """One resolved training run."""

    study: str
    arm: str
    sweep_point: dict[str, Any] = Field({}, description="axis (short name) -> value")
    arm_config: ArmConfig
    seed: int
    model: ModelSource
    prose: bool = Field(False, description="the model reads natural prose, and not the worlds' dialect for organisms")
    train: TrainConfig
    learner: LearnerConfig
    rollout: RolloutConfig = RolloutConfig()
    eval: EvalConfig
    seats: SeatsConfig | None = None
    # left out where there are none, so that runs from before there were stages keep their digests
    stages: list[Stage] = Field(
        [], exclude_if=not_, description="of the fine-tuning; none: one, of reinforcement learning"
    )
    context_arms: dict[str, list[PluginSpec] | SeatInterventions] = Field(
        {},
        description="in a reference's run, with eval.contexts: interventions of the arms whose prompts it is tried on; "
        "of arms with interventions of single seats, those of each seat",
    )
    # what the study's `model` meant when it began: in run.json beside the config
    commit: str = Field("", exclude=True, description="of a model on the hub: the commit that the study has pinned")
    # whoever looks on is no part of what a run is: not in its record, nor in its digest
    tracking: list[PluginSpec] = Field([], exclude=True)
    gauge: Gauge = Field(Gauge(), exclude=True)
    # results are the same with and without
    isolation: Isolation | None = Field(None, exclude=True)
    # set while a stage is played: the run that it belongs to is what is recorded
    within: Within | None = Field(None, exclude=True)

    @property
    def max_tokens(self) -> int:
        """The longest completion, in tokens."""
        return self.train.max_tokens or (PROSE_TOKENS if self.prose else 32)

    @property
    def point_name(self) -> str:
        """`<arm>[+axis=value...]`."""
        return "+".join([self.arm, *(f"{slug(axis)}={slug(value)}" for axis, value in self.sweep_point.items())])

    @property
    def directory_name(self) -> str:
        """`<arm>[+axis=value...]/seed-<k>`: unique within a study."""
        return f"{self.point_name}/seed-{self.seed}"

    @property
    def subject(self) -> str:
        """What is trained, as reports name it: `organism-2`, or the model's name."""
        return subject_of(self.model)

    @property
    def recorded(self) -> dict[str, Any]:
        """The resolved config as run.json holds it; of a stage that is not the last, the run up to that stage."""
        return (self.within.run if self.within else self).model_dump(mode="json")

    @property
    def digest(self) -> str:
        """Hash of the resolved config; a finished run is kept only under the same one."""
        return digest(self.recorded)


class Within(Strict):
    """What a stage of a run knows of the run. It is recorded nowhere: the run itself is."""

    run: RunConfig
    """The run up to this stage."""
    start: str
    """Directory of the model that the run starts from."""
    adapters: str = ""
    """Checkpoint whose adapters this stage goes on with; empty: those of the stage before are in its start model."""
    rows: str = ""
    """File with the episodes that a policy of the run has written for this stage; empty: it has other data."""


class StudyConfig(Strict):
    name: Name = Field(description="what the study is called: its directory below `output`")
    seeds: Seeds = Field(
        5, description="a list, n for 0..n-1, or {looks: [8, 12, 24]}: so many in steps, until every claim is decided"
    )
    model: StudyModel = Field(
        Organisms(organism="shipped"),
        description="start of the runs: a directory, OWNER/NAME[@REVISION] on the hub, or organisms, which take turns",
    )
    train: TrainConfig = Field(description="worlds, and how much is played and learned")
    learner: LearnerConfig = Field(LearnerConfig(), description="algorithm, optimiser, and what an update may cost")
    rollout: RolloutConfig = Field(RolloutConfig(), description="where and how episodes are played")
    eval: EvalConfig = Field(description="what is looked at after training, and by which monitors")
    seats: SeatsConfig | None = Field(
        None, description="who sits where in worlds with several seats; none: every world has one"
    )
    stages: list[Stage] = Field(
        [],
        max_length=20,
        exclude_if=not_,
        description="stages of a run's fine-tuning (docs/stages.md); none: one of kind rl, made of `train`",
    )
    arms: dict[ArmName, ArmConfig] = Field(
        min_length=1, description="name -> what is compared; exactly one has the role reference"
    )
    factorial: list[str] = Field(
        [], description="arms whose combinations are arms, too: a+b, a+c, b+c and a+b+c of [a, b, c]"
    )
    controls: Literal["written", "auto"] | list[ControlKind] = Field(
        "written", description="auto: add the controls that the arms' methods need; a list: these; written: none"
    )
    axes: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(
        {}, description="dotted key (or several, comma-separated) -> values; every combination is a sweep_point"
    )
    points: dict[Name, Point] = Field(
        {}, description="name -> keys set together, for some arms; the report lists them as the axis `point`"
    )
    claims: dict[Name, PluginSpec] = Field(
        {}, description="id -> what the study claims, with its fields (docs/claims.md); none: no verdicts"
    )
    report: ReportConfig = Field(ReportConfig(), description="what the report shows")
    tracking: list[PluginSpec] = Field(
        [], description="where runs are shown while they train: wandb, trackio, tensorboard, package.module:Class"
    )
    gauge: Gauge = Field(
        Gauge(), description="when selection for deception or power raises an alarm, which changes nothing in a run"
    )
    isolated: bool = Field(
        False, description="run rewards and interventions that are not built in apart, without labels and results"
    )
    output: str = Field("runs", description="directory that the study's own directory is created in")

    @field_validator("arms")
    @classmethod
    def _reference(cls, arms: dict[str, ArmConfig]) -> dict[str, ArmConfig]:
        named = [name for name, arm in arms.items() if arm.role == "reference"]
        if len(named) != 1:
            raise ValueError(
                "exactly one arm has role: reference, the one that all others are compared with; "
                f"here {' and '.join(named) or 'none'} {'have' if len(named) > 1 else 'has'} it"
            )
        return arms

    @field_validator("controls", mode="before")
    @classmethod
    def _known_controls(cls, controls: Any) -> Any:
        kinds = [kind.value for kind in ControlKind]
        if isinstance(controls, str) and controls not in ("auto", "written"):
            raise ValueError(f"{controls[:60]!r} is none of auto, written, and a list of kinds such as [{kinds[0]}]")
        for kind in controls if isinstance(controls, list | tuple) else ():
            if kind not in kinds:
                raise ValueError(f"no kind of control {str(kind)[:60]!r}{nearest(str(kind), kinds)}")
        return controls

    @field_validator("axes")
    @classmethod
    def _axes(cls, axes: dict[str, list[Any]]) -> dict[str, list[Any]]:
        for axis in axes:
            for key in keys_of(axis):
                if key.split(".")[0] not in SWEEPABLE:
                    raise ValueError(f"{key!r} is no axis; it must lie under {', '.join(SWEEPABLE)}")
        return axes

    @model_validator(mode="after")
    def _stages(self) -> StudyConfig:
        check_stages(self.stages, self.learner, self.train, self.arms, seats=self.seats is not None)
        return self

    @model_validator(mode="after")
    def _combinations(self) -> StudyConfig:
        self.arms.update(combined(self.arms, self.factorial, self.axes))
        return self

    @model_validator(mode="after")
    def _seats_of_arms(self) -> StudyConfig:
        for name, arm in self.arms.items():
            for seat in arm.seats:
                if self.seats is None:
                    raise ValueError(f"arms.{name}.seats: the study has no seats; leave it out, or write `seats`")
                self.seats.check_seat(seat, f"arms.{name}.seats")
        return self

    @model_validator(mode="after")
    def _settings_of_arms(self) -> StudyConfig:
        for name, arm in self.arms.items():
            if stray := [key for key in arm.set if key.split(".")[0] not in OF_ARMS]:
                raise ValueError(f"arms.{name}.set: {stray[0]!r} cannot be set; only {', '.join(OF_ARMS)} can")
        return self

    @model_validator(mode="after")
    def _axes_of_arms(self) -> StudyConfig:
        for key in (key for axis in self.axes for key in keys_of(axis)):
            parts = key.split(".")
            if parts[0] == "arms" and (len(parts) < 3 or parts[1] not in self.arms):
                raise ValueError(f"axes: {key!r} names no arm{nearest(''.join(parts[1:2]), self.arms)}")
        return self

    @model_validator(mode="after")
    def _points(self) -> StudyConfig:
        if self.points and POINT in short_names(list(self.axes)).values():
            raise ValueError(f"axes: with points, no axis can be called {POINT!r}, as reports would confuse the two")
        reference = next(name for name, arm in self.arms.items() if arm.role == "reference")
        for name, point in self.points.items():
            if stray := [key for key in point.set if key.split(".")[0] not in SWEEPABLE]:
                raise ValueError(f"points.{name}.set: {stray[0]!r} cannot be set; only {', '.join(SWEEPABLE)} can")
            if unknown := [arm for arm in point.arms if arm not in self.arms]:
                raise ValueError(f"points.{name}.arms: no arm {unknown[0]!r}{nearest(unknown[0], self.arms)}")
            if point.arms and reference not in point.arms:
                raise ValueError(
                    f"points.{name}.arms: the reference {reference!r} is missing, with which the others are compared"
                )
        if self.points and (idle := [arm for arm in self.arms if not self.points_of(arm)]):
            raise ValueError(f"arms.{idle[0]}: none of the points lists this arm, so that it would never run")
        return self

    @model_validator(mode="after")
    def _few_enough(self) -> StudyConfig:
        points = [
            math.prod(len(v) for axis, v in self.axes.items() if applies_to(axis, arm))
            * (len(self.points_of(arm)) if self.points else 1)
            for arm in self.arms
        ]
        if (count := len(self.seed_list) * sum(points)) > MAX_RUNS:
            raise ValueError(f"axes, points, arms and seeds make {count:,} runs; at most {MAX_RUNS:,} are possible")
        return self

    @model_validator(mode="wrap")
    @classmethod
    def _as_written(cls, value: Any, validate: ModelWrapValidatorHandler[StudyConfig]) -> StudyConfig:
        dialect = speaks_dialect(value.get("model")) if isinstance(value, dict) else True
        value = explicit(value, dialect)
        study = validate(value)
        for worlds in (study.train.worlds, study.eval.worlds):
            spoken(worlds, dialect)  # refuses two of one name
        if converted := list(conversions(value, study)):
            raise ConfigError("\n".join(converted))
        return study

    def points_of(self, arm: str) -> list[str]:
        """Points at which an arm runs: a combination where all of its arms do, a control where any does."""
        derived = self.arms[arm].derived
        if derived is None:
            return points_of(self.points, arm)
        wanted = all if derived.by == "factorial" else any
        own = {each: points_of(self.points, each) for each in (*derived.of, arm)}
        return [p for p in self.points if p in own[arm] or wanted(p in own[each] for each in derived.of)]

    @property
    def seed_list(self) -> list[int]:
        return seed_list(self.seeds)

    def spoken(self, worlds: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Worlds by the names that their episodes have: without a locale, prose unless the model is an organism."""
        return spoken(worlds, speaks_dialect(self.model))

    def runs(self) -> list[RunConfig]:
        """Every run. Seeds vary slowest: a study that was cut short has compared all arms on its first seeds."""
        templates = [
            self._run(arm, sweep_point, point)
            for arm in self.arms
            for point in (self.points_of(arm) if self.points else [""])
            for sweep_point in sweep_points(self.axes, arm)
        ]
        every = [run for run, _ in templates]
        placed = [
            (run.model_copy(update={"context_arms": _context_arms(run, every)}), model) for run, model in templates
        ]
        runs = [
            run.model_copy(update={"seed": seed, "model": start_of(model, seed)})
            for seed in self.seed_list
            for run, model in placed
        ]
        by_name: dict[str, RunConfig] = {}
        for run in runs:
            if (twin := by_name.setdefault(run.directory_name, run)) is not run:
                raise ConfigError(
                    f"axes: two sweep_points of arm {run.arm!r} get the same directory name {run.directory_name!r}: "
                    f"{twin.sweep_point} and {run.sweep_point}; make the values of the axis differ"
                )
        return runs

    def _run(self, arm: str, sweep_point: dict[str, Any], point: str) -> tuple[RunConfig, Start]:
        """The run of seed 0, and the model of all seeds."""
        document = self.model_dump(mode="json")
        dialect = speaks_dialect(self.model)
        settings = [*(self.points[point].set.items() if point else ()), *sweep_point.items()]
        settings += self.arms[arm].set.items()  # last: what makes the arm what it is holds at every point
        for axis, value in settings:
            for key in keys_of(axis):
                for one in (each for below in keys_below(document, key) for each in expand_key(below, dialect)):
                    set_key(document, one, copy.deepcopy(value))
        own_settings = f"arms.{arm}.set" if self.arms[arm].set else ""
        swept = f"axes, sweep_point {sweep_point}" if sweep_point else ""
        where = ", ".join(filter(None, [f"points.{point}" if point else "", own_settings, swept]))
        try:
            own = StudyConfig.model_validate(document)
        except ValidationError as error:
            raise ConfigError(f"{where}:\n{describe(error, StudyConfig)}") from None
        except ConfigError as error:
            raise ConfigError(f"{where}:\n{error}") from None
        names = short_names(list(self.axes))
        run = RunConfig(
            study=self.name,
            arm=arm,
            sweep_point=({POINT: point} if point else {}) | {names[axis]: value for axis, value in sweep_point.items()},
            arm_config=own.arms[arm],
            seed=0,
            model=start_of(own.model, 0),
            prose=not speaks_dialect(own.model),
            train=own.train.model_copy(update={"worlds": own.spoken(own.train.worlds)}),
            learner=own.learner,
            rollout=own.rollout.resolved(lora=own.learner.lora is not None),
            eval=own.eval.model_copy(update={"worlds": own.spoken(own.eval.worlds)}),
            seats=own.seats,
            stages=own.stages,
            tracking=own.tracking,
            gauge=own.gauge,
            isolation=own._isolation() if own.isolated else None,
        )
        return run, own.model

    def _isolation(self) -> Isolation:
        return Isolation(
            hidden=hidden_by(self.output, self.name),
            step_seconds=self.train.step_timeout,
            reward_seconds=self.train.reward_timeout,
            stage_seconds=self.rollout.stage_timeout,
        )


def _context_arms(run: RunConfig, runs: Sequence[RunConfig]) -> dict[str, list[PluginSpec] | SeatInterventions]:
    """Arm -> those of its interventions that may give it prompts, for the arms that are compared with a reference."""
    if run.arm_config.role != "reference" or not run.eval.contexts:
        return {}
    compared = [
        other
        for other in runs
        if other is not run and all(other.sweep_point.get(axis) == v for axis, v in run.sweep_point.items())
    ]
    found = {
        other.point_name: prompting(other.arm_config, other.seats.learned if other.seats else ()) for other in compared
    }
    return {arm: interventions for arm, interventions in found.items() if interventions}
