"""A trained preference model as the reward of an arm."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from envs.episode import Episode
from rewards.base import Reward, RewardError
from rewards.preference.card import CARD

if TYPE_CHECKING:
    from rewards.preference.model import Card, Scorer


class PreferenceModel(Reward):
    """The score of a preference model, in place of what the world pays (arXiv:2112.00861).

    It reads what was said and done, in batches of a group, and neither the world's reward nor the ground truth nor the
    system prompt. The score is paid in the last turn. A policy that is trained on it finds what the model mistakes for
    good (arXiv:2210.10760): the report shows the true reward against the score, by the distance from the start.
    """

    path: str = Field(
        min_length=1, description="directory that `shaping preference train` made", examples=["preference-model"]
    )
    standardise: bool = Field(
        True, description="pay in standard deviations of the scores of its training answers, from their mean"
    )
    worlds: Literal["met", "any"] = Field(
        "met", description="`met`: an episode of a world that its examples were not from is an error"
    )
    longer: Literal["refuse", "cut"] = Field(
        "refuse", description="episodes with more tokens than it reads: an error, or only the last tokens count"
    )
    batch_tokens: int = Field(16_384, ge=1, le=100_000_000, description="tokens of one forward pass, with padding")
    device: str = Field("cpu", pattern=r"^(cpu|cuda(:\d+)?)$", description="where it runs: cpu, cuda or cuda:<number>")

    def lacking(self) -> str:
        if (self._directory / CARD).is_file():
            return ""
        return (
            f"{self.path} holds no preference model (no {CARD}): make one with `shaping preference train SETTINGS "
            f"{self.path}` (docs/preference.md)"
        )

    def score(self, episode: Episode) -> NDArray[np.float64]:
        return self.score_group([episode])[0]

    def score_group(self, episodes: Sequence[Episode]) -> list[NDArray[np.float64]]:
        from rewards.preference.data import PreferenceError
        from rewards.preference.text import answer_of_episode

        if not episodes:
            return []
        try:
            scorer, card = self._loaded()
            self._check_worlds(episodes, card)
            played = [episode for episode in episodes if episode.turns]
            answers = [answer_of_episode(episode) for episode in played]
            found = scorer.scores(answers, longer=self.longer) if answers else np.zeros(0)
        except PreferenceError as error:
            raise RewardError(f"{type(self).__name__}: {error}") from error
        if self.standardise:
            found = (found - card.mean) / card.deviation
        amounts = iter(found.tolist())
        paid = [np.zeros(len(episode.turns)) for episode in episodes]
        for rewards in paid:
            if len(rewards):
                rewards[-1] = next(amounts)
        return paid

    def _check_worlds(self, episodes: Sequence[Episode], card: Card) -> None:
        from rewards.preference.data import PreferenceError

        if self.worlds == "any":
            return
        for name in dict.fromkeys(episode.world for episode in episodes):
            if name not in card.worlds:
                raise PreferenceError(
                    f"{self.path} was trained on {', '.join(card.worlds) or 'text'} and never met the world {name!r}: "
                    "train one on that world, or set worlds: any if that is the question"
                )

    @property
    def _directory(self) -> Path:
        return Path(self.path).expanduser()

    def _loaded(self) -> tuple[Scorer, Card]:
        card = self._directory / CARD
        changed = card.stat().st_mtime_ns if card.is_file() else 0
        scorer, found = _load(self._directory, changed, self.device, self.batch_tokens)
        return scorer, found


@lru_cache(4)
def _load(directory: Path, changed: int, device: str, batch_tokens: int) -> tuple[Any, Any]:
    """Once per process: arms of one study share it. `changed` tells a directory that was made anew."""
    from rewards.preference.model import Scorer, read_card

    card = read_card(directory)
    scorer = Scorer.load(directory, card, device=device, batch_tokens=batch_tokens)
    scorer.model.requires_grad_(False)
    return scorer, card
