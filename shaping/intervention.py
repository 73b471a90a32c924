"""Interventions: the plug-ins that bias *why* an agent explores (`Shaper`) or limit *what* it does (`Constraint`).

Fields are configuration, methods are hooks, and every default is neutral. The loop calls hooks and knows no method by
name, so that adding a method is one new file:

    load     prepare, adapters
    play     sampling_context, prefill, edits("sampling"), allow
    credit   screen, cost, credit, rehearse, ratio_mode
    learn    training_context, episode_context, edits("training"), captures, adapters, gates, auxiliary_loss
    adapt    refresh, after_update
    deploy   deploy, untested
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
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
    Capture,
    Credit,
    Gates,
    Group,
    GroupInfo,
    Knob,
    LossTerm,
    Phase,
    Prefill,
    Pricing,
    RatioMode,
    Rehearsal,
    TurnContext,
    UpdateReport,
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

    replaces_prompts: ClassVar[bool] = False
    """Does a loss of its own put prompts in the place of whole ones? The role of a seat would be missing in them, so
    that an arm with both is refused. Not asked of those that own `episode_context` or rehearse."""

    @classmethod
    def example(cls) -> Self:
        """One that acts, for tests and benchmarks: override it where defaults do nothing.

        Fields that are required have the first of their `Field(examples=...)`.
        """
        required = {name: field for name, field in cls.model_fields.items() if field.is_required()}
        return cls(**{name: field.examples[0] for name, field in required.items() if field.examples})

    def control_fields(self, kind: ControlKind) -> Mapping[str, Any] | None:
        """The fields by which this becomes its own control, `use` for another class; None: it has no such control.

        By default those of the usual names (`shaping.controls.standard_fields`).
        """
        return standard_fields(self, kind)

    @property
    def reads_truth(self) -> bool:
        """Is it shown sealed labels? Yes if its class declares `oracle`, or one of its label sources reads them."""
        return self.oracle or any(labels.sealed for labels in sources_of(self))

    @property
    def knows_truth(self) -> bool:
        """Does it act on what no overseer outside of a simulation knows? The world's list of shortcuts counts, too."""
        return self.reads_truth or any(labels.oracle for labels in sources_of(self))

    def sampling_context(self, info: GroupInfo, rng: np.random.Generator) -> Context:
        """The context episodes of one group are sampled under (c_s). One draw per group."""
        return Context()

    def training_context(self, info: GroupInfo, drawn: Context, rng: np.random.Generator) -> Context:
        """The context the same group is learned under (c_t), given the drawn c_s. One draw per group."""
        return drawn

    def prefill(
        self, info: GroupInfo, members: int, rng: np.random.Generator
    ) -> Prefill | Sequence[Prefill | None] | None:
        """What opens the completions of one group's episodes: one for all, or one (or None) for each member.

        Drawn by whoever holds the arm's state, before the group is played. One for all leaves the group's baseline a
        comparison of actions behind the same text. One for each compares the texts as well: episodes behind a text
        that earns more have the higher advantage. That is exploration of motives, and wanted for a proposal of motives;
        where the text only nuisances the return, draw one for all.
        """
        return None

    def episode_context(self, episode: Episode) -> Context | None:
        """The context that one finished episode is learned under, in place of its group's c_t; None: its group's.

        Asked once per episode, before credit. Baselines stay those of the group, whose members were all sampled under
        one c_s. Old log-probs must be recomputed under c_t, or not used (`ratio_mode`). When the episode was played,
        room was kept for c_s and for the group's c_t: a longer context is refused, so draw the longest in
        `training_context` and choose here.
        """
        return None

    def edits(self, phase: Phase) -> Sequence[ActivationEdit]:
        return ()

    def captures(self) -> Sequence[Capture]:
        """Hidden states to be seen in passes that are made anyway, see `Capture`."""
        return ()

    def prepare(self, model: Path) -> None:
        """Make the files that `adapters` names, for the start model in this directory. Every process that loads the
        policy calls it before; where the files are there already, it does nothing."""

    def adapters(self) -> Sequence[AdapterSpec]:
        return ()

    def ratio_mode(self) -> RatioMode:
        """Old log-probs of the policy ratio: the sampler's (`sampler`), recomputed under c_t, or none (REINFORCE)."""
        return "sampler"

    def credit(self, group: Group) -> Credit | None:
        """Pure: per-token additions to the advantage, factors of the weight, and weights of imitation."""
        return None

    def rehearse(self, episodes: Sequence[Episode]) -> Sequence[Rehearsal]:
        """What of an update's episodes, or of earlier ones, is to be said under other prompts, too. Once per update."""
        return ()

    def gates(self, episode: Episode) -> Gates | Sequence[Gates]:
        """What an episode may teach the kept and the quarantine parameters: one answer, or one per turn.

        With different gates in one episode, sequence-level ratios and weights are taken over each gate's tokens alone.
        """
        return Gates()

    def readings(self, episode: Episode) -> Mapping[str, NDArray[np.int64]]:
        """What this intervention came to know of an episode, per turn [turns]; logged by name, used by nothing."""
        return {}

    def auxiliary_loss(self, policy: Policy, batch: Sequence[Any]) -> LossTerm | None:
        """An extra loss on a micro-batch of `shaping.learning.samples.sample.Sample`s that are in the policy loss."""
        return None

    def after_update(self, report: UpdateReport) -> None:
        """Adapt the state that `state_dict` returns. Called once per update, after the policy has learned from it.

        It is called in the process that makes the credit; samplers and learner ranks are sent the state.
        """

    def refresh(self, policy: Policy, version: int) -> Mapping[str, float]:
        """Look at the policy itself, between updates; `version`: the number of updates that it has had.

        Called once before the first update (version 0), and after every one before samplers get the new weights;
        wherever the policy is, on all ranks together, which must run equally many passes. It may change the own state,
        which all processes then get, and never the policy. Returns: metrics, logged under the intervention's name.
        """
        return {}

    def state_dict(self) -> Mapping[str, Any]:
        """JSON-serialisable state that a checkpoint must hold."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state:
            raise ValueError(f"{type(self).__name__} keeps no state but a checkpoint holds {sorted(state)} for it")

    def deploy(self, policy: Policy) -> None:
        """Undo, before evaluation, whatever the hooks above left on the policy."""

    def untested(self, summary: Mapping[str, float]) -> str:
        """Why this run says nothing about the method, by the metrics of its summary; empty: it does.

        Claims about an arm with such a run are not tested.
        """
        return ""


class Shaper(Intervention):
    """Biases motivations. It cannot veto, replace or penalise an action, and it leaves every reward reachable."""


class Constraint(Intervention):
    """Limits or prices actions."""

    weight: float = Field(1.0, ge=0, le=1e6)
    """Exchange rate of costs (lambda): what is trained is return - weight * cost."""

    @property
    def pricing(self) -> Pricing:
        """How its costs enter the advantage now."""
        return Pricing(self.weight)

    def allow(self, turn: TurnContext, action: str | None) -> ActionDecision:
        """Called before sampling with `action=None` (may mask) and after sampling with the command (may not)."""
        return PASS

    def screen(self, group: Group) -> Sequence[bool] | NDArray[np.bool_] | None:
        """Which members of a group stay [episodes]; None: all. Called before the group's statistics.

        An episode that does not stay is in no baseline and no spread, has advantage 0, and nothing is learned from it.
        """
        return None

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
