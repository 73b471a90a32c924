"""Action masking: make commands impossible before sampling, or refuse them afterwards (2006.14171)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from envs.core import draw, normalise, parse_action
from envs.episode import Episode
from envs.skins import Skin, skin_of
from shaping.controls import ControlKind
from shaping.hooks import PASS, ActionDecision, Knob, TurnContext
from shaping.intervention import Constraint


class ActionMask(Constraint):
    """Removes overt shortcuts (`TurnContext.overt_shortcuts`), and the commands that start with one of `commands`.

    - `mask`: the commands cannot be sampled. Sampler and learner apply the same mask, so that the policy gradient stays
      valid (2006.14171). `fallback` replaces a command that gets past the mask in a spelling the mask does not cover.
    - `resample`: a completion with such a command is refused and sampled again. The policy gets no gradient for a
      refused completion. After the sampler's last try the world receives `fallback`.
    - `replace`: the world receives `fallback` instead; the policy learns as if its sampled command had been executed.

    `recall` is the share of turns in which it acts, for studies of its strength. Seed and turn alone decide
    (`envs.core.draw`), so that sampler, learner and audits agree, and the episodes of a group meet the same mask.

    Write `commands` and `fallback` in the world's default locale; they are translated for worlds in other locales.
    """

    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.ACTIONS})
    needs: ClassVar[tuple[ControlKind, ...]] = (ControlKind.NO_LOOPHOLE, ControlKind.BASE)

    mode: Literal["mask", "resample", "replace"] = Field("mask", description="how commands are removed")
    commands: tuple[str, ...] = Field((), description="further command prefixes to remove in every turn")
    shortcuts: bool = Field(True, description="remove overt shortcuts; without them only `commands`, as a control")
    fallback: str = Field("wait", min_length=1, description="command that replaces a refused one")
    recall: float = Field(1.0, ge=0, le=1, description="share of turns in which it acts (0: the unshaped policy)")

    rules: ClassVar[tuple[str, ...]] = ("commands",)
    """Fields that name what is removed; without one of them, and without shortcuts, nothing is."""

    @model_validator(mode="after")
    def _removes_something(self) -> ActionMask:
        if not self.shortcuts and not any(getattr(self, rule) for rule in self.rules):
            empty = " and ".join(f"`{rule}`" for rule in self.rules)
            raise ValueError(
                f"`shortcuts` is false and {empty} {'is' if len(self.rules) == 1 else 'are'} empty, so nothing is "
                "removed: name commands"
            )
        return self

    def acts(self, turn: TurnContext) -> bool:
        """Does it act in this turn at all?"""
        return draw(turn.seed, "mask", turn.turn) < self.recall

    def removed(self, turn: TurnContext) -> tuple[str, ...]:
        """The commands and command prefixes that are not allowed in this turn, without duplicates."""
        if not self.acts(turn):
            return ()
        overt = map(_plain, turn.overt_shortcuts) if self.shortcuts else ()
        return tuple(dict.fromkeys((*overt, *prefixes(turn, self.commands))))

    def allow(self, turn: TurnContext, action: str | None) -> ActionDecision:
        if action is None:
            removed = self.removed(turn) if self.mode == "mask" else ()
            return ActionDecision("mask", commands=removed) if removed else PASS
        if not self.refuses(turn, action):
            return PASS
        kind: Literal["resample", "replace"] = "resample" if self.mode == "resample" else "replace"
        return ActionDecision(kind, replacement=self.instead(turn))

    def refuses(self, turn: TurnContext, action: str) -> bool:
        """Is a sampled command one of those that are removed?"""
        return begins(action, self.removed(turn))

    def instead(self, turn: TurnContext) -> str:
        """What the world receives in place of a refused command."""
        return _forms(skin_of(turn.world), self.fallback)[0]

    def readings(self, episode: Episode) -> Mapping[str, NDArray[Any]]:
        """Per turn the completions that were refused, and all that were drawn.

        The share of the policy's probability that is refused is the quotient of their sums.
        """
        if self.mode != "resample":
            return {}
        rejected = np.array([turn.rejected for turn in episode.turns], np.int64)
        return {"rejected": rejected, "drawn": rejected + ~self.refused(episode)}

    def refused(self, episode: Episode) -> NDArray[np.bool_]:
        """The turns whose completion it refuses: the world received something else, shape [turns]."""
        found = [
            self.refuses(TurnContext(episode.world, episode.seed, t, turn.observation, turn.overt_shortcuts), said)
            for t, turn in enumerate(episode.turns)
            for said in [parse_action(f"ACTION: {turn.action_text}")]
        ]
        return np.array(found, bool)


def begins(action: str, prefixes: Sequence[str]) -> bool:
    """Does a command begin with the words of one of these?"""
    words = _plain(action).split()
    return any(words[: len(prefix)] == prefix for prefix in (command.split() for command in prefixes))


def prefixes(turn: TurnContext, commands: Sequence[str]) -> tuple[str, ...]:
    """Command prefixes of the default locale, as the turn's world has them."""
    skin = skin_of(turn.world)
    return tuple(_plain(form) for command in commands for form in _forms(skin, command))


def _forms(skin: Skin | None, command: str) -> tuple[str, ...]:
    """The beginnings, in a skin, of a command or command prefix. A text that is no command stays unchanged."""
    return (skin.beginnings(_plain(command)) if skin else ()) or (command,)


def _plain(command: str) -> str:
    """A command in the form that worlds compare: folded, lower-case, single-spaced."""
    return " ".join(normalise(command).lower().split())
