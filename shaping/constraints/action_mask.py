"""Action masking: make commands impossible before sampling, or refuse them afterwards (2006.14171)."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from envs.core import draw, normalise
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
    fallback: str = Field("wait", min_length=1, description="command that replaces a refused one")
    recall: float = Field(1.0, ge=0, le=1, description="share of turns in which it acts (0: the unshaped policy)")

    def removed(self, turn: TurnContext) -> tuple[str, ...]:
        """The commands and command prefixes that are not allowed in this turn, without duplicates."""
        if draw(turn.seed, "mask", turn.turn) >= self.recall:
            return ()
        skin = skin_of(turn.world)
        always = tuple(form for command in self.commands for form in _forms(skin, command))
        return tuple(dict.fromkeys(map(_plain, (*turn.overt_shortcuts, *always))))

    def allow(self, turn: TurnContext, action: str | None) -> ActionDecision:
        removed = self.removed(turn)
        if action is None:
            return ActionDecision("mask", commands=removed) if self.mode == "mask" and removed else PASS
        words = _plain(action).split()
        if not any(words[: len(prefix)] == prefix for prefix in (command.split() for command in removed)):
            return PASS
        replacement = _forms(skin_of(turn.world), self.fallback)[0]
        return ActionDecision("resample" if self.mode == "resample" else "replace", replacement=replacement)


def _forms(skin: Skin | None, command: str) -> tuple[str, ...]:
    """The beginnings, in a skin, of a command or command prefix. A text that is no command stays unchanged."""
    return (skin.beginnings(_plain(command)) if skin else ()) or (command,)


def _plain(command: str) -> str:
    """A command in the form that worlds compare: folded, lower-case, single-spaced."""
    return " ".join(normalise(command).lower().split())
