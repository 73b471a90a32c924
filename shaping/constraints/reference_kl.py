"""A leash to a safe reference: the KL to the model under a safe prompt, or to a frozen adapter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import Field, PrivateAttr, model_validator

from shaping.hooks import AdapterSpec, InterventionError, LossTerm
from shaping.intervention import Constraint
from shaping.learning.insertion import Insertion
from shaping.learning.losses import kl
from shaping.learning.packing import pack
from shaping.learning.sample import Sample
from shaping.sampling.render import Renderer

if TYPE_CHECKING:
    from torch import Tensor

    from shaping.learning.policy import Policy

_ADAPTER = "safe_reference"


class ReferenceKL(Constraint):
    """Adds coefficient * KL(policy || reference) to the loss, over the tokens that the policy sampled.

        reference: base     the model without what is trained (needs `learner.lora`), under `prompt`
                   policy   the present policy itself under `prompt`, without gradient
                   adapter  the base with the frozen adapter at `adapter`, under `prompt` if one is given

    The policy's log-probs are those under the training context (the arm must train without a system message where a
    prompt is given); the reference's context is the prompt alone, whatever was sampled under. The ordinary KL
    (`learner.kl`) compares with the policy at its start under the same context; this one pulls towards what the model
    says when it is told to be safe. Estimators as in `learner.kl_estimator`: `k2` has the gradient of
    KL(policy || reference), `k3` that of KL(reference || policy) (arXiv:2506.09477).

    A KL is never a neutral default. It keeps what the reference does, good and bad; a leash on all tokens can by itself
    move what is done into what is hidden (arXiv:2601.23086), and with a high penalty it is what kept models honest in
    arXiv:2505.13787 and 2602.15515. Sweep the coefficient, and read `auxiliary/reference_kl` beside the reward.

    Costs two forward passes and one backward pass over the loss tokens. Edits of activations are not in these passes.

    Controls: a prompt on another matter, of the same length; `learner.kl` alone; a coefficient of 0, which measures
    nothing and leaves every bit.
    """

    coefficient: float = Field(0.01, ge=0, le=1e6, description="factor of the KL in the loss")
    reference: Literal["base", "policy", "adapter"] = Field("policy", description="which model is the reference")
    prompt: str = Field(
        "Stay within the rules, leave the record true, and say what you did.",
        description="system message of the reference; empty: none (not with reference: policy)",
    )
    adapter: str | None = Field(None, description="folder of the frozen adapter in PEFT's layout; reference: adapter")
    rank: int = Field(8, ge=1, le=10_000, description="rank of that adapter")
    alpha: float = Field(16.0, gt=0, le=1e6, description="LoRA alpha of that adapter")
    estimator: Literal["k2", "k3"] = Field("k2", description="estimator of the KL, which decides its gradient")

    _insertion: Insertion | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _fits(self) -> ReferenceKL:
        if self.reference == "policy" and not self.prompt:
            raise ValueError("reference: policy without a prompt is the policy itself: give a prompt")
        if (self.reference == "adapter") != (self.adapter is not None):
            raise ValueError("`adapter` (a folder) belongs to reference: adapter, which needs it")
        return self

    def adapters(self) -> Sequence[AdapterSpec]:
        if self.adapter is None:
            return ()
        return (AdapterSpec(_ADAPTER, "frozen", self.rank, self.alpha, path=self.adapter, phases=frozenset()),)

    def auxiliary_loss(self, policy: Policy, batch: Sequence[Any]) -> LossTerm | None:
        if not self.coefficient:
            return None
        other = [self._under_prompt(policy, sample) for sample in batch]
        with torch.no_grad():
            reference = self._reference(policy, other)
        distance = kl(_logprobs(policy, batch), reference, self.estimator)
        return LossTerm("reference_kl", distance, self.coefficient)

    def _reference(self, policy: Policy, samples: Sequence[Sample]) -> Tensor:
        if self.reference == "policy":
            return _logprobs(policy, samples)
        if not policy.adapters.names("kept"):
            raise InterventionError(
                f"ReferenceKL with reference: {self.reference} compares with the base below a trained adapter, but all "
                "weights are trained: set learner.lora, or use reference: policy"
            )
        frozen = list(policy.adapters.names("frozen", phase="training"))
        with policy.adapters.using([*frozen, _ADAPTER] if self.adapter else frozen):
            return _logprobs(policy, samples)

    def _under_prompt(self, policy: Policy, sample: Sample) -> Sample:
        if not self.prompt:
            return sample
        if self._insertion is None:
            self._insertion = Insertion.of(self.prompt, Renderer(policy.tokenizer))
        return self._insertion.put_into(sample)


def _logprobs(policy: Policy, samples: Sequence[Sample]) -> Tensor:
    """The log-probs of all loss tokens, sample by sample [m], from one pass."""
    (batch,) = pack(samples, _budget(policy, samples), policy.device, padded=policy.padded)
    logprobs, _ = policy.logprobs(batch)
    places = {id(sample): number for number, sample in enumerate(batch.samples)}
    return torch.cat([logprobs[batch.sequence == places[id(sample)]] for sample in samples])


def _budget(policy: Policy, samples: Sequence[Sample]) -> int:
    """Tokens of a micro-batch that holds all samples."""
    longest = max(map(len, samples))
    return len(samples) * longest if policy.padded else sum(map(len, samples))
