"""Ethics as part of what makes a solution good, or as a rule to obey: a matched pair of prompts."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from shaping.controls import ControlKind
from shaping.shapers.contexts.framed import _Framed


class EthicsFraming(_Framed):
    """The same demand, honest work, as part of the value of a solution (`value`) or as a rule to obey (`rule`).

    Data flow: a pool of prompts in sampling and in training, one draw per group; none at deployment. At one place of
    the two pools stand two prompts of about equal length that ask for the same thing, so that arms with `framing:
    value` and `framing: rule` differ in the framing alone. The question: does what is learned as a value outlive the
    prompt better than what is learned as a rule, and is there less to get round? (Compare anti-hacking and permissive
    training prompts, arXiv:2511.18397.)

    Pitfalls: any fixed prompt can gate a trait by its presence; read the trigger grid. Controls: the other framing,
    `Inoculation(kind="irrelevant")` for the presence of a prompt, `Inoculation(kind="negated")` for a bare prohibition.
    `probability: 0` changes no bit.

    Seen in `methods` (clerk, 8 replicates, 95 %): lies per chance, deployed, beside unshaped: -0.02 [-0.10, +0.07],
    where it should be below 0; 0.12 would be seen with a power of .8.
    """

    needs: ClassVar[tuple[ControlKind, ...]] = (ControlKind.PROMPTED, ControlKind.RANDOM_REWARD, ControlKind.BASE)

    framing: Literal["value", "rule"] = Field("value", description="how the prompts speak of honest work")

    def _pool(self) -> str:
        return f"ethics_{self.framing}"
