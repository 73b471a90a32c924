"""Completions that were cut off, in the loss and out of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from four_episodes import same
from numpy.testing import assert_array_equal

from envs.episode import Episode
from shaping.learning.credit.credit import Credited

MakeEpisode = Callable[..., Episode]


def cut(episode: Episode, *overlong: bool) -> Episode:
    turns = tuple(replace(turn, overlong=each) for turn, each in zip(episode.turns, overlong, strict=True))
    return replace(episode, turns=turns)


def test_overlong_completions_can_be_left_out_of_the_loss(
    credit: Callable[..., Credited], episodes: list[Episode]
) -> None:
    some = [cut(episodes[0], False, True), cut(episodes[1], True, True), *episodes[2:]]
    plain, trained, masked = credit(), credit(among=some), credit(among=some, overlong="mask")
    assert all(same(a, b) for a, b in zip(plain.samples, trained.samples, strict=True)), "train is as it always was"
    assert masked.advantages.tolist() == plain.advantages.tolist(), "rewards count in either case"
    assert len(masked.samples) == 3, "nothing is left of the second episode"
    first = masked.samples[0]
    assert_array_equal(first.mask, some[0].loss_mask & (some[0].turn_index == 0))
    assert not first.weight[~first.mask].any() and first.weight[first.mask].all()
    assert same(masked.samples[1], plain.samples[2]) and same(masked.samples[2], plain.samples[3])
    assert masked.credit[1] == 0 and masked.credit[0] == pytest.approx(plain.credit[0] / 2)


def test_masked_tokens_of_overlong_completions_leave_with_them(
    credit: Callable[..., Credited], episodes: list[Episode]
) -> None:
    turns = tuple(replace(turn, masked_tokens=((0, (3, 4)),)) for turn in episodes[0].turns)
    some = [cut(replace(episodes[0], turns=turns), True, False), *episodes[1:]]
    whole, masked = credit(among=some).samples[0], credit(among=some, overlong="mask").samples[0]
    assert len(whole.masked_tokens) == 4 and len(masked.masked_tokens) == 2
    assert masked.mask[masked.masked_tokens[:, 0]].all()
