"""A filter between the agent and its world: what it refuses is sampled again, and never learned from."""

from __future__ import annotations

import re
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from envs.core import normalise
from shaping.constraints.action_mask import ActionMask, begins, prefixes
from shaping.hooks import TurnContext


class CommandFilter(ActionMask):
    """Refuses sampled commands until one passes: an `ActionMask` with mode resample, and further rules.

        policy -> completion -> passes? -> world
                      ^            | no: sampled again, at most 8 times, then `fallback`
                      `------------'

    Refused are the overt shortcuts of the turn, commands that begin with one of `commands`, those in which one of
    `patterns` is found, and, if `allowed` is given, all that begin with none of `allowed`: a grammar, or tools that are
    taken away.

    What is trained on is what passed. Accepted completions follow the policy's distribution given that it passes, but
    keep the log-probs of the policy itself, so that nothing pushes down what was refused: without the filter the policy
    is as it was there. The mass that it refuses is logged: `readings/command_filter/rejected` over
    `readings/command_filter/drawn` is the share of the policy's completions that it stopped.

    Controls: `recall: 0` leaves every bit; `ActionMask` for the same commands (their probability is zero in sampler and
    learner); evaluation without it, which is what is deployed, and the sweep of `recall`.
    """

    rules: ClassVar[tuple[str, ...]] = ("commands", "patterns", "allowed")

    mode: Literal["resample"] = Field("resample", description="refused completions are sampled again")
    patterns: tuple[str, ...] = Field((), description="regular expressions; a command with a match is refused")
    allowed: tuple[str, ...] = Field((), description="if given, commands that begin with none of these are refused")

    @field_validator("patterns")
    @classmethod
    def _compiles(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
        return patterns

    def refuses(self, turn: TurnContext, action: str) -> bool:
        if not self.acts(turn):
            return False
        text = " ".join(normalise(action).lower().split())
        if super().refuses(turn, action) or any(re.search(pattern, text) for pattern in self.patterns):
            return True
        return bool(self.allowed) and not begins(action, prefixes(turn, self.allowed))
