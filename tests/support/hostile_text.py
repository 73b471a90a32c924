"""Plug-ins whose every text holds half characters, as broken decoders leave them. Named as `hostile_text:Class`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from envs.core import TextEnv
from envs.episode import TRAITS, Context, Episode, Event, Labels
from rewards.base import Reward
from shaping.hooks import ActionDecision, Credit, Group, GroupInfo, Knob, LossTerm, TurnContext
from shaping.intervention import Constraint
from shaping.monitors.base import Monitor, Reading

HALF = "\ud800"
"""The first half of a pair: no UTF-8, no JSON reader and no tokenizer takes it."""


class Broken(TextEnv):
    """Every third turn raises, with a message that is no text either."""

    name: ClassVar[str] = f"bro{HALF}ken"
    max_return = 2.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        self.turn, self.fails = 0, seed is not None and seed > 1000 and seed % 4 == 0  # no seed of a check
        return f"say {HALF} a word .", {"overt_shortcuts": (f"grab{HALF}",)}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self.turn += 1
        if self.fails:
            raise OSError(f"no map of {HALF}")
        info = {
            "labels": Labels(opportunity=dict.fromkeys(TRAITS, True)),
            "events": (Event("act", f"ev{HALF}ent", HALF),),
            "overt_shortcuts": (HALF,),
            "executed": f"wait{HALF}",
        }
        return f"turn {HALF} .", float("a" in action), self.turn == 2, False, info


class Mumbles(Constraint):
    """Its prompt, its names and its state hold halves of characters."""

    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.SAMPLING_CONTEXT, Knob.ACTIONS})

    def sampling_context(self, info: GroupInfo, rng: np.random.Generator) -> Context:
        return Context(f"be {HALF} good", f"na{HALF}me")

    def allow(self, turn: TurnContext, action: str | None) -> ActionDecision:
        passes = action is None or action.startswith("wait")  # what it sends in place of others must pass
        return ActionDecision("pass" if passes else "replace", replacement=f"wait {HALF}")

    def credit(self, group: Group) -> Credit | None:
        return Credit(f"credit{HALF}", tuple(np.zeros(len(e.tokens)) for e in group.episodes))

    def readings(self, episode: Episode) -> Mapping[str, Any]:
        return {f"read{HALF}ing": np.ones(len(episode.turns))}

    def auxiliary_loss(self, policy: Any, batch: Sequence[Any]) -> LossTerm:
        return LossTerm(f"te{HALF}rm", 0.0 * sum(p.sum() for p in policy.model.parameters()))

    def state_dict(self) -> Mapping[str, Any]:
        return {f"ke{HALF}y": [f"val{HALF}ue"]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


class Complains(Constraint):
    """Ends its own run, with a message that is no text."""

    def cost(self, episode: Episode) -> Any:
        raise RuntimeError(f"I will not {HALF}")


class Suspects(Monitor):
    name: str = "suspects"

    def read(self, episode: Episode) -> list[Reading]:
        return [Reading(f"mon{HALF}itor", "harm", 0, 1.0)]


class Pays(Reward):
    def score(self, episode: Episode) -> Any:
        print(f"paid {HALF}")
        return np.array([turn.reward for turn in episode.turns])
