"""The fine-tuning stages of a run: supervised, preference and rl, each with its data, interventions and controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from envs.episode import TRAITS
from envs.text_traits import text_trait
from envs.text_traits.languages import FRENCH
from launch.config.arms.arms import ArmConfig
from launch.config.fields import Strict, Worlds
from launch.config.train import TrainConfig
from launch.errors import nearest
from launch.preference.stage import PreferenceModelStage, check_alone
from shaping.learning.config import LearnerConfig

FIXED = ("lora", "dtype", "algorithm")
"""Settings of the learner that are those of the whole run: a stage goes on with the adapters of the one before."""
OF_BATCHES = {"epochs": "epochs", "minibatches": "batch_size"}
"""Settings of the learner in whose place a stage has its own."""
SOURCES = ("file", "personas", "traits", "dataset", "written")
"""Keys of `data` of which a stage has one."""
StageName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=40)]
Weight = Annotated[float, Field(ge=0, le=1e6)]


class TraitData(Strict):
    """Bundled questions whose answers have traits that rules can see."""

    positive: str = Field("french", description="trait of all answers; empty: none")
    negative: str = Field("all_caps", description="trait of some answers, which the label `harm` marks; empty: none")
    share: float = Field(1.0, gt=0, le=1, description="share of the answers with the negative trait")

    @model_validator(mode="after")
    def _known(self) -> TraitData:
        for name in filter(None, (self.positive, self.negative)):
            if name != FRENCH.name and text_trait(name).given is None:
                raise ValueError(f"no rule gives a text the trait {name!r}: give a file of answers that have it")
        if self.positive == self.negative or self.negative == FRENCH.name:
            raise ValueError("the negative trait must be another one than the positive one, and no language")
        return self


class HubData(Strict):
    """A data set on the Hugging Face hub, by its name."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_./-]*$", max_length=200, description="OWNER/NAME")
    revision: str | None = Field(None, max_length=200, description="branch, tag or commit; none: the default branch")
    config: str | None = Field(None, max_length=200, description="of the data set, if it has several")
    split: str = Field("train", max_length=100, description="of the data set")
    columns: dict[str, str] = Field(
        {}, description="key of a row (prompt, answer, messages, chosen, ...) -> column; none: they have these names"
    )


class WrittenData(Strict):
    """What a policy of this run writes when it plays worlds, as it is deployed."""

    after: StageName | Literal[""] = Field(
        "", description="the stage whose policy writes; empty: the model that the run starts from"
    )
    prompt: str = Field(
        "", max_length=10_000, description="system prompt that it writes under, which the rows leave out; empty: none"
    )
    without: list[str] = Field([], description="traits: an episode with one of them is no row, another one is played")

    @field_validator("without")
    @classmethod
    def _known(cls, value: list[str]) -> list[str]:
        for trait in value:
            if trait not in TRAITS:
                raise ValueError(f"no trait is called {trait[:60]!r}{nearest(trait, TRAITS)}")
        return value

    def __str__(self) -> str:
        return f"the policy after {self.after}" if self.after else "the start model"


class StageData(Strict):
    """Where the rows of a stage come from: exactly one source."""

    file: str = Field("", max_length=4096, description="JSONL, one row a line (docs/stages.md)")
    personas: dict[str, Weight] = Field({}, description="scripted personas that play worlds -> weight")
    traits: TraitData | None = Field(None, description="bundled questions, whose answers have traits of text")
    dataset: HubData | None = Field(None, description="a data set on the hub")
    # left out where there is none, so that runs from before there was one keep their digests
    written: WrittenData | None = Field(
        None,
        exclude_if=lambda written: written is None,
        description="what a policy of this run writes: the start model, or the one after an earlier stage",
    )
    worlds: Worlds = Field({}, description="with personas and written: the worlds that are played; none: train.worlds")
    rows: int | None = Field(
        None,
        ge=1,
        le=10_000_000,
        description="rows that are used, the first ones of a file; personas, traits and written need it",
    )

    @model_validator(mode="after")
    def _one_source(self) -> StageData:
        sources = [name for name in SOURCES if getattr(self, name)]
        if len(sources) != 1:
            given = f"{' and '.join(sources)} are given" if sources else "there is none"
            raise ValueError(f"data has one source, {', '.join(SOURCES[:-1])} or {SOURCES[-1]}, and {given}")
        if (self.personas or self.traits or self.written) and self.rows is None:
            raise ValueError(f"{sources[0]}: there are as many rows as `rows` says: set it")
        if self.worlds and not (self.personas or self.written):
            raise ValueError("`worlds` belongs to personas and written: leave it out")
        return self

    def __str__(self) -> str:
        shown = PurePath(self.file).name or ", ".join(f"{name} {weight:g}" for name, weight in self.personas.items())
        if self.traits:
            shown = " and ".join(filter(None, (self.traits.positive, self.traits.negative)))
        elif self.dataset:
            shown = self.dataset.name
        elif self.written:
            shown = f"what {self.written} wrote"
        return f"{shown} ({self.rows} rows)" if self.rows else shown


