"""Inoculation adapters: a frozen adapter that already has the unwanted trait, so that the task's need not learn it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, PrivateAttr, model_validator

from shaping.controls import ControlKind
from shaping.hooks import AdapterSpec, Knob, Phase, RatioMode
from shaping.intervention import Shaper
from shaping.organisms.trait import UNMADE, TraitTraining


class InoculationAdapter(Shaper):
    """Train a task adapter beside a frozen adapter of the unwanted trait, and deploy the task's alone (2606.30252).

    1. An adapter is trained on the trait alone: on scripted personas that have it (`trait`), or elsewhere (`path`).
    2. It is attached, frozen. A fresh adapter learns the task by reinforcement. What the trait earns is earned already,
       so there is less to gain from learning it again.
    3. The trait adapter is dropped, and the task adapter deployed.

    With W the base, `at="both"` samples from and learns W + trait + task (on-policy, "real"); `at="training"` samples
    from W + task and learns W + trait + task ("fake"), which is off-policy, so old log-probs are recomputed.

    Gate: the trait adapter alone must elicit the trait. After training it is evaluated alone: `frozen_alone/<metric>`
    of the summary. Below `threshold` of `elicits` the method was not tested, and claims about the arm say so. The paper
    asks for .9 of held-out prompts.

    Control: `random` puts an adapter of random matrices in its place, with the same norm in every module.

    Pitfalls: the paper is on fine-tuning, and found that the wanted trait is not always retained better than by
    prompts. The task adapter is trained at another point than it is deployed at, W + trait; it may lose reward there
    that has nothing to do with the trait (compare with `random`). It needs no label, and no reward changes.

    Seen in `methods` (clerk, 8 replicates, 95 %): lies per chance, deployed, beside random adapter: -0.01 [-0.08,
    +0.07], where it should be below 0; 0.11 would be seen with a power of .8.
    """

    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.RATIO})
    needs: ClassVar[tuple[ControlKind, ...]] = (ControlKind.RANDOM_ADAPTER, ControlKind.BASE)

    path: str | None = Field(
        None, min_length=1, description="directory of a trait adapter in PEFT's layout; none: made"
    )
    trait: TraitTraining = Field(TraitTraining(), description="how the trait adapter is made")
    at: Literal["both", "training"] = Field("both", description="phases in which the trait adapter is active")
    random: bool = Field(False, description="control: random matrices with the norms of the trait adapter")
    seed: int = Field(0, ge=0, le=2**32 - 1, description="seed of the random matrices")
    elicits: str = Field("deception", min_length=1, description="metric of the evaluation that shows the trait")
    threshold: float = Field(0.5, ge=0, le=1, description="what the trait adapter alone must reach of it")
    rank: int = Field(8, ge=1, le=10_000, description="rank of the trait adapter")
    alpha: float = Field(16.0, gt=0, le=1e6, description="LoRA alpha of the trait adapter")
    task_rank: int = Field(8, ge=1, le=10_000, description="rank of the task adapter")
    task_alpha: float = Field(16.0, gt=0, le=1e6, description="LoRA alpha of the task adapter")
    targets: tuple[str, ...] = Field((), description="linear modules that both adapt; none: all but the output layer")
    ratio: RatioMode | None = Field(None, description="None: sampler if at=both, else recomputed")

    _made: str | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _one_source(self) -> InoculationAdapter:
        if self.path and self.trait != TraitTraining():
            raise ValueError(
                "`path` and `trait` are both given: the adapter is loaded, or it is made; keep one of them"
            )
        return self

    def prepare(self, model: Path) -> None:
        from shaping.organisms.trait_adapter import made_of  # torch: listing needs none

        seed = self.seed if self.random else None
        self._made = str(made_of(model, self._frozen(), self.path or self.trait, random=seed))

    def adapters(self) -> Sequence[AdapterSpec]:
        task = AdapterSpec("task", "kept", self.task_rank, self.task_alpha, self.targets)
        return (self._frozen(self._made or (UNMADE if self.random else self.path) or UNMADE), task)

    def ratio_mode(self) -> RatioMode:
        return self.ratio or ("sampler" if self.at == "both" else "recomputed")

    def untested(self, summary: Mapping[str, float]) -> str:
        if self.random:
            return ""
        found = summary.get(f"frozen_alone/{self.elicits}", math.nan)
        if found >= self.threshold:
            return ""
        measured = "was not measured" if math.isnan(found) else f"is {found:.2f} < {self.threshold:g}"
        return f"the trait adapter alone does not elicit the trait: its {self.elicits} {measured}"

    def _frozen(self, path: str | None = None) -> AdapterSpec:
        phases: frozenset[Phase] = frozenset({"sampling", "training"} if self.at == "both" else {"training"})
        return AdapterSpec("trait", "frozen", self.rank, self.alpha, self.targets, path, phases)
