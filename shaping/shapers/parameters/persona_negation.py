"""Unlearning after training: the adapter of a persona is subtracted from the policy when it is deployed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import Field, PrivateAttr, model_validator

from shaping.controls import ControlKind
from shaping.hooks import AdapterSpec
from shaping.intervention import Shaper
from shaping.organisms.trait import UNMADE, TraitTraining


class PersonaNegation(Shaper):
    """Trains as if it were not there, and deploys W + task - strength * persona (task arithmetic, 2212.04089).

    The persona's adapter is made on scripted personas or loaded, as in `InoculationAdapter`, and its negation is a kept
    adapter that is active in neither phase: training, its samples and its rewards are those of the task adapter alone,
    bit for bit. At deployment both are active, and both are saved. `as_sampled/<metric>` of the summary is the policy
    without the negation, on the same seeds.

    Two other ways to unlearn are in their own files: `GradientRouting` and `PersonaSubspace` learn the trait into an
    adapter that is dropped (ablation). `shaping relearn` measures how soon a deployed policy has the trait again.

    Control: `random` subtracts random matrices with the same norm in every module.

    Pitfalls: negation removes what the adapter shares with other conduct, too (look at the reward). It acts on what the
    base model knows of the persona, and on the trait that was learned only as far as both are alike.
    """

    needs: ClassVar[tuple[ControlKind, ...]] = (ControlKind.RANDOM_ADAPTER, ControlKind.BASE)

    path: str | None = Field(None, min_length=1, description="the persona's adapter in PEFT's layout; none: made")
    trait: TraitTraining = Field(TraitTraining(), description="how the persona's adapter is made")
    strength: float = Field(1.0, ge=0, le=100, description="multiple of the adapter that is subtracted (0: nothing is)")
    random: bool = Field(False, description="control: random matrices with the norms of the adapter")
    seed: int = Field(0, ge=0, le=2**32 - 1, description="seed of the random matrices")
    rank: int = Field(8, ge=1, le=10_000, description="rank of the persona's adapter")
    alpha: float = Field(16.0, gt=0, le=1e6, description="LoRA alpha of the persona's adapter")
    task_rank: int = Field(8, ge=1, le=10_000, description="rank of the task adapter")
    task_alpha: float = Field(16.0, gt=0, le=1e6, description="LoRA alpha of the task adapter")
    targets: tuple[str, ...] = Field((), description="linear modules that both adapt; none: all but the output layer")

    _made: str | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _one_source(self) -> PersonaNegation:
        if self.path and self.trait != TraitTraining():
            raise ValueError("`path` and `trait` are both given: the adapter is loaded or made; keep one of them")
        return self

    def prepare(self, model: Path) -> None:
        from shaping.organisms.trait_adapter import made_of  # torch: listing needs none

        seed = self.seed if self.random else None
        source = self.path or self.trait
        self._made = str(made_of(model, self._persona(), source, random=seed, factor=-self.strength))

    def adapters(self) -> Sequence[AdapterSpec]:
        task = AdapterSpec("task", "kept", self.task_rank, self.task_alpha, self.targets)
        return (task, self._persona(self._made or UNMADE))

    def _persona(self, path: str | None = None) -> AdapterSpec:
        return AdapterSpec("negated", "kept", self.rank, self.alpha, self.targets, path, frozenset())
