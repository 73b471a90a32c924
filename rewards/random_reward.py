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
    - `exchange`: what `shuffle` deals out in one group is paid in another one of the same world and update, along a
      random cycle of the groups, so that none keeps its own. The mean of a group then says nothing of it, either, which
      matters to critics and wherever groups are compared. A group alone in its world is shuffled. Where the other group
      has fewer episodes, some of its returns are paid twice.
    - `matched`: noise in the place of each return, a normal number with the mean and the standard deviation of the
      group's own returns, paid in the last turn. Unlike shuffled ones, no two returns are tied for any reason.
    - `gaussian`: a normal number of standard deviation `scale` per episode, paid in the last turn.

    Draws depend on `seed` and on the episodes only, so a resumed run deals the same rewards. Used as a control because
    spurious rewards alone can move a policy (2506.10947).
    """

    mode: Literal["shuffle", "exchange", "matched", "gaussian"] = Field("shuffle", description="source of what is paid")
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

    def between(
        self, groups: Sequence[Sequence[Episode]], paid: Sequence[Sequence[NDArray[np.float64]]]
    ) -> Sequence[Sequence[NDArray[np.float64]]]:
        if self.mode != "exchange":
            return paid
        dealt: list[Sequence[NDArray[np.float64]]] = list(paid)
        of_world: dict[str, list[int]] = {}
        for number, members in enumerate(groups):
            of_world.setdefault(members[0].world, []).append(number)
        for numbers in of_world.values():
            generator = _generator(self.seed, [episode for number in numbers for episode in groups[number]])
            cycle = generator.permutation(numbers)
            for own, other in zip(cycle, np.roll(cycle, 1), strict=True):
                amounts = generator.permutation([rewards.sum() for rewards in paid[other]])
                amounts = np.resize(amounts, len(groups[own]))
                dealt[own] = [_paid_last(e, float(amount)) for e, amount in zip(groups[own], amounts, strict=True)]
        return dealt


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
