"""How a run trains: in which worlds, for how long, on which device, and with which processes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from launch.config.fields import WEEK, Strict, Worlds

MAX_EPISODES = 1_000_000
"""Episodes of one update."""


class LearnerGroupConfig(Strict):
    """The processes that train the policy together: Ray actors, one rank each (docs/scaling.md)."""

    strategy: Literal["none", "data", "fsdp"] = Field(
        "none", description="none: the run's own process learns; data: every rank has all weights; fsdp: a part of them"
    )
    ranks: int = Field(1, ge=1, le=10_000, description="processes; each reads all samples and learns from its share")
    cpus: float = Field(1.0, gt=0, le=10_000, description="CPUs reserved for a rank; it computes in as many threads")
    gpus: float = Field(
        0.0, ge=0, le=100, description="GPUs reserved for a rank: 0, 1, or the share that rollouts leave it"
    )
    nodes: Literal["pack", "spread"] = Field("pack", description="ranks on as few nodes as possible, or on as many")
    timeout: float = Field(
        1800.0, gt=0, le=WEEK, description="seconds after which a rank that has not answered counts as lost"
    )
    placement_timeout: float = Field(300.0, gt=0, le=WEEK, description="seconds to wait for room on the cluster")
    restarts: int = Field(
        3, ge=0, le=1000, description="restarts after lost ranks, in a row without a new update between them"
    )

    @model_validator(mode="after")
    def _ranks(self) -> LearnerGroupConfig:
        if self.strategy == "none" and (self.ranks > 1 or self.gpus):
            raise ValueError("strategy none learns in the run's own process: set it to data or fsdp to have ranks")
        if self.gpus > 1 or (self.ranks > 1 and 0 < self.gpus <= 0.5):
            raise ValueError("a rank computes on one GPU of its own: set gpus to 0, to 1, or to more than 0.5")
        return self

    def bundles(self) -> list[dict[str, float]]:
        """What each rank needs of a cluster; nothing where the run's own process learns."""
        one = {"CPU": self.cpus} | ({"GPU": self.gpus} if self.gpus else {})
        return [one] * self.ranks if self.strategy != "none" else []


class TrainConfig(Strict):
    worlds: Worlds = Field(min_length=1, description="world name or package.module:Class -> its options")
    updates: int = Field(ge=0, le=10_000_000, description="policy updates")
    groups: int = Field(ge=1, le=100_000, description="groups per update, spread over the worlds in turn")
    group_size: int = Field(ge=2, le=10_000, description="episodes per group: same seed, same context, one baseline")
    max_tokens: int | None = Field(
        None, ge=1, le=1_000_000, description="longest completion, in tokens; none: 32, and 256 for readers of prose"
    )
    temperature: float = Field(1.0, gt=0, le=100, description="of sampling in training")
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="where the run's own process learns and evaluates; auto: a GPU where there is one, else the CPU",
    )
    gpus: float = Field(
        1.0, gt=0, le=1, description="share of a GPU that this process reserves where it computes on one"
    )
    step_timeout: float = Field(10.0, gt=0, le=WEEK, description="seconds that one call of a world may take")
    reward_timeout: float = Field(600.0, gt=0, le=WEEK, description="seconds that the reward of one group may take")
    checkpoint_every: int = Field(
        5,
        ge=0,
        le=10_000_000,
        description="updates between saved states that a killed run resumes from, and after the last; 0: none",
    )
    save_episodes_every: int = Field(
        0, ge=0, le=10_000_000, description="updates between saved episode files; 0: the last only"
    )
    stop_at_reward: float | None = Field(
        None,
        ge=0,
        le=1000,
        description="end training early, once updates earn this share of the full reward (column reward of "
        "metrics.jsonl); none: never",
    )
    stop_window: int = Field(3, ge=1, le=10_000_000, description="updates whose mean must reach stop_at_reward")
    refill: int = Field(
        0,
        ge=0,
        le=100_000,
        description="extra groups that an update may play to replace groups in which neither rewards nor costs vary",
    )
    learner_group: LearnerGroupConfig = Field(
        LearnerGroupConfig(), description="processes that train the policy together"
    )

    @model_validator(mode="after")
    def _episodes_of_an_update(self) -> TrainConfig:
        if (count := self.groups * self.group_size) > MAX_EPISODES:
            raise ValueError(f"groups x group_size is {count:,} episodes per update; at most {MAX_EPISODES:,} fit")
        return self
