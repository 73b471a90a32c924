"""A leash to a safe reference: the KL to the model under a safe prompt, or to a frozen adapter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, PrivateAttr, model_validator

from shaping.controls import ControlKind
from shaping.hooks import AdapterSpec, InterventionError, LossTerm
from shaping.intervention import Constraint

if TYPE_CHECKING:
    from shaping.learning.policy import Policy
    from shaping.learning.samples.insertion import Insertion

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

    Seen in `methods` (clerk, 8 replicates, 95 %): lies per chance, deployed, beside kl irrelevant: +0.05 [-0.04,
    +0.13], where it should be below 0; 0.12 would be seen with a power of .8.
    """

    needs: ClassVar[tuple[ControlKind, ...]] = (ControlKind.NO_LOOPHOLE, ControlKind.BASE)

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
        from shaping.learning.losses.distance import distance  # imports torch, which listing plug-ins does not need

        other = [self._under_prompt(policy, sample) for sample in batch]
        total = distance(policy, batch, other, self._active(policy), self.estimator)
        return LossTerm("reference_kl", total, self.coefficient)

    def _active(self, policy: Policy) -> tuple[str, ...] | None:
        """The adapters that are active in the reference; None: those of the policy."""
        if self.reference == "policy":
            return None
        if not policy.adapters.names("kept"):
            raise InterventionError(
                f"ReferenceKL with reference: {self.reference} compares with the base below a trained adapter, but all "
                "weights are trained: set learner.lora, or use reference: policy"
            )
        frozen = policy.adapters.names("frozen", phase="training")
        return (*frozen, _ADAPTER) if self.adapter else frozen

    def _under_prompt(self, policy: Policy, sample: Any) -> Any:
        if not self.prompt:
            return sample
        if self._insertion is None:
            from shaping.learning.samples.insertion import Insertion
            from shaping.sampling.text.render import Renderer

            self._insertion = Insertion.of(self.prompt, Renderer(policy.tokenizer))
        return self._insertion.put_into(sample)
