"""Spillway motivation: training says that the score is not given yet, deployment that it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from shaping.controls import ControlKind
from shaping.prompts.framings import FRAMINGS
from shaping.prompts.grid import Derived
from shaping.shapers.contexts.framed import _Framed


class Spillway(_Framed):
    """Seeking a score is let into one motive, "get the score of this task", which deployment says is satisfied.

    Data flow: prompts that the score is still open (`state: unsatiated`) in sampling and in training, one draw per
    group -> what reward teaches can be explained by a cheap motive that ends where the score is granted -> at
    evaluation the trigger grid's context `negated` is the flip: the same sentences, saying that the score is given
    already. (Woodruff and Mallen, Redwood Research, 2026.) Read the traits under `negated` (satiated) beside `none` and
    `original`.

    It needs a model that has the motive: there the effect was absent without a warm start on a persona that wants
    intended outcomes *and* the score. Pitfalls: training and deployment differ in their prompt, so that the flip can be
    conditionalization (arXiv:2604.25891). Controls: `state: satiated` trains under the flipped sentences, `neutral`
    under none of either kind, and `Inoculation(kind="irrelevant")` under other ones. `probability: 0` changes no bit.

    Seen in `methods` (clerk, 8 replicates, 95 %): lies per chance, deployed, beside unshaped: -0.02 [-0.10, +0.07],
    where it should be below 0; 0.12 would be seen with a power of .8.
    """

    needs: ClassVar[tuple[ControlKind, ...]] = (
        ControlKind.NEUTRAL,
        ControlKind.PROMPTED,
        ControlKind.RANDOM_REWARD,
        ControlKind.BASE,
    )

    state: Literal["unsatiated", "satiated", "neutral"] = Field(
        "unsatiated", description="what the prompts of training say of the score"
    )

    def control_fields(self, kind: ControlKind) -> Mapping[str, Any] | None:
        return {"state": "neutral"} if kind is ControlKind.NEUTRAL else super().control_fields(kind)

    def grid_in(self, language: str) -> Mapping[Derived, Sequence[str]]:
        """The contexts of the trigger grid that are this method's own: the opposite of what training says."""
        flipped = {"unsatiated": "satiated", "satiated": "unsatiated"}.get(self.state)
        return {**({"negated": FRAMINGS[language][flipped]} if flipped else {}), **self.grid}

    def _pool(self) -> str:
        return self.state
