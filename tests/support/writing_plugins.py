"""Plug-ins that try to change what they are shown. Named in configs as `writing_plugins:Class`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from envs.episode import Context, Episode
from rewards.base import Reward
from shaping.hooks import PASS, ActionDecision, Credit, Gates, Group, GroupInfo, Knob, LossTerm, RatioMode, TurnContext
from shaping.intervention import Constraint
from shaping.monitors.base import Monitor, Reading

Hook = Literal[
    "sampling_context", "training_context", "allow", "cost", "credit", "gates", "readings", "auxiliary_loss", "none"
]


def _array(episode: Episode) -> None:
    episode.loss_mask[:] = False


def _turn_array(episode: Episode) -> None:
    episode.turns[0].logprobs.fill(0.0)


def _locked(episode: Episode) -> None:
    episode.tokens.setflags(write=True)


def _option(episode: Episode) -> None:
    episode.options["max_return"] = 1e9  # type: ignore[index]


def _field(episode: Episode) -> None:
    episode.arm = "another"  # type: ignore[misc]


def _turns(episode: Episode) -> None:
    episode.turns[0] = episode.turns[-1]  # type: ignore[index]


def _nested(episode: Episode) -> None:
    episode.options["table"]["a"] = 2


WRITES: dict[str, Callable[[Episode], None]] = {
    each.__name__.strip("_"): each for each in (_array, _turn_array, _locked, _option, _field, _turns, _nested)
}
"""Ways to change an episode, by name."""


class Writes(Constraint):
    """Tries one way of writing in one hook; neutral in all others."""

    owns: ClassVar[frozenset[Knob]] = frozenset(Knob) - {Knob.SAMPLING_EDITS, Knob.TRAINING_EDITS}
    hook: Hook = "credit"
    way: str = "option"

    def sampling_context(self, info: GroupInfo, rng: np.random.Generator) -> Context:
        if self.hook == "sampling_context":
            info.seed = 1  # type: ignore[misc]
        return Context()

    def training_context(self, info: GroupInfo, drawn: Context, rng: np.random.Generator) -> Context:
        if self.hook == "training_context":
            drawn.system = "another"  # type: ignore[misc]
        return drawn

    def allow(self, turn: TurnContext, action: str | None) -> ActionDecision:
        if self.hook == "allow":
            turn.overt_shortcuts[0] = "wait"  # type: ignore[index]
        return PASS

    def cost(self, episode: Episode) -> Any:
        if self.hook == "cost":
            WRITES[self.way](episode)

    def ratio_mode(self) -> RatioMode:
        return "sampler"

    def credit(self, group: Group) -> Credit | None:
        if self.hook == "credit":
            if self.way == "advantages":
                group.advantages += 1.0
            else:
                WRITES[self.way](group.episodes[0])
        return None

    def gates(self, episode: Episode) -> Gates:
        if self.hook == "gates":
            WRITES[self.way](episode)
        return Gates()

    def readings(self, episode: Episode) -> dict[str, Any]:
        if self.hook == "readings":
            WRITES[self.way](episode)
        return {}

    def auxiliary_loss(self, policy: Any, batch: Sequence[Any]) -> LossTerm | None:
        if self.hook == "auxiliary_loss":
            batch[0].advantage[:] = 7.0
        return None


class WritesLabels(Constraint):
    """May read the truth, and tries to change it."""

    oracle: ClassVar[bool] = True

    def cost(self, episode: Episode) -> Any:
        episode.truth.open()[0].opportunity["harm"] = True  # type: ignore[index]


class PaysAndWrites(Reward):
    way: str = "option"

    def score(self, episode: Episode) -> Any:
        WRITES[self.way](episode)
        return np.zeros(len(episode.turns))


class ReadsAndWrites(Monitor):
    name: str = "writer"
    way: str = "option"

    def read(self, episode: Episode) -> list[Reading]:
        WRITES[self.way](episode)
        return []


class PaysNaN(Reward):
    def score(self, episode: Episode) -> Any:
        raise NotImplementedError

    def score_group(self, episodes: Sequence[Episode]) -> Any:
        return [np.full(len(e.turns), np.nan) for e in episodes]
