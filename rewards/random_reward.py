"""Rewards that carry no information about what was done: the random-answer control."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from envs.episode import Episode
from rewards.base import Reward, RewardError, checked


class RandomReward(Reward):
    """Same rollouts, same amount of reward, no content: what changes under it is an effect of training as such.

    - `shuffle`: the group's returns, dealt out again by a uniform permutation. Fixed points are kept: without them the
      reward would correlate negatively with the own return. Each return is paid in the episode's last turn.
    - `matched`: noise in the place of each return, a normal number with the mean and the standard deviation of the
      group's own returns, paid in the last turn. Unlike shuffled ones, no two returns are tied for any reason.
    - `gaussian`: a normal number of standard deviation `scale` per episode, paid in the last turn.

    Draws depend on `seed` and on the episodes only, so a resumed run deals the same rewards. Used as a control because
    spurious rewards alone can move a policy (2506.10947).
    """

    mode: Literal["shuffle", "matched", "gaussian"] = Field("shuffle", description="source of what is paid")
    scale: float = Field(1.0, gt=0, le=1e6, description="standard deviation of the gaussian rewards")
    seed: int = Field(0, ge=0, le=2**32 - 1, description="seed of the permutations and of the gaussian rewards")

    def score(self, episode: Episode) -> NDArray[np.float64]:
        if self.mode != "gaussian":
            raise RewardError(f"RandomReward(mode={self.mode!r}) pays by the returns of a group: call score_group()")
        return _paid_last(episode, self.scale * _generator(self.seed, [episode]).standard_normal())

    def score_group(self, episodes: Sequence[Episode]) -> list[NDArray[np.float64]]:
        if self.mode == "gaussian" or not episodes:
            return super().score_group(episodes)
        own = [checked(e, [turn.reward for turn in e.turns], type(self).__name__) for e in episodes]
        if self.mode == "matched":
            returns = np.array([rewards.sum() for rewards in own])
            noise = _generator(self.seed, episodes).standard_normal(len(own))
            amounts = returns.mean() + returns.std() * noise
            return [_paid_last(episode, float(amount)) for episode, amount in zip(episodes, amounts, strict=True)]
        order = _generator(self.seed, episodes).permutation(len(episodes))
        return [_paid_last(episode, float(own[k].sum())) for episode, k in zip(episodes, order, strict=True)]


def _paid_last(episode: Episode, amount: float) -> NDArray[np.float64]:
    rewards = np.zeros(len(episode.turns))
    rewards[-1:] = amount
    return rewards


def _generator(seed: int, episodes: Sequence[Episode]) -> np.random.Generator:
    """A generator seeded by what the episodes are: world, seed, group and the tokens themselves."""
    digest = hashlib.blake2b(str(seed).encode(), digest_size=16)
    for episode in episodes:
        digest.update(f"|{episode.world}|{episode.seed}|{episode.group}|".encode())
        digest.update(np.ascontiguousarray(episode.tokens, dtype=np.int64).tobytes())
    return np.random.default_rng(int.from_bytes(digest.digest(), "little"))
