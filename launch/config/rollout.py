"""Settings of rollouts: episodes are played in this process, or by Ray actors on many cores and machines."""

from __future__ import annotations

import difflib
from datetime import date
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from launch.errors import ConfigError, describe
from shaping.sampling.text.template import CLOCK, TemplateSettings, Thoughts
from shaping.sampling.truncation import MOST_KEPT

if TYPE_CHECKING:
    from shaping.sampling.vllm.config import VLLMConfig

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Maximum ranks of LoRA adapters that vLLM supports."""


class RolloutConfig(BaseModel):
    """The sampler of a run. Conflicts within it are refused here, and conflicts with the arm by `check_rollout`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    engine: Literal["transformers", "vllm"] = Field("transformers", description="what samples; see docs/engines.md")
    workers: int = Field(
        0, ge=0, le=10_000, description="Ray actors that play; 0: this process, with the learner's own model"
    )
    cpus: float = Field(1.0, ge=0, le=10_000, description="cores of one worker")
    gpus: float = Field(0.0, ge=0, le=100, description="GPUs of one worker; may be a fraction")
    slots: int | None = Field(
        None, ge=1, le=100_000, description="episodes open at once in one worker; none: all its episodes, up to 64"
    )
    max_staleness: int = Field(
        0,
        ge=0,
        le=1000,
        description="policy versions by which an episode may be behind; above 0, play and learning overlap",
    )
    sync: Literal["full", "lora"] | None = Field(
        None,
        description="weights sent to workers: full (all of them; vLLM gets adapters merged, and in bfloat16 that loses "
        "most of a small update), or lora (only adapters, nothing is merged); not set: lora with learner.lora and vLLM",
    )
    transfer: Literal["file", "broadcast"] = Field(
        "file", description="how all weights reach vLLM: through Ray and a file, or directly from this process"
    )
    batching: Literal["shared", "group"] = Field(
        "shared", description="group: only members of a group share a batch, and results do not depend on the workers"
    )
    top_k: int | None = Field(
        None,
        ge=1,
        le=MOST_KEPT,
        description="sample among this many likeliest tokens, in training and evaluation; the learner's log-probs are "
        "then over the same tokens, too; none: all tokens",
    )
    top_p: float = Field(
        1.0, gt=0, le=1, description="sample among the likeliest tokens that have this probability; below 1 with top_k"
    )
    min_p: float = Field(
        0.0, ge=0, lt=1, description="sample no token below this share of the likeliest's probability; with top_k"
    )
    splitter: str = Field(
        "marker",
        description="what is motive and what is action in a completion, in training and evaluation: marker (what "
        "follows the last ACTION:), think_tags (the same, and only after </think>), tool_call, package.module:Class",
    )
    thoughts: Thoughts = Field(
        "keep",
        description="where a chat template drops the thoughts of earlier replies: keep them, so that an episode is one "
        "token sequence, or do as the template does",
    )
    chat_template_kwargs: dict[str, Any] = Field(
        {}, description="arguments of the chat template, such as enable_thinking: false"
    )
    clock: date = Field(CLOCK, description="the date that the chat template reads, if it reads one")
    env_threads: int | None = Field(
        None,
        ge=0,
        le=10_000,
        description="threads in which worlds step at the same time; none: built-in worlds step in the event loop, all "
        "others in one thread beside it, in turn; 0: all in the event loop",
    )
    stage_timeout: float = Field(
        600.0, gt=0, le=604_800, description="seconds without progress after which a run stops"
    )
    retries: int = Field(
        4, ge=1, le=1000, description="workers that a group may lose before the run stops and names it"
    )
    vllm: dict[str, Any] = Field({}, description="settings of the vLLM engine; see docs/engines.md")

    @field_validator("splitter")
    @classmethod
    def _splitter(cls, name: str) -> str:
        from shaping.sampling.text.split import SPLITTERS

        if name in SPLITTERS or (name.count(":") == 1 and all(name.split(":"))):
            return name
        near = difflib.get_close_matches(name, SPLITTERS, n=1, cutoff=0.0)[0]
        known = ", ".join(SPLITTERS)
        raise ValueError(f"unknown splitter {name!r}; did you mean {near!r}? Valid: {known}, package.module:Class")

    @model_validator(mode="after")
    def _possible(self) -> RolloutConfig:
        if self.workers == 0:
            for name, wrong in (("engine", self.engine == "vllm"), ("sync", self.sync == "lora")):
                if wrong:
                    raise ValueError(f"{name}={getattr(self, name)} needs rollout workers: set workers to at least 1")
            if self.max_staleness:
                raise ValueError(
                    "max_staleness above 0 lets play and learning overlap, which needs rollout workers: set workers to "
                    "at least 1, or max_staleness to 0"
                )
        if self.top_k is None and (self.top_p < 1 or self.min_p):
            raise ValueError(
                "top_p and min_p need top_k as a bound: which tokens were kept is recorded for every token, so that "
                f"the learner can use the same distribution. Set top_k, at most to {MOST_KEPT}"
            )
        if self.vllm and self.engine != "vllm":
            raise ValueError("settings under `vllm` have no effect with engine=transformers: remove them")
        if self.transfer == "broadcast":
            if self.engine != "vllm":
                raise ValueError(
                    "transfer=broadcast is for engine=vllm, whose engine is a separate process: a transformers worker "
                    "reads the weights from Ray's object store. Use transfer=file"
                )
            if self.sync == "lora":
                raise ValueError("transfer=broadcast sends all weights, sync=lora only an adapter: use transfer=file")
        if self.batching == "group":
            if self.engine == "vllm":
                raise ValueError("batching=group is for engine=transformers: vLLM forms its batches itself")
            if self.max_staleness or self.env_threads:
                raise ValueError(
                    "batching=group makes runs repeatable to the bit, but with max_staleness or env_threads results "
                    "depend on timing: set both to 0, or batching=shared"
                )
        if self.engine == "vllm":
            try:
                parts = self.vllm_config().tensor_parallel_size
            except ConfigError as error:
                raise ValueError(str(error)) from None
            if parts > 1 and 0 < self.gpus < parts:
                raise ValueError(
                    f"vllm.tensor_parallel_size={parts} spreads an engine over as many GPUs, and gpus={self.gpus:g} "
                    f"reserves fewer: set gpus to {parts}"
                )
            if self.transfer == "broadcast" and parts > 1:
                raise ValueError(
                    f"transfer=broadcast sends to one process, but vllm.tensor_parallel_size={parts} gives an engine "
                    "several: use transfer=file"
                )
        return self

    def resolved(self, *, lora: bool) -> RolloutConfig:
        """The same with `sync` set: as the config says, else the adapters alone where they would be merged.

        Args:
            lora: does the run train a LoRA adapter in place of its weights?
        """
        if self.sync is not None:
            return self
        merges = lora and self.engine == "vllm" and self.transfer == "file"
        return self.model_copy(update={"sync": "lora" if merges else "full"})

    def template_settings(self) -> TemplateSettings:
        """How the model's chat template is rendered."""
        return TemplateSettings(self.thoughts, self.chat_template_kwargs, self.clock)

    def vllm_config(self, rank: int = 0, dtype: str = "float32", players: int = 1) -> VLLMConfig:
        """The settings of the vLLM engine.

        Args:
            rank: Rank of the adapter that is sent, if `sync` is lora; of several, the highest.
            dtype: The learner's type, which the engine uses unless `vllm` sets another one.
            players: Adapters that are served at the same time, one for each player of the seats.
        """
        from shaping.sampling.vllm.config import VLLMConfig

        document = {"dtype": dtype, "max_num_seqs": self.slots or 64, **self.vllm}
        if self.top_k is not None:
            from shaping.sampling.vllm.start import asked_for

            document["max_logprobs"] = max(asked_for(self.top_k), document.get("max_logprobs", 0))
        if self.sync == "lora":
            document["enable_lora"] = True
            document["max_staleness"] = max(self.max_staleness, document.get("max_staleness", 0))
            document.setdefault("max_loras", (document["max_staleness"] + 2) * players)
            document.setdefault("max_lora_rank", next((r for r in RANKS if r >= rank), RANKS[-1]))
        try:
            return VLLMConfig(**document)
        except ValidationError as error:
            raise ConfigError(describe(error, VLLMConfig, prefix="vllm")) from None
