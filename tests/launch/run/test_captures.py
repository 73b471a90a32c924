"""Which hidden states a run asks of its engine, and which it cannot be shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from launch.config.loading import parse_study
from launch.config.study import RunConfig
from launch.errors import ConfigError
from launch.run.captures import check_captures, sampling_captures
from shaping.arm import compose
from shaping.hooks import Capture
from shaping.intervention import Shaper


class Looks(Shaper):
    layers: tuple[int, ...] = (0,)

    def captures(self) -> Sequence[Capture]:
        return [Capture("seen", self.layers, phase="sampling"), Capture("learned", self.layers)]


class Otherwise(Looks):
    pass


def config(rollout: dict[str, Any]) -> RunConfig:
    world = {"controller_worlds:Vowels": {}}
    document = {
        "name": "small",
        "seeds": 1,
        "train": {"worlds": world, "updates": 1, "groups": 1, "group_size": 2, "max_tokens": 8},
        "eval": {"worlds": world, "episodes": 1, "access_episodes": 0},
        "rollout": rollout,
        "arms": {"arm": {"role": "reference"}},
    }
    return parse_study(document, "test").runs()[0]


def test_states_of_sampling_are_asked_of_the_transformers_engine_alone() -> None:
    arm = compose("arm", [Looks(), Otherwise()])
    assert [c.name for c in sampling_captures(config({}), arm)] == ["seen"]
    check_captures(config({}), arm)
    vllm = config({"workers": 1, "engine": "vllm"})
    check_captures(vllm, compose("arm", []))
    with pytest.raises(ConfigError, match=r"'seen'.*vLLM does not show: set rollout\.engine=transformers"):
        check_captures(vllm, arm)


def test_two_plugins_that_disagree_about_a_name_are_told_apart() -> None:
    with pytest.raises(ConfigError, match="Looks and Otherwise capture different states under the name 'seen'"):
        sampling_captures(config({}), compose("arm", [Looks(), Otherwise(layers=(1,))]))