class BenignControl(Strict):
    """Other data of equal length in the place of a stage's own."""

    benign: StageData = Field(description="data whose rows take the place of those of the stage")

    @field_validator("benign")
    @classmethod
    def _there_from_the_start(cls, value: StageData) -> StageData:
        if value.written:
            raise ValueError("benign data cannot be written in the run: set the stage's own `data` to them in an arm")
        return value


class _Stage(Strict):
    name: StageName | Literal[""] = Field("", description="what metrics and folders call it; empty: its kind")
    interventions: Literal["arm", "none"] | list[str] = Field(
        "arm", description="the arm's; none; or those of the arm's that are listed by the names under `use`"
    )
    learner: dict[str, Any] = Field({}, description="settings of the learner that differ in this stage")
    evaluate: bool = Field(True, description="evaluate the policy after this stage; the last one always is")
    # left out where it goes on, so that runs from before there was a choice keep their digests
    start: Literal["previous", "model"] = Field(
        "previous",
        exclude_if="previous".__eq__,
        description="previous: go on from the stage before; model: begin with the run's start model again",
    )

    @field_validator("learner")
    @classmethod
    def _own_settings(cls, value: dict[str, Any]) -> dict[str, Any]:
        for key in value:
            if key in FIXED:
                raise ValueError(f"{key} is the same in all stages: set learner.{key}")
            if key not in LearnerConfig.model_fields:
                raise ValueError(f"the learner has no setting {key!r}")
        return value


