"""A Lagrange multiplier: the price of a cost rises until its mean is at most a limit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, PlainSerializer, PrivateAttr, model_validator

from envs.episode import Episode
from shaping.controls import ControlKind
from shaping.hooks import Pricing, UpdateReport
from shaping.inline import built, described
from shaping.intervention import Constraint
from shaping.labels import LabelSource


def _built_constraint(given: Any) -> Any:
    return built(given, "constraint", Constraint, ("shaping.constraints",), "shaping.interventions")


class Lagrangian(Constraint):
    """A constrained Markov decision process: maximise the return subject to mean cost per episode <= `limit`.

        costs -> A_C;  rewards -> A_R;  A = (A_R - lambda * A_C) / (1 + lambda)
        after each update:  m <- memory * m + (1 - memory) * (mean cost per episode)
                            log lambda <- log lambda + learning_rate * (m - limit),   clipped to `bounds`

    As PPO-Lagrangian in Safe RLHF (arXiv:2310.12773). A_R and A_C are normalised apart: one spread over
    r - lambda * c would cancel lambda, and with their own spreads the step of lambda does not depend on the units of
    either. (rloo and dr_grpo divide by nothing; `normalise: shared` divides both by the spread of rewards, and lambda
    is then a price in units of proxy reward.) The division by 1 + lambda keeps the size of the update: a high lambda
    takes the place of the reward. The cost is the number of labelled turns of an episode, or that of another
    constraint (`of`), whose own `weight` is not used.

    Logged: `readings/lagrangian/lambda` (the one that made the update) and `cost` per episode. The state, lambda and m,
    is in checkpoints. Start lambda at `weight`.

    Pitfalls. It bounds averages, not episodes, and only what is measured: a cost that can be hidden is, as with a fixed
    price. Lambda overshoots and oscillates where the cost answers late: lower the learning rate, raise `memory`.

    Controls: a `Penalty` at lambda's mean, which has no feedback; `labels: {placebo: true}`; a limit above what the
    unshaped arm costs, where lambda falls to its lower bound; `weight: 0`, which stays 0 and leaves every bit.
    """

    needs: ClassVar[tuple[ControlKind, ...]] = (ControlKind.NO_LOOPHOLE, ControlKind.BASE)

    weight: float = Field(0.1, ge=0, le=1e6, description="lambda before the first update; 0 stays 0")
    labels: LabelSource = Field(LabelSource(), description="which turns cost 1, without `of`")
    of: Annotated[Constraint | None, BeforeValidator(_built_constraint), PlainSerializer(described)] = Field(
        None, description="the constraint whose costs are limited, as under `interventions`; none: labelled turns"
    )
    limit: float = Field(0.1, ge=0, le=1e9, description="largest mean cost per episode")
    learning_rate: float = Field(0.1, ge=0, le=100, description="step of log lambda per unit of cost above the limit")
    memory: float = Field(0.9, ge=0, lt=1, description="share of the moving average of costs that an update keeps")
    bounds: tuple[Annotated[float, Field(gt=0, le=1e6)], Annotated[float, Field(gt=0, le=1e6)]] = Field(
        (1e-3, 100.0), description="smallest and largest lambda"
    )
    normalise: Literal["apart", "shared"] = Field(
        "apart", description="costs are divided by their own spread, or by that of the rewards"
    )

    _log_lambda: float | None = PrivateAttr(None)
    _average: float | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _fits(self) -> Lagrangian:
        low, high = self.bounds
        if not 0 < low <= high <= 1e6:
            raise ValueError(f"bounds: the smallest lambda must be above 0 and at most the largest, not {self.bounds}")
        if self.weight and not low <= self.weight <= high:
            raise ValueError(f"weight: lambda starts at {self.weight}, outside of its bounds {self.bounds}")
        if self.of is not None:
            kind = type(self.of)
            priced = kind.cost is not Constraint.cost or kind.cost_group is not Constraint.cost_group
            if not priced or kind.owns or kind.pricing is not Constraint.pricing:
                raise ValueError(f"of: {kind.__name__} is no constraint that only sets costs; put it beside this one")
        return self

    @property
    def multiplier(self) -> float:
        """Lambda now."""
        return self.weight if self._log_lambda is None else math.exp(self._log_lambda)

    @property
    def pricing(self) -> Pricing:
        return Pricing(self.multiplier, apart=self.normalise == "apart", averaged=True)

    @property
    def reads_truth(self) -> bool:
        return super().reads_truth or (self.of is not None and self.of.reads_truth)

    @property
    def knows_truth(self) -> bool:
        return self.of.knows_truth if self.of is not None else super().knows_truth

    def cost_group(self, episodes: Sequence[Episode]) -> Sequence[NDArray[np.float64]] | None:
        """Cost per turn of every episode of one group."""
        if self.of is not None:
            return self.of.cost_group(episodes)
        return [labelled.astype(np.float64) for labelled in self.labels.labelled_group(episodes)]

    def after_update(self, report: UpdateReport) -> None:
        """One step of dual ascent."""
        costs = [self.cost_group(group.episodes) or [] for group in report.groups]
        episodes = [float(np.sum(cost)) for group in costs for cost in group]
        if not episodes or not self.multiplier:
            return
        mean = math.fsum(episodes) / len(episodes)
        kept = mean if self._average is None else self.memory * self._average + (1 - self.memory) * mean
        step = math.log(self.multiplier) + self.learning_rate * (kept - self.limit)
        self._average = kept
        self._log_lambda = min(max(step, math.log(self.bounds[0])), math.log(self.bounds[1]))

    def readings(self, episode: Episode) -> Mapping[str, NDArray[Any]]:
        turns = len(episode.turns)
        (cost,) = self.cost_group([episode]) or [np.zeros(turns)]
        of_first = np.zeros(turns)
        of_first[:1] = self.multiplier  # readings are summed over turns
        own = {} if self.of is None else self.of.readings(episode)
        return {**own, "lambda": of_first, "cost": cost}

    def state_dict(self) -> Mapping[str, Any]:
        return {} if self._log_lambda is None else {"log_lambda": self._log_lambda, "average": self._average}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._log_lambda, self._average = state.get("log_lambda"), state.get("average")
