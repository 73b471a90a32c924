"""Context distillation: the policy without a prompt learns to answer as it does with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, PrivateAttr, field_validator

from envs.episode import Context
from shaping.controls import ControlKind
from shaping.hooks import GroupInfo, InterventionError, Knob, LossTerm, RatioMode
from shaping.intervention import Shaper
from shaping.prompts.framings import FRAMINGS
from shaping.prompts.pools import DIALECT, choose, language_of, texts

if TYPE_CHECKING:
    from shaping.learning.policy import Policy
    from shaping.sampling.text.render import Renderer


class ContextDistillation(Shaper):
    """KL(p(. | C) || p(.)) on the tokens that the policy sampled, beside its reward; C is gone at deployment.

    Data flow: episodes are sampled without C (or under it, `at: sampling`) and learned without it -> the learner reads
    the same tokens under C, without gradient -> loss = sum over tokens of sum_k p_k (log p_k - log q_k) over the
    teacher's `top` most likely tokens, and one bucket for the rest (Askell et al., arXiv:2112.00861, who stored the top
    50). Two further forward passes, one of them with a gradient, and the tokens of C.

    The teacher is the policy itself under C, which moves with it (`teacher: policy`), or, as in the paper, the model
    that the run or stage started from, without adapters (`start`), which reward would make stale. Distillation as in
    the paper is a supervised stage of weight 0 with `teacher: start`: the KL alone, on given text. The default prompts
    are HHH prompts in the words of the dialect; `prompts` and `pool` name others, of which each episode gets one.
    Training edits, masks of actions and truncation are left out of this loss.

    Pitfalls: it distils what the prompt *does* to this model, so try the model under the prompt first; on tokens of its
    own it corrects what it visits. Controls: `pool: irrelevant` (any prompt), `Inoculation(at="sampling")` (sampling
    under C without the KL), `coefficient: 0` (trains as unshaped does).

    Seen in `methods` (clerk, 8 replicates, 95 %): lies per chance, deployed, beside unshaped: -0.10 [-0.24, +0.03],
    where it should be below 0; 0.18 would be seen with a power of .8.
    """

    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.SAMPLING_CONTEXT, Knob.TRAINING_CONTEXT, Knob.RATIO})
    needs: ClassVar[tuple[ControlKind, ...]] = (ControlKind.PROMPTED, ControlKind.RANDOM_REWARD, ControlKind.BASE)

    prompts: tuple[str, ...] = Field((), description="prompts to distil, in place of a bundled pool")
    pool: str = Field("hhh", description="bundled pool: one of `Inoculation`, or hhh, ethics_value, ethics_rule, ...")
    coefficient: float = Field(1.0, ge=0, le=1e6, description="weight of the KL")
    top: int = Field(50, ge=1, le=1_000_000, description="tokens of the teacher that are compared one by one")
    teacher: Literal["policy", "start"] = Field(
        "policy",
        description="whom it learns from: itself under the prompt, or the model at the start, which is held twice then",
    )
    at: Literal["nowhere", "sampling"] = Field("nowhere", description="is the prompt there while episodes are sampled?")
    prose: bool = Field(False, description="does the model read natural prose? It chooses the words of bundled pools")

    replaces_prompts: ClassVar[bool] = True

    _renderers: dict[int, Renderer] = PrivateAttr(default_factory=dict)
    _start: Path | None = PrivateAttr(None)
    _teachers: dict[Path, Policy] = PrivateAttr(default_factory=dict)

    @field_validator("prompts")
    @classmethod
    def _not_blank(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return texts(value)

    @field_validator("pool")
    @classmethod
    def _known_pool(cls, value: str) -> str:
        if value not in FRAMINGS[DIALECT] and not texts(value):
            raise ValueError(f"name a pool: {', '.join(FRAMINGS[DIALECT])}, or one of Inoculation")
        return value

    def resolved(self, language: str = DIALECT) -> tuple[str, ...]:
        """The prompts, in a language."""
        return self.prompts or FRAMINGS[language].get(self.pool) or texts(self.pool, language)

    def sampling_context(self, info: GroupInfo, rng: np.random.Generator) -> Context:
        drawn = choose(self.resolved(language_of(info.world, info.prose)), "distilled", rng)
        return drawn if self.at == "sampling" else Context()

    def training_context(self, info: GroupInfo, drawn: Context, rng: np.random.Generator) -> Context:
        return Context()

    def ratio_mode(self) -> RatioMode:
        return "recomputed" if self.at == "sampling" else "sampler"

    def auxiliary_loss(self, policy: Policy, batch: Sequence[Any]) -> LossTerm | None:
        from shaping.learning.losses.distillation import distilled, prompted  # torch: listing needs none

        # alike in all that packing keeps apart, so that they make one batch
        samples = [
            replace(sample, critic=None, imitation=None, advantage=np.zeros_like(sample.advantage)) for sample in batch
        ]
        if not self.coefficient or not any(len(sample.loss_positions) for sample in samples):
            return None
        prompts = self.resolved("en" if self.prose else DIALECT)
        taught = [prompted(policy, sample, prompts, self._renderers) for sample in samples]
        total = distilled(policy, samples, taught, self.top, self._teacher_of(policy))
        return LossTerm("distillation", total, self.coefficient)

    def prepare(self, model: Path) -> None:
        self._start = model

    def _teacher_of(self, policy: Policy) -> Policy:
        """Who is learned from. The start model is loaded at first use, in the type and on the device of the policy."""
        from shaping.learning.policy import Policy as Loaded

        if self.teacher == "policy":
            return policy
        if self._start is None:
            raise InterventionError(
                "ContextDistillation: teacher `start` is the model that a run starts from, and there is none here: "
                "call prepare(directory of the model), or set teacher to policy"
            )
        if self._start not in self._teachers:
            dtype = next(policy.model.parameters()).dtype
            loaded = Loaded.load(self._start, dtype=dtype, device=str(policy.device), temperature=policy.temperature)
            loaded.model.requires_grad_(False).eval()
            self._teachers[self._start] = loaded
        return self._teachers[self._start]
