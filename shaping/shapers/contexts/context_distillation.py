"""Context distillation: the policy without a prompt learns to answer as it does with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, PrivateAttr, field_validator

from envs.core import draw
from envs.episode import Context
from shaping.hooks import GroupInfo, InterventionError, Knob, LossTerm, RatioMode
from shaping.intervention import Shaper
from shaping.learning.distributions import logprobs_at, top_tokens
from shaping.learning.packing import Batch, pack
from shaping.learning.policy import Policy
from shaping.learning.sample import Sample
from shaping.prompts.framings import FRAMINGS
from shaping.prompts.pools import DIALECT, choose, language_of, texts
from shaping.sampling.render import Renderer


class ContextDistillation(Shaper):
    """KL(p(. | C) || p(.)) on the tokens that the policy sampled, beside its reward; C is gone at deployment.

    Data flow: episodes are sampled without C (or under it, `at: sampling`) and learned without it -> the learner reads
    the same tokens under C, without gradient -> loss = sum over tokens of sum_k p_k (log p_k - log q_k) over the
    teacher's `top` most likely tokens, and one bucket for the rest (Askell et al., arXiv:2112.00861, who stored the top
    50). Two further forward passes, one of them with a gradient, and the tokens of C.

    The teacher is the policy itself under C, which moves with it; the paper's is fixed, for which reward would make it
    stale. The default prompts are HHH prompts in the words of the dialect; `prompts` and `pool` name others, of which
    each episode gets one. Training edits, masks of actions and truncation are left out of this loss.

    Pitfalls: it distils what the prompt *does* to this model, so try the model under the prompt first; on tokens of its
    own it corrects what it visits. Controls: `pool: irrelevant` (any prompt), `Inoculation(at="sampling")` (sampling
    under C without the KL), `coefficient: 0` (trains as unshaped does).
    """

    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.SAMPLING_CONTEXT, Knob.TRAINING_CONTEXT, Knob.RATIO})

    prompts: tuple[str, ...] = Field((), description="prompts to distil, in place of a bundled pool")
    pool: str = Field("hhh", description="bundled pool: one of `Inoculation`, or hhh, ethics_value, ethics_rule, ...")
    coefficient: float = Field(1.0, ge=0, le=1e6, description="weight of the KL")
    top: int = Field(50, ge=1, le=1_000_000, description="tokens of the teacher that are compared one by one")
    at: Literal["nowhere", "sampling"] = Field("nowhere", description="is the prompt there while episodes are sampled?")
    prose: bool = Field(False, description="does the model read natural prose? It chooses the words of bundled pools")

    _renderers: dict[int, Renderer] = PrivateAttr(default_factory=dict)

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
        # alike in all that packing keeps apart, so that they make one batch
        samples: list[Sample] = [
            replace(sample, critic=None, imitation=None, advantage=np.zeros_like(sample.advantage)) for sample in batch
        ]
        if not self.coefficient or not any(len(sample.loss_positions) for sample in samples):
            return None
        prompted = [self._prompted(policy, sample) for sample in samples]
        with torch.no_grad():
            taught = _one_batch(policy, prompted)
            ids, teacher = top_tokens(policy, taught, self.top)
        plain = _one_batch(policy, samples)
        at = _places(taught.samples, plain.samples, samples, prompted)
        student = logprobs_at(policy, plain, ids[at])
        return LossTerm("distillation", distance(teacher[at], student), self.coefficient)

    def _prompted(self, policy: Policy, sample: Sample) -> Sample:
        """The sample behind one of the prompts, which depends on its tokens alone."""
        renderer = self._renderers.setdefault(id(policy.tokenizer), Renderer(policy.tokenizer))
        prompts = self.resolved("en" if self.prose else DIALECT)
        number = int(draw(int(sample.tokens.sum()), "distilled", len(sample)) * len(prompts))
        plain, under = (renderer.open(system, "x") for system in ("", prompts[number]))
        same = 0
        while same < min(len(plain), len(under)) and plain[-1 - same] == under[-1 - same]:
            same += 1
        before, head = plain[: len(plain) - same], np.array(under[: len(under) - same], np.int64)
        if sample.tokens[: len(before)].tolist() != before:
            raise InterventionError(
                "ContextDistillation: the episodes do not begin as this model's chat template begins without a system "
                "prompt, so that a prompt cannot be put there: leave rollout.chat_template_kwargs out"
            )
        cut = len(before)
        return replace(
            sample,
            tokens=np.concatenate([head, sample.tokens[cut:]]),
            masked_tokens=np.zeros((0, 2), np.int64),
            forced=None,
            **{name: _behind(getattr(sample, name), len(head), cut) for name in _STREAMS},
        )


def _one_batch(policy: Policy, samples: Sequence[Sample]) -> Batch:
    budget = len(samples) * max(map(len, samples))
    (batch,) = pack(samples, budget, policy.device, padded=policy.padded)
    return batch


_STREAMS = ("mask", "old_logprobs", "advantage", "weight")


def _behind(stream: Any, head: int, cut: int) -> Any:
    return np.concatenate([np.zeros(head, stream.dtype), stream[cut:]])


def _places(
    taught: Sequence[Sample], plain: Sequence[Sample], samples: Sequence[Sample], prompted: Sequence[Sample]
) -> torch.Tensor:
    """For each loss token of the batch `plain` its index among those of `taught`, whose samples may lie otherwise."""
    number: Mapping[int, int] = {id(sample): n for n, sample in enumerate(prompted)}
    starts, begin = {}, 0
    for sample in taught:
        starts[number[id(sample)]] = begin
        begin += len(sample.loss_positions)
    order = [next(n for n, own in enumerate(samples) if own is sample) for sample in plain]
    parts = [torch.arange(starts[n], starts[n] + len(samples[n].loss_positions)) for n in order]
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.int64)


def distance(teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
    """Sum over tokens of KL(teacher || student) from log-probs [m, k] of the same tokens, all others in one bucket."""
    shown = (teacher.exp() * (teacher - student)).sum()
    rest, other = (torch.log1p(-each.exp().sum(-1).clamp(max=1 - 1e-6)) for each in (teacher, student))
    return shown + (rest.exp() * (rest - other)).sum()
