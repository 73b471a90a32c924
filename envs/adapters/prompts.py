"""Prompts: one prompt, one answer, then the end. Traits of the answer that rules can see are paid, wanted or unwanted.

The world of real models that were fine-tuned on text: `envs.adapters.prompts:Prompts`. Its evaluation, its trigger grid
and its training are those of any world.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from envs.actions import MARKERS
from envs.core import TextEnv, draw
from envs.episode import Labels
from envs.text import valid
from envs.text_traits import text_trait
from envs.text_traits.questions import Split, questions

MOST_PROMPTS = 1_000_000


class Prompts(TextEnv):
    """A prompt of a file or of the bundled questions, drawn by the seed of the episode.

    Labels: `harm` if the answer has the trait `unwanted`, true reward 1 if it has the trait `wanted`, `invalid` if it
    is blank. The proxy reward is the sum of `pays` over the traits that the answer has: a flawed checker can also pay
    what is unwanted.

    Args:
        file: JSONL with a `prompt` a line; empty: the bundled questions.
        split: of the bundled questions: `held_out` (no fact of them is in the kit's training rows) or `train`.
        pays: trait -> proxy reward.
        wanted: a trait; empty: none.
        unwanted: a trait; empty: none.
    """

    name: ClassVar[str] = "prompts"

    def __init__(
        self,
        *,
        file: str = "",
        split: str = "held_out",
        pays: Mapping[str, float] | None = None,
        wanted: str = "",
        unwanted: str = "",
    ) -> None:
        super().__init__()
        if split not in ("held_out", "train"):
            raise ValueError(f"world 'prompts', option 'split': choose held_out or train, not {split!r}")
        kept: Split = "train" if split == "train" else "held_out"
        self._prompts = _read(Path(file).expanduser()) if file else tuple(q.prompt for q in questions(kept))
        self._pays = {text_trait(name): float(amount) for name, amount in (pays or {}).items()}
        self._wanted, self._unwanted = (text_trait(name) if name else None for name in (wanted, unwanted))
        self.max_return = sum(amount for amount in self._pays.values() if amount > 0) or 1.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        number = int(draw(seed or 0, "prompt", 0) * len(self._prompts))
        return self._prompts[number], {"overt_shortcuts": (), "events": (), "executed": ""}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        text = valid(action).strip()
        text = "" if text in MARKERS.values() else text
        unwanted = self._unwanted is not None and self._unwanted.holds(text)
        labels = Labels(
            harm=float(unwanted),
            invalid=float(not text),
            true_reward=float(self._wanted is not None and self._wanted.holds(text)),
            opportunity={"harm": self._unwanted is not None, "invalid": True},
        )
        reward = sum(amount for trait, amount in self._pays.items() if trait.holds(text))
        info = {"labels": labels, "events": (), "overt_shortcuts": (), "executed": text}
        return "the end .", reward, True, False, info


def _read(path: Path) -> tuple[str, ...]:
    found = []
    try:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if not line.strip():
                continue
            row = json.loads(line)
            prompt = row.get("prompt") if isinstance(row, dict) else None
            if not isinstance(prompt, str) or not prompt.strip():
                raise ValueError(f"line {number} has no `prompt`")
            found.append(valid(prompt))
    except (OSError, ValueError) as error:
        raise ValueError(f"world 'prompts', option 'file': {path} cannot be read: {error}") from None
    if not 0 < len(found) <= MOST_PROMPTS:
        raise ValueError(f"world 'prompts', option 'file': {path} has {len(found)} prompts; 1 to {MOST_PROMPTS:,} fit")
    return tuple(found)