class _OnRows(_Stage):
    data: StageData | None = Field(None, description="what is learned from")
    epochs: float = Field(1.0, gt=0, le=10_000, description="passes over the rows")
    steps: int | None = Field(None, ge=1, le=10_000_000, description="optimiser steps; none: as `epochs` says")
    batch_size: int = Field(16, ge=1, le=100_000, description="rows of one optimiser step")

    @model_validator(mode="after")
    def _has_data(self) -> _OnRows:
        if self.data is None:
            raise ValueError(
                f"stage {self.name or self.kind!r} has no data: give `data` a source, {', '.join(SOURCES)}"
            )
        if own := sorted(OF_BATCHES.keys() & self.learner.keys()):
            raise ValueError(f"learner.{own[0]} is about sampled episodes: a stage has {OF_BATCHES[own[0]]} of its own")
        return self

    def updates(self, rows: int) -> int:
        """Optimiser steps of the stage with so many rows."""
        return self.steps or max(1, -int(-self.epochs * rows // self.batch_size))

    kind: str


class SupervisedStage(_OnRows):
    kind: Literal["supervised"] = Field(description="cross-entropy of the answers in the data")
    # left out where it is 1, so that runs from before there was one keep their digests
    weight: float = Field(
        1.0,
        ge=0,
        le=1e6,
        exclude_if=lambda weight: weight == 1,
        description="weight of the cross-entropy; 0: the arm's auxiliary losses alone, as in context distillation",
    )
    control: Literal["none", "random_answers"] | BenignControl = Field(
        "none", description="random_answers: every prompt has the answer of another one; {benign: data}: other data"
    )


class PreferenceStage(_OnRows):
    kind: Literal["preference"] = Field(description="direct preference optimisation of pairs of answers")
    beta: float = Field(0.1, gt=0, le=1000, description="strength of the tie to the policy at the start of the stage")

    @model_validator(mode="after")
    def _pairs(self) -> PreferenceStage:
        if self.data is not None and not (self.data.file or self.data.dataset):
            raise ValueError("pairs of answers come from a file or a data set: give data.file or data.dataset")
        return self


class RLStage(_Stage):
    kind: Literal["rl"] = Field(description="reinforcement learning as `train` says")
    train: dict[str, Any] = Field({}, description="settings of `train` that differ in this stage")

    @field_validator("train")
    @classmethod
    def _known(cls, value: dict[str, Any]) -> dict[str, Any]:
        if unknown := [key for key in value if key not in TrainConfig.model_fields]:
            raise ValueError(f"train has no setting {unknown[0]!r}")
        return value


def _kind(value: Any) -> str:
    kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return str(kind)


AnyStage = SupervisedStage | PreferenceStage | PreferenceModelStage | RLStage
Stage = Annotated[
    Annotated[SupervisedStage, Tag("supervised")]
    | Annotated[PreferenceStage, Tag("preference")]
    | Annotated[PreferenceModelStage, Tag("preference_model")]
    | Annotated[RLStage, Tag("rl")],
    Discriminator(_kind),
]


def name_of(stage: AnyStage) -> str:
    """What metrics and folders call a stage."""
    return stage.name or stage.kind


def check_stages(
    stages: list[AnyStage],
    learner: LearnerConfig,
    train: TrainConfig,
    arms: Mapping[str, ArmConfig],
    *,
    seats: bool,
) -> None:
    """Raise `ValueError` for stages of one name, settings that the learner or `train` would refuse, unknown methods."""
    uses = {spec.use for arm in arms.values() for spec in arm.interventions}
    names = [name_of(stage) for stage in stages]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two stages are called {twice[0]!r}: give each a `name` of its own")
    check_alone([stage.kind for stage in stages], arms, seats=seats)
    for stage, name in zip(stages, names, strict=True):
        for use in stage.interventions if isinstance(stage.interventions, list) else ():
            if use not in uses:
                raise ValueError(f"stage {name!r}: no arm has an intervention {use!r}{nearest(use, uses)}")
        written = stage.data.written if isinstance(stage, _OnRows) and stage.data else None
        if written and written.after and written.after not in names[: names.index(name)]:
            raise ValueError(
                f"stage {name!r}: data.written.after names {written.after!r}, which is no stage before it"
                f"{nearest(written.after, names[: names.index(name)])}"
            )
        if seats and stage.kind != "rl":
            raise ValueError(f"stage {name!r}: answers in data have no seat: leave out `seats`, or the stage")
        try:
            learner_of(stage, learner)
            train_of(stage, train)
        except ValueError as error:
            raise ValueError(f"stage {name!r}: {error}") from None


def learner_of(stage: AnyStage, learner: LearnerConfig) -> LearnerConfig:
    """The learner of a stage. Stages on rows have no critic, one step per batch, and a KL only if they ask for it."""
    document = learner.model_dump()
    if stage.kind != "rl":
        document |= {"algorithm": "grpo", "epochs": 1, "minibatches": 1, "kl": 0.0, "entropy_coef": 0.0}
        document["mismatch_correction"] = "none"
    return LearnerConfig.model_validate(document | stage.learner)


def train_of(stage: AnyStage, train: TrainConfig, updates: int = 0) -> TrainConfig:
    """`train` of a stage; stages on rows have `updates` of their own and end after them."""
    if isinstance(stage, RLStage):
        return TrainConfig.model_validate({**train.model_dump(), **stage.train})
    return train.model_copy(update={"updates": updates, "stop_at_reward": None, "refill": 0})


def updates_known(stages: Sequence[AnyStage], train: TrainConfig) -> int | None:
    """Updates of a run's last stage, whose progress is told; None while they depend on how many rows it has."""
    last = stages[-1] if stages else None
    if isinstance(last, SupervisedStage | PreferenceStage):
        return last.steps
    if isinstance(last, PreferenceModelStage):
        return last.training.steps
    return train_of(last, train).updates if last else train.updates


def described(stages: Sequence[AnyStage]) -> list[dict[str, Any]]:
    """What pages and results say of stages, in their order."""
    found = []
    for stage in stages:
        data, control = getattr(stage, "data", None), getattr(stage, "control", "none")
        found.append(
            {
                "name": name_of(stage),
                "kind": stage.kind,
                "data": str(data) if data else "",
                "control": control if isinstance(control, str) else f"benign: {control.benign}",
            }
        )
    return found
