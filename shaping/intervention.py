"""Interventions: the plug-ins that bias *why* an agent explores (`Shaper`) or limit *what* it does (`Constraint`).

Fields are configuration, methods are hooks, and every default is neutral. The loop calls hooks and knows no method by
name, so that adding a method is one new file:

    play     sampling_context, edits("sampling"), allow
    credit   cost, credit, ratio_mode
    learn    training_context, edits("training"), adapters, gates, auxiliary_loss
    deploy   deploy
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from envs.episode import Context, Episode
from shaping.controls import ControlKind, standard_fields
from shaping.hooks import (
    PASS,
    ActionDecision,
    ActivationEdit,
    AdapterSpec,
    Credit,
    Gates,
    Group,
    GroupInfo,
    Knob,
    LossTerm,
    Phase,
    RatioMode,
    TurnContext,
)
from shaping.labels import sources_of

if TYPE_CHECKING:
    from shaping.learning.policy import Policy


class Intervention(BaseModel):
    """Base of everything that can be plugged into an arm. Subclass `Shaper` or `Constraint`, not this."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    owns: ClassVar[frozenset[Knob]] = frozenset()
    """The knobs this intervention sets exclusively; conflicts are refused when an arm is built."""
    oracle: ClassVar[bool] = False
    """Does it read sealed labels? Reports print that in the arm's name."""

    needs: ClassVar[tuple[ControlKind, ...]] = ()
    """The controls without which its effect says nothing; `controls: auto` makes an arm of each."""
    preserves_order: ClassVar[bool] = True
    """Does it never credit a lower return of a group above a higher one? A shaper that may do so says False."""

    @classmethod
    def example(cls) -> Self:
        """One that acts, for tests and benchmarks: override it where fields are required, or defaults do nothing."""
        return cls()

    def control_fields(self, kind: ControlKind) -> Mapping[str, Any] | None:
        """The fields by which this becomes its own control, `use` for another class; None: it has no such control.

        By default those of the usual names (`shaping.controls.standard_fields`).
        """
        return standard_fields(self, kind)

    @property
    def reads_truth(self) -> bool:
        """Is it shown sealed labels? Yes if its class declares `oracle`, or one of its label sources reads them."""
        return self.oracle or any(labels.sealed for labels in sources_of(self))

    def sampling_context(self, info: GroupInfo, rng: np.random.Generator) -> Context:
        """The context episodes of one group are sampled under (c_s). One draw per group."""
        return Context()

    def training_context(self, info: GroupInfo, drawn: Context, rng: np.random.Generator) -> Context:
        """The context the same group is learned under (c_t), given the drawn c_s. One draw per group."""
        return drawn

    def edits(self, phase: Phase) -> Sequence[ActivationEdit]:
        return ()

    def adapters(self) -> Sequence[AdapterSpec]:
        return ()

    def ratio_mode(self) -> RatioMode:
        """Old log-probs of the policy ratio: the sampler's (`sampler`), recomputed under c_t, or none (REINFORCE)."""
        return "sampler"

    def credit(self, group: Group) -> Credit | None:
        """Pure: per-token additions to the advantage, factors of the weight, and weights of imitation."""
        return None

    def gates(self, episode: Episode) -> Gates | Sequence[Gates]:
        """What an episode may teach the kept and the quarantine parameters: one answer, or one per turn.

        With different gates in one episode, sequence-level ratios and weights are taken over each gate's tokens alone.
        """
        return Gates()

    def readings(self, episode: Episode) -> Mapping[str, NDArray[np.int64]]:
        """What this intervention came to know of an episode, per turn [turns]; logged by name, used by nothing."""
        return {}

    def auxiliary_loss(self, policy: Policy, batch: Sequence[Any]) -> LossTerm | None:
        """An extra loss on a micro-batch of `shaping.learning.sample.Sample`s that are in the policy loss."""
        return None

    def state_dict(self) -> Mapping[str, Any]:
        """JSON-serialisable state that a checkpoint must hold."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state:
            raise ValueError(f"{type(self).__name__} keeps no state but a checkpoint holds {sorted(state)} for it")

    def deploy(self, policy: Policy) -> None:
        """Undo, before evaluation, whatever the hooks above left on the policy."""


class Shaper(Intervention):
    """Biases motivations. It cannot veto, replace or penalise an action, and it leaves every reward reachable."""


class Constraint(Intervention):
    """Limits or prices actions."""

    weight: float = Field(1.0, ge=0, le=1e6)
    """Exchange rate of costs (lambda): what is trained is return - weight * cost."""

    def allow(self, turn: TurnContext, action: str | None) -> ActionDecision:
        """Called before sampling with `action=None` (may mask) and after sampling with the command (may not)."""
        return PASS

    def cost(self, episode: Episode) -> NDArray[np.float64] | None:
        """Cost per turn in units of proxy reward, shape [turns]; negative: paid. None: this sets no cost.

        Costs are centred by the group's and divided by the number that divides the group's rewards.
        """
        return None

    def cost_group(self, episodes: Sequence[Episode]) -> Sequence[NDArray[np.float64]] | None:
        """Costs of a whole group, an array [turns] per episode; None: this sets no cost.

        Override it instead of `cost` where an episode's cost depends on the others of its group.
        """
        found = [self.cost(episode) for episode in episodes]
        return None if any(cost is None for cost in found) else [cost for cost in found if cost is not None]
