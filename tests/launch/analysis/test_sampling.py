"""Episodes without a study are those that a run with the same settings plays, also inside a running event loop."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import shaping
from envs.episode import Episode
from envs.worlds.clerk import Clerk
from launch.analysis.settings import arm_of, run_of
from launch.config.plugins import PluginError
from launch.errors import ConfigError, UserError
from launch.run.episodes import GroupRequest
from launch.run.rendering import renderer_of
from launch.run.rollouts import LocalRollouts
from shaping.arm import compose
from shaping.constraints import ActionMask
from shaping.shapers import Inoculation

ROOT = Path(__file__).resolve().parents[3]
SMALL = {"groups": 2, "group_size": 2, "max_tokens": 12}
OPTIONS = {"size": 3, "horizon": 4}


def tokens(episodes: Sequence[Episode]) -> list[list[int]]:
    return [episode.tokens.tolist() for episode in episodes]


@pytest.fixture(scope="module")
def sampled() -> Sequence[Episode]:
    found: Sequence[Episode] = shaping.sample("clerk", "shipped:1", "Inoculation", options=OPTIONS, seed=7, **SMALL)
    return found


def test_they_are_those_of_the_first_update_of_a_run(sampled: Sequence[Episode]) -> None:
    arm = arm_of("Inoculation")
    policy = shaping.open_policy("shipped:1", arm)
    run = run_of("clerk", OPTIONS, str(policy.tokenizer.name_or_path), arm, SMALL, seed=7)
    rollouts = LocalRollouts(run, arm, policy, renderer_of(run, policy.tokenizer))
    requests = [GroupRequest(0, 0), GroupRequest(0, 1)]
    rollouts.submit(requests)
    groups = {played.request: played.episodes for played in (rollouts.next() for _ in requests)}
    assert tokens(sampled) == tokens([e for request in requests for e in groups[request]])
    assert [e.group for e in sampled] == [0, 0, 1, 1] and len({e.seed for e in sampled}) == 2
    assert all(e.contexts.sampling.system for e in sampled), "each group has a prompt"


async def test_it_works_in_a_running_event_loop_and_with_a_class(sampled: Sequence[Episode]) -> None:
    arm = compose("own", [Inoculation()])
    again = shaping.sample(Clerk, shaping.open_policy("shipped:1"), arm, options=OPTIONS, seed=7, **SMALL)
    assert tokens(again) == tokens(sampled) and {e.arm for e in again} == {"own"}
    one = shaping.play("clerk", "shipped:1", Inoculation(), options=OPTIONS, seed=7, max_tokens=12)
    assert tokens([one]) == tokens(sampled[:1])


def test_arms_are_written_as_in_a_study() -> None:
    assert arm_of(None).interventions == () and arm_of([]).name == "unshaped"
    both = arm_of([{"use": "ActionMask"}, Inoculation()])
    assert [type(i) for i in both.interventions] == [ActionMask, Inoculation] and both.name == "ActionMask+Inoculation"
    assert arm_of(both) is both
    with pytest.raises(PluginError, match=r"arm\.0: unknown intervention 'Inoculatio' \(did you mean 'Inoculation'"):
        arm_of("Inoculatio")
    with pytest.raises(PluginError, match="both own the knob"):
        arm_of(["Inoculation", "Inoculation"])
    with pytest.raises(ConfigError, match=r"arm\.0\.use: this key is required"):
        arm_of({"kind": "eliciting"})


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ConfigError, match=r"train\.group_size: Input should be greater than or equal to 2"):
        shaping.sample("clerk", group_size=1)
    with pytest.raises(UserError, match="clark"):
        shaping.sample("clark", groups=1, group_size=2)
    with pytest.raises(ConfigError, match="shipped:9"):
        shaping.play("clerk", "shipped:9")


def test_importing_shaping_stays_light() -> None:
    code = (
        "import sys, shaping; heavy = {'torch', 'launch', 'pandas', 'transformers'} & set(sys.modules); "
        "print(sorted(heavy), 'open_study' in dir(shaping), hasattr(shaping, 'nothing'))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.split("\n")[0] == "[] True False"
