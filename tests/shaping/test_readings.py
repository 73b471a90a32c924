"""Readings of interventions have the intervention's name, so that no two of them merge."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from envs.episode import Episode
from shaping.constraints.overseer_penalty import OverseerPenalty
from shaping.intervention import Shaper
from shaping.readings import intervention_names, readings
from shaping.shapers.parameters.gradient_routing import GradientRouting


class HTTPProbe2(Shaper):
    each: int = 1

    def readings(self, episode: Episode) -> dict[str, Any]:
        return {"reward": np.full(len(episode.turns), self.each), "update": np.arange(len(episode.turns))}


def test_names_are_the_classes_in_snake_case_and_numbered_where_several_share_one() -> None:
    arm = [OverseerPenalty(), HTTPProbe2(), OverseerPenalty(accuracy=1.0), GradientRouting()]
    assert intervention_names(arm) == ["overseer_penalty.1", "http_probe2", "overseer_penalty.2", "gradient_routing"]
    assert intervention_names([]) == []


def test_two_of_one_class_keep_their_readings_apart(make_episode: Callable[..., Episode]) -> None:
    found = readings([HTTPProbe2(), HTTPProbe2(each=3)], [make_episode(), make_episode()])
    assert found["readings/http_probe2.1/reward"] == 2.0 and found["readings/http_probe2.2/reward"] == 6.0


def test_a_reading_cannot_take_the_place_of_a_metric(make_episode: Callable[..., Episode]) -> None:
    assert all(name.startswith("readings/http_probe2/") for name in readings([HTTPProbe2()], [make_episode()]))
