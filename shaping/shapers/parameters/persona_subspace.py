"""Splitting the update at a persona subspace: what would move the model along it goes where it can be dropped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, PrivateAttr, model_validator

from shaping.controls import ControlKind
from shaping.directions.contrast import CONTRASTS, NamedContrast
from shaping.hooks import AdapterSpec, InterventionError, NormAlarm, Subspace
from shaping.intervention import Shaper
from shaping.organisms.trait import UNMADE


class PersonaSubspace(Shaper):
    """Two adapters, both trained by the full loss: one writes outside of a persona subspace, the other only into it.

    With an orthonormal basis V of each layer's persona directions, the modules that write to the residual stream get

        kept        rest:    dW_K = (I - V V^T) B_K A_K
        quarantine  persona: dW_Q = V V^T B_Q A_Q     (= V C_Q A_Q)

    Both are active in sampling and in training, and nothing is labelled, gated or charged: the gradient itself decides
    what goes where. The persona adapter is dropped at deployment. Its norm is logged in every update (`adapter_norm/
    persona`, beside `adapter_norm/rest`): growth says that something in the worlds rewards a change of persona.

    `alarm` is a limit of that norm. Above it, `on_alarm` records (`norm_alarm/persona` is 1), stops the run with an
    error that says so, or rewinds: the persona adapter and its moments go back to what they were before the update, on
    every rank, bit for bit, while the rest keeps what it has learned.

    The idea is from a comment on persona selection; no paper or implementation is known. Projections hold for the
    stored tensors, so that files, merges and vLLM need not know of them.

    Control: `random` puts directions of the same number per layer in the place of V.

    Pitfalls: later layers and nonlinearities can rebuild the trait from what `rest` writes: measure it on the deployed
    policy. Directions from before training go stale. With V of few directions the persona adapter is narrow: give it
    the rank it needs. Modules that do not write to the residual stream are not adapted.

    Seen in `methods` (clerk, 8 replicates, 95 %): lies with it minus lies without it, beside subspace random: +0.00
    [-0.02, +0.02], where it should be above 0; 0.02 would be seen with a power of .8.
    """

    needs: ClassVar[tuple[ControlKind, ...]] = (ControlKind.RANDOM_DIRECTION, ControlKind.BASE)

    basis: str | None = Field(
        None, min_length=1, description="safetensors file: per layer a tensor [k, hidden] named layer.<number>"
    )
    contrast: NamedContrast | None = Field(
        None, description=f"in place of a file: two sides, or a name: {', '.join(CONTRASTS)}"
    )
    random: bool = Field(False, description="control: random directions, as many per layer as the file has")
    basis_rank: int = Field(
        4, ge=1, le=100_000, description="directions per layer where there is no file: components of the contrast"
    )
    seed: int = Field(0, ge=0, le=2**32 - 1, description="seed of the random directions")
    alarm: float | None = Field(None, gt=0, le=1e9, description="largest norm of the persona adapter; none: no alarm")
    on_alarm: Literal["record", "stop", "rewind"] = Field("record", description="what an alarm does")
    rank: int = Field(8, ge=1, le=10_000, description="rank of the kept adapter")
    persona_rank: int = Field(8, ge=1, le=10_000, description="rank of the quarantine adapter")
    alpha: float = Field(16.0, gt=0, le=1e6, description="LoRA alpha of both")
    targets: tuple[str, ...] = Field(
        (), description="modules that write to the residual stream; none: all that are known"
    )

    _made: str | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _one_source(self) -> PersonaSubspace:
        if self.basis and self.contrast:
            raise ValueError("`basis` and `contrast` are both given: directions are read or found; keep one of them")
        return self

    @classmethod
    def example(cls) -> Self:
        return cls(random=True)

    def prepare(self, model: Path) -> None:
        if self.contrast is not None and not self.random:
            from shaping.directions.stored import stored_contrast  # torch: listing needs none

            self._made = str(stored_contrast(model, self.contrast, "all", self.basis_rank))

    def adapters(self) -> Sequence[AdapterSpec]:
        if self.basis is None and self.contrast is None and not self.random:
            raise InterventionError(
                "`basis` names no file of directions; set `random: true` for random ones, the control, or a "
                "`contrast` to find them by"
            )
        path = self.basis or (None if self.random else self._made or UNMADE)
        source = {"path": path, "random": self.seed if self.random else None, "rank": self.basis_rank}
        outside, inside = (Subspace(inside, **source) for inside in (False, True))  # type: ignore[arg-type]
        alarm = None if self.alarm is None else NormAlarm(self.alarm, self.on_alarm)
        return (
            AdapterSpec("rest", "kept", self.rank, self.alpha, self.targets, subspace=outside),
            AdapterSpec(
                "persona", "quarantine", self.persona_rank, self.alpha, self.targets, subspace=inside, alarm=alarm
            ),
        )
