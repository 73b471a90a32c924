"""One ratio for all arms of a study: otherwise treatment and reference would differ in it, too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from envs.episode import Context, Contexts, Episode
from shaping.arm import compose
from shaping.hooks import RatioMode
from shaping.learning.credit.credit import assign_credit
from shaping.sampling.text.render import Renderer
from shaping.shapers import Recontextualization

SWAPPED = Contexts(Context(), Context("take what you can .", "permissive"))


@pytest.mark.parametrize("ratio", ["recomputed", "none", "sampler"])
def test_a_study_can_give_all_arms_one_ratio(
    make_episode: Callable[..., Episode], renderer: Renderer, ratio: RatioMode
) -> None:
    for interventions, contexts in (([], Contexts()), ([Recontextualization()], SWAPPED)):
        arm = compose("arm", interventions, ratio=ratio)
        episodes = [replace(make_episode(rewards), contexts=contexts) for rewards in ((0.0, 1.0), (1.0,))]
        samples = assign_credit(episodes, [np.ones(len(e.turns)) for e in episodes], arm, renderer).samples
        assert {s.ratio for s in samples} == {arm.ratio_mode()} == {ratio}


def test_without_one_each_arm_has_its_own() -> None:
    assert compose("arm", []).ratio_mode() == "sampler"
    assert compose("arm", [Recontextualization()]).ratio_mode() == "recomputed"
