"""Episodes of scripted strategies under an arm's mask, without a model and without tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from envs.answers import opened, positive_number, step_result
from envs.core import TextEnv, parse_action
from envs.episode import Contexts, Episode, Labels, RolloutStatus, Sealed, Turn
from envs.personas.persona import Plays
from shaping.arm import Arm
from shaping.hooks import TurnContext
from shaping.sampling.text.split import MarkerSplitter

MOST_TURNS = 1000
"""Turns after which an episode is ended."""
Make = Callable[[Any, int], Plays]
"""(world, seed) -> a player."""
_NO_TOKENS = np.zeros(0, np.int32)
_NO_LOGPROBS = np.zeros(0, np.float32)


@dataclass(frozen=True, slots=True)
class Strategist:
    """A strategy that knows what the arm refuses: it then gives the command of another one.

    A trained policy cannot sample what a mask forbids, and would not wait for ever either.
    """

    make: Make
    """The strategy."""
    instead: Make
    """Gives the command of a turn in which the arm refuses that of the strategy."""


def played(env: TextEnv, strategist: Strategist, arm: Arm, seed: int, group: int) -> Episode:
    """One episode. What the arm refuses of both strategies becomes its fallback, as when a model plays.

    Raises `WorldContractError` for a world that breaks its contract, and what the world raises.
    """
    where = f"world {env.name!r} (seed {seed})"
    observation, overt = opened(env.reset(seed=seed), f"{where}: reset")
    best = positive_number(getattr(env, "max_return", 1.0), "max_return", where)
    first, second = strategist.make(env, 0), strategist.instead(env, 0)
    turns: list[Turn] = []
    truth: list[Labels] = []
    status = RolloutStatus.TRUNCATED_MAX_TURNS
    while len(turns) < MOST_TURNS:
        public = TurnContext(env.name, seed, len(turns), observation, overt)
        said, sent = _said(public, first, second, arm)
        result = step_result(env.step(sent), f"{where}: step")
        motive, action = MarkerSplitter()(said)
        turns.append(
            Turn(
                observation, said, motive, action, result.executed, result.reward, result.events,
                _NO_TOKENS, _NO_LOGPROBS, _NO_TOKENS, overt_shortcuts=overt,
            )
        )  # fmt: skip
        truth.append(result.labels)
        observation, overt = result.observation, result.overt_shortcuts
        if result.terminated or result.truncated:
            status = RolloutStatus.COMPLETED if result.terminated else status
            break
    return Episode(
        world=env.name,
        seed=seed,
        group=group,
        arm=arm.name,
        status=status,
        contexts=Contexts(),
        turns=tuple(turns),
        truth=Sealed(tuple(truth)),
        tokens=_NO_TOKENS,
        loss_mask=np.zeros(0, np.bool_),
        span_kind=np.zeros(0, np.int8),
        turn_index=np.zeros(0, np.int16),
        logprobs=_NO_LOGPROBS,
        head=0,
        options={"max_return": best},
    )


def _said(turn: TurnContext, first: Plays, second: Plays, arm: Arm) -> tuple[str, str]:
    """(completion of a turn, what the world receives)."""
    said = first.act()
    if _fallback(arm, turn, said) is None:
        return said, said
    said = second.act()
    fallback = _fallback(arm, turn, said)
    return said, said if fallback is None else f"ACTION: {fallback}"


def _fallback(arm: Arm, turn: TurnContext, said: str) -> str | None:
    """What the arm executes instead; None if it lets the command pass."""
    decision = arm.allow(turn, parse_action(said))
    if decision.kind != "pass":
        return decision.replacement
    if (mask := arm.allow(turn, None)).kind != "mask":
        return None
    from shaping.sampling.text.forbid import is_forbidden  # imports transformers, which arms without a mask do not need

    return "" if is_forbidden(said, mask.commands) else None
