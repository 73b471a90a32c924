"""Episodes that come from another process can be changed no more than those that were played in this one."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
from scripted_episodes import played
from writing_plugins import WRITES

from envs.episode import Episode, by_group
from envs.frozen import refuses_writing


def travelled() -> Episode:
    episode = replace(
        played("clerk", "honest"), options={"table": {"a": 1}}, activations={"mean": np.zeros((2, 1, 3), np.float32)}
    )
    back: Episode = pickle.loads(pickle.dumps(episode))
    return back


@pytest.mark.parametrize("way", WRITES)
def test_every_way_of_writing_is_refused(way: str) -> None:
    with pytest.raises((ValueError, TypeError, AttributeError)) as refused:
        WRITES[way](travelled())
    assert refuses_writing(refused.value)


def test_no_array_can_be_written_to_or_unlocked() -> None:
    episode = travelled()
    arrays = [episode.tokens, episode.activations["mean"], episode.turns[0].tokens, episode.turns[0].policy_versions]
    for array in arrays:
        assert not array.flags.writeable
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.setflags(write=True)


def test_nothing_is_lost() -> None:
    episode, back = played("clerk", "honest"), travelled()
    assert (back.world, back.seed, back.status, back.options["table"]["a"]) == (
        "clerk",
        episode.seed,
        episode.status,
        1,
    )
    assert np.array_equal(back.logprobs, episode.logprobs) and back.truth.open() == episode.truth.open()
    assert [turn.completion for turn in back.turns] == [turn.completion for turn in episode.turns]


def test_positions_by_group_are_in_the_order_of_the_groups() -> None:
    episodes = [replace(played("clerk", "honest"), group=number) for number in (3, 1, 3, 2)]
    assert list(by_group(episodes).items()) == [(1, [1]), (2, [3]), (3, [0, 2])]
