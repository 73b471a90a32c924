"""The stage that trains a preference model. It is a run's only stage, and the run has no policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from launch.config.arms.arms import ArmConfig
from launch.config.fields import Strict
from launch.config.rollout import RolloutConfig
from launch.config.train import TrainConfig
from launch.preference.settings import BoundedComparisons, Pretraining
from rewards.preference.text import Reads
from rewards.preference.train import PreferenceTraining

KIND = "preference_model"
HELD_OUT_SEED = 99_999
"""Seed of the comparisons that models are measured on, which are the same in all runs."""
_PLAIN = ArmConfig(role="reference")


class PreferenceModelStage(Strict):
    kind: Literal["preference_model"] = Field(
        description="a preference model (docs/preference.md): the only stage of a run, which then has no policy"
    )
    name: Literal[""] = Field("", description="leave it out: the run has no other stage")
    comparisons: BoundedComparisons = Field(
        BoundedComparisons(), description="its examples; replicate k has those of their seed plus k"
    )
    held_out: int = Field(
        1000, ge=1, le=1_000_000, description="comparisons that it is measured on, the same in all runs"
    )
    reads: Reads = Field("all", description="all that the agent says, or its actions alone")
    training: PreferenceTraining = Field(PreferenceTraining(), description="its training")
    pretraining: Pretraining | None = Field(None, description="a stage on other examples before it; none: none")
    control: Literal["none", "random_labels"] = Field(
        "none", description="random_labels: a fair coin says which answer of a comparison is better"
    )

    interventions: ClassVar[Literal["none"]] = "none"
    """A preference model is no agent, whom an intervention could shape."""
    learner: ClassVar[dict[str, Any]] = {}
    evaluate: ClassVar[bool] = False
    start: ClassVar[Literal["model"]] = "model"

    @model_validator(mode="after")
    def _goes_on(self) -> PreferenceModelStage:
        if self.pretraining is not None and self.training.objective == "imitation":
            raise ValueError(
                "pretraining: imitation cannot go on from a model with a head: set training.objective to binary or "
                "ranked, or leave pretraining out"
            )
        return self

    @property
    def files(self) -> tuple[str, ...]:
        """Files of examples that it reads."""
        return self.pretraining.data.files if self.pretraining else ()

    @property
    def data(self) -> str:
        """The examples in words, as pages show them."""
        own = self.comparisons
        before = f", after {self.pretraining.training.objective} pre-training" if self.pretraining else ""
        return f"{own.pairs} comparisons in {', '.join(own.worlds)}, {self.training.objective}{before}"


def preference_stage(stages: Sequence[Any]) -> PreferenceModelStage | None:
    """The stage of a run that trains a preference model; None for a run of another kind."""
    return stages[0] if stages and isinstance(stages[0], PreferenceModelStage) else None


def check_alone(kinds: Sequence[str], arms: Mapping[str, ArmConfig], *, seats: bool) -> None:
    """Raise `ValueError` if a preference model is one of several stages, or arms have what agents alone can have."""
    if KIND not in kinds:
        return
    if len(kinds) > 1:
        raise ValueError(
            f"stages: {KIND} must be the only stage, and there are {', '.join(kinds)}: train it in a study of its "
            "own, and name its checkpoint in an arm's `reward: {use: PreferenceModel, path: ...}`"
        )
    if seats:
        raise ValueError(f"seats: a {KIND} plays no world, so that nobody sits in it: leave `seats` out")
    for name, arm in arms.items():
        for key in ("interventions", "seats", "reward"):
            if getattr(arm, key) != getattr(_PLAIN, key):
                raise ValueError(
                    f"arms.{name}.{key}: a {KIND} is no agent that could be shaped or paid: leave it out, and `set` "
                    "keys of the stage instead"
                )
        if arm.derived is not None and arm.derived.by == "controls":
            raise ValueError(
                f"controls: {arm.derived.kind} is a control of agents: leave it out, and write an arm such as "
                "{role: control, set: {stages.0.control: random_labels}}"
            )


def check_settings(stage: PreferenceModelStage, train: TrainConfig, rollout: RolloutConfig) -> None:
    """Raise `ValueError` for other worlds than those of the comparisons, and for what only a run of an agent has."""
    named = {name.partition("@")[0] for name in train.worlds}
    if named != set(stage.comparisons.worlds):
        raise ValueError(
            f"train.worlds are {', '.join(sorted(named))}, and stages.0.comparisons.worlds are "
            f"{', '.join(stage.comparisons.worlds)}: write the same ones at both places"
        )
    if train.updates:
        raise ValueError(
            f"train.updates is {train.updates}, and nobody plays: set it to 0; stages.0.training has epochs and steps"
        )
    if rollout.workers or train.learner_group.strategy != "none":
        key = "rollout.workers" if rollout.workers else "train.learner_group"
        raise ValueError(f"{key}: a {KIND} is trained by the run's own process: leave it out")
