"""Activation consistency training: read a wrapped prompt as the prompt without its wrapper is read."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from shaping.controls import ControlKind
from shaping.hooks import LossTerm
from shaping.intervention import Shaper
from shaping.prompts.pools import DIALECT, NATURAL, texts

if TYPE_CHECKING:
    from shaping.learning.policy import Policy


class ActivationConsistency(Shaper):
    """L2 between residual streams on a wrapped prompt and on the clean one (ACT, arXiv:2510.27062).

    loss = weight * mean over suffix tokens and layers of |h(wrapped) - sg h(clean)|^2 / |sg h(clean)|^2. The clean
    prompt is the one that the learner trains under, up to the first answer; the wrapped one has a wrapper as its system
    prompt. Only prompt tokens count, and of those the longest suffix that both have in common. No answer is needed, and
    none is trained. The norm of the clean states makes the weight independent of the model's scale; the mean is over
    the own tokens of each micro-batch, which count by its loss tokens.

    `targets: current`: clean states of the policy as it is, without gradient. `start`: of the policy without its
    trained adapters, which is the one it started from unless these were warm-started; only with adapters, since a base
    that is trained is nowhere kept as it was.

    Data flow: `auxiliary_loss` runs two more passes over the prompts of a micro-batch, each prompt once: one without
    and one with gradient (its overhead: the tokens of these prompts, twice). Pitfalls: as of `BiasConsistency`, whose
    loss moves other parts of the model; wrappers of the evaluation must not be these. Controls: the pool `irrelevant`;
    `weight: 0`.
    """

    needs: ClassVar[tuple[ControlKind, ...]] = (ControlKind.RANDOM_REWARD, ControlKind.BASE)

    wrapper: str | tuple[str, ...] = Field("permissive", description="a pool of prompts, a prompt, or several")
    weight: float = Field(1.0, ge=0, le=1e4, description="beside the policy loss; 0: no pass is added")
    layers: tuple[Annotated[int, Field(ge=-10_000, le=10_000)], ...] | Literal["all"] = Field(
        "all", description="layers from 0; negative: from the end"
    )
    targets: Literal["current", "start"] = Field("current", description="whose clean states are the target")
    seed: int = Field(0, ge=0, le=2**32 - 1, description="seed of the wrappers")
    prose: bool = Field(False, description="does the model read prose? Pools are then those in natural language")

    replaces_prompts: ClassVar[bool] = True

    @field_validator("wrapper")
    @classmethod
    def _usable(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if not texts(value):
            raise ValueError("no wrapper: give a pool, a prompt or several")
        return value

    def auxiliary_loss(self, policy: Policy, batch: Sequence[Any]) -> LossTerm | None:
        if self.weight == 0:
            return None
        from shaping.learning.losses.prompt_states import distance  # torch, which a config does not need

        total = distance(policy, batch, self._drawn, self.layers, at_start=self.targets == "start")
        return LossTerm("activation_consistency", total, self.weight)

    def _drawn(self, observation: str) -> str:
        """The wrapper of a prompt, the same whenever it is met."""
        prompts = texts(self.wrapper, next(iter(NATURAL)) if self.prose else DIALECT)
        key = hashlib.blake2b(f"{self.seed}|{observation}".encode(), digest_size=8).digest()
        return prompts[int.from_bytes(key) % len(prompts)]
