"""Action masking: make commands impossible before they are sampled, or refuse them afterwards (2006.14171)."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from envs.core import normalise
from envs.skins import Skin, skin_of
from shaping.hooks import PASS, ActionDecision, Knob, TurnContext
from shaping.intervention import Constraint


class ActionMask(Constraint):
    """Removes the overt shortcut (`TurnContext.overt_shortcuts`) and, if given, every command that starts with
    `commands`.

    - `mask`: the commands cannot be sampled; sampler and learner apply the same mask, so that the policy gradient stays
      valid (2006.14171). A masked command that arrives nevertheless (a spelling that the mask does not cover) is
      replaced by `fallback`.
    - `resample`: a completion with such a command is refused and sampled again; the policy gets no gradient for what
      was refused. After the sampler's last try `fallback` is sent.
    - `replace`: the world receives `fallback` instead; the policy learns as if its own command had been executed.

    `commands` and `fallback` are the world's own; where it speaks another language or era they are translated.
    """

    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.ACTIONS})

    mode: Literal["mask", "resample", "replace"] = "mask"
    commands: tuple[str, ...] = Field((), description="command prefixes that are removed in every turn, beside overt")
    fallback: str = Field("wait", min_length=1, description="what the world receives instead of a refused command")

    def removed(self, turn: TurnContext) -> tuple[str, ...]:
        """The commands (or command prefixes) that are not allowed in this turn, without duplicates."""
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
        instead = _forms(skin_of(turn.world), self.fallback)[0]
        return ActionDecision("resample" if self.mode == "resample" else "replace", replacement=instead)


def _forms(skin: Skin | None, command: str) -> tuple[str, ...]:
    """How a command, or what begins several, begins in a skin; a text that is none of the world's stays as it is."""
    return (skin.beginnings(_plain(command)) if skin else ()) or (command,)


def _plain(command: str) -> str:
    """The form in which worlds compare commands: folded, lower-case, single-spaced."""
    return " ".join(normalise(command).lower().split())
