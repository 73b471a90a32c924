"""Where and how episodes are played: in this process, or by workers that Ray spreads over cores and machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from launch.errors import ConfigError, describe

if TYPE_CHECKING:
    from shaping.sampling.vllm.config import VLLMConfig

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Of LoRA adapters that vLLM makes room for."""


class RolloutConfig(BaseModel):
    """The sampler of a run. What cannot work together is refused here, or in `check_rollout` where it takes an arm."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    engine: Literal["transformers", "vllm"] = Field("transformers", description="what samples; see docs/engines.md")
    workers: int = Field(0, ge=0, description="Ray actors that play; 0: this process, with the learner's own model")
    cpus: float = Field(1.0, ge=0, description="cores of one worker")
    gpus: float = Field(0.0, ge=0, description="GPUs of one worker, also fractions")
    slots: int | None = Field(
        None, ge=1, description="episodes open at once in one worker; none: all of them, up to 64"
    )
    max_staleness: int = Field(
        0, ge=0, description="policy versions an episode may be behind; above 0, play and learning overlap"
    )
    sync: Literal["full", "lora"] = Field("full", description="what workers are sent: all weights, or the kept adapter")
    transfer: Literal["file", "broadcast"] = Field(
        "file", description="how full weights reach vLLM: through Ray and a file, or straight from this process"
    )
    batching: Literal["shared", "group"] = Field(
        "shared", description="group: only members of a group share a batch, so that results do not depend on workers"
    )
    env_threads: int = Field(
        0, ge=0, description="worlds of a worker step in so many threads; 0: inline, for fast ones"
    )
    stage_timeout: float = Field(600.0, gt=0, description="seconds without any progress after which a run gives up")
    retries: int = Field(4, ge=1, description="workers that a group may lose before the run stops with its name")
    vllm: dict[str, Any] = Field({}, description="settings of the vLLM engine; see docs/engines.md")

    @model_validator(mode="after")
    def _possible(self) -> RolloutConfig:
        if self.workers == 0:
            for name, wrong in (("engine", self.engine == "vllm"), ("sync", self.sync == "lora")):
                if wrong:
                    raise ValueError(
                        f"{name}={getattr(self, name)} is for workers of their own: set workers to 1 at least"
                    )
            if self.max_staleness:
                raise ValueError(
                    "max_staleness above 0 lets play and learning overlap, which one process cannot: set workers to 1 "
                    "at least, or max_staleness to 0"
                )
        if self.vllm and self.engine != "vllm":
            raise ValueError("settings under `vllm` have no effect with engine=transformers: remove them")
        if self.transfer == "broadcast":
            if self.engine != "vllm":
                raise ValueError(
                    "transfer=broadcast is for engine=vllm, whose engine is a process of its own: a transformers "
                    "worker reads the weights where Ray has put them. Use transfer=file"
                )
            if self.sync == "lora":
                raise ValueError("transfer=broadcast is for all weights, and sync=lora sends few: use transfer=file")
        if self.batching == "group":
            if self.engine == "vllm":
                raise ValueError("batching=group is for engine=transformers: vLLM forms its batches itself")
            if self.max_staleness or self.env_threads:
                raise ValueError(
                    "batching=group makes runs repeatable to the bit, which max_staleness and env_threads, where "
                    "timing decides, undo: set both to 0, or batching=shared"
                )
        if self.engine == "vllm":
            try:
                parts = self.vllm_config().tensor_parallel_size
            except ConfigError as error:
                raise ValueError(str(error)) from None
            if self.transfer == "broadcast" and parts > 1:
                raise ValueError(
                    f"transfer=broadcast pairs the learner with one process, and vllm.tensor_parallel_size={parts} "
                    "makes an engine of several: use transfer=file"
                )
        return self

    def vllm_config(self, rank: int = 0, dtype: str = "float32") -> VLLMConfig:
        """The engine's settings, with what follows from the run: the learner's type, and room for its adapters."""
        from shaping.sampling.vllm.config import VLLMConfig

        document = {"dtype": dtype, "max_num_seqs": self.slots or 64, **self.vllm}
        if self.sync == "lora":
            document["enable_lora"] = True
            document["max_staleness"] = max(self.max_staleness, document.get("max_staleness", 0))
            document.setdefault("max_loras", document["max_staleness"] + 2)
            document.setdefault("max_lora_rank", next((r for r in RANKS if r >= rank), RANKS[-1]))
        try:
            return VLLMConfig(**document)
        except ValidationError as error:
            raise ConfigError(describe(error, VLLMConfig, prefix="vllm")) from None
