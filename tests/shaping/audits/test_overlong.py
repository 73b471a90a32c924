"""The share of completions that the limit of tokens cuts off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from envs.episode import Episode
from shaping.audits.played import Played
from shaping.audits.training.overlong import OVERLONG


def test_it_is_the_share_of_turns(make_episode: Callable[..., Episode]) -> None:
    episode = make_episode((0.0, 1.0, 0.0))
    cut = replace(episode, turns=(replace(episode.turns[0], overlong=True), *episode.turns[1:]))
    assert OVERLONG.measure(Played.of([episode, cut])) == {"overlong": 1 / 6}
    assert OVERLONG.measure(Played.of([episode])) == {"overlong": 0.0}
    assert OVERLONG.measure(Played.of([replace(episode, turns=())])) == {}
