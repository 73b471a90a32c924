"""An output filter: what it finds does not reach the world, and teaches nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from envs.core import normalise
from envs.episode import Episode, SpanKind, Turn
from shaping.constraints.action_mask import ActionMask
from shaping.hooks import Credit, Group


class OutputFilter(ActionMask):
    """Withholds what it finds: the world gets `fallback` for a command, and withheld text is in no loss.

        completion = motive, action
          action refused  -> the world receives `fallback`; the turn's action tokens have weight 0
          motive matches  -> the turn's motive tokens have weight 0
        tokens that passed -> loss, with the credit of what the world made of the filtered text

    Commands are refused as an `ActionMask` refuses them (overt shortcuts, `commands`); motives that hold one of
    `phrases` are withheld, too. It is trained on the text that passed: the policy never gets a gradient for what the
    filter hid, neither for it nor against it. `ActionMask` with mode `replace` is the same filter with that gradient:
    the policy learns as if its own command had been executed.

    The agent's own context keeps what it wrote, and so do the records of episodes: monitors of the evaluation read it.
    `readings/output_filter/withheld_actions` and `withheld_motives` count the turns, which is the rejected mass.

    Pitfall: since it is never corrected, the filtered behaviour stays as likely as it was, and drifts with the rest
    (arXiv:2601.23086: pressure on outputs alone obfuscates what is not filtered).

    Controls: `recall: 0` and no phrases leave every bit; evaluation without the filter, which is what is deployed.
    """

    rules: ClassVar[tuple[str, ...]] = ("commands", "phrases")

    mode: Literal["replace"] = Field("replace", description="the world receives the fallback")
    phrases: tuple[str, ...] = Field((), description="words in a stated motive for which it is withheld")

    def credit(self, group: Group) -> Credit:
        return Credit("output_filter", weight=tuple(self._passed(episode) for episode in group.episodes))

    def readings(self, episode: Episode) -> Mapping[str, NDArray[Any]]:
        return {
            "withheld_actions": self.refused(episode).astype(np.int64),
            "withheld_motives": self._motives(episode).astype(np.int64),
        }

    def _passed(self, episode: Episode) -> NDArray[np.float32]:
        """1 for tokens that passed and 0 for those withheld, shape [tokens]."""
        passed = np.ones(len(episode.tokens), np.float32)
        inside = (episode.turn_index >= 0) & (episode.turn_index < len(episode.turns))
        turn = np.where(inside, episode.turn_index, 0)
        for kind, withheld in ((SpanKind.ACTION, self.refused(episode)), (SpanKind.MOTIVE, self._motives(episode))):
            if withheld.any():
                passed[inside & (episode.span_kind == kind) & withheld[turn]] = 0.0
        return passed

    def _motives(self, episode: Episode) -> NDArray[np.bool_]:
        return np.array([self._found(turn) for turn in episode.turns], bool)

    def _found(self, turn: Turn) -> bool:
        said = f" {_plain(turn.motive_text)} "
        return any(f" {_plain(phrase)} " in said for phrase in self.phrases)


def _plain(text: str) -> str:
    return " ".join(normalise(text).lower().split())
