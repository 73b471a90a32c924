"""A stand-in is to the run what the plug-in would be: its name, knobs and hooks, its errors, the monitors it reads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import third_party
from waiting import wait_until

from launch.config.isolation import Isolation
from launch.config.plugins import build_arm, build_reward
from launch.config.study import ArmConfig
from launch.errors import UserError
from launch.isolation.describe import describe
from launch.isolation.host import IsolationError
from launch.isolation.standins import isolated, walls
from rewards import EnvReward, RandomReward
from rewards.base import RewardError, scored
from shaping.hooks import InterventionError, Knob
from shaping.intervention import Constraint, Intervention
from shaping.learning.credit.costs import costs_of
from shaping.monitors.reachable import spent_names


@pytest.fixture
def limits(tmp_path: Path) -> Isolation:
    return Isolation(hidden=str(tmp_path), step_seconds=20, reward_seconds=20, stage_seconds=20)


def arm(*interventions: str, reward: str = "EnvReward") -> ArmConfig:
    return ArmConfig.model_validate({"role": "reference", "interventions": list(interventions), "reward": reward})


def test_strangers_are_apart_and_our_own_are_not(limits: Isolation) -> None:
    built = build_arm("x", arm("Identity", "third_party:Sober"), limits)
    ours, stranger = built.interventions
    assert (built.family, built.owner[Knob.ACTIONS]) == ("mixed", stranger)
    assert type(stranger).__name__ == "Sober"
    assert type(stranger).credit is Intervention.credit  # not overridden: never asked
    (line,) = walls([ours, stranger, build_reward("x", arm(), limits)])
    assert line.startswith("third_party:Sober runs isolated; ")


def test_a_constraint_apart_can_price_whole_groups(limits: Isolation, make_episode: Any) -> None:
    (stranger,) = build_arm("x", arm("third_party:Shares"), limits).interventions
    assert isinstance(stranger, Constraint)
    group = [make_episode([0.0, 1.0]), make_episode([3.0, 0.0])]
    assert [c.tolist() for c in costs_of(stranger, group) or ()] == [[0.0, 2.0], [0.0, 2.0]]


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("object", r"got rewards of shape"),
        ("nan", r"is nan"),
        ("raise", r"Sullen.score_group\(\) raised LookupError: no such .*thing"),
    ],
)
def test_answers_and_errors_are_told_as_those_of_any_reward(
    how: str, told: str, limits: Isolation, make_episode: Any
) -> None:
    reward = isolated("reward", "third_party:Sullen", {"how": how}, "arms.x.reward", "x", limits)
    with pytest.raises(RewardError, match=told) as raised:
        scored(reward, [make_episode()])
    assert "\x1b" not in str(raised.value)


def test_what_it_prints_does_not_reach_the_pipe(limits: Isolation, make_episode: Any) -> None:
    reward = isolated("reward", "third_party:Sullen", {"how": "print"}, "arms.x.reward", "x", limits)
    assert scored(reward, [make_episode([0.0, 1.0])])[0].tolist() == [1.0, 1.0]


def test_a_forged_answer_is_no_answer(limits: Isolation, make_episode: Any) -> None:
    reward = isolated("reward", "third_party:Sullen", {"how": "forge"}, "arms.x.reward", "x", limits)
    with pytest.raises(Exception, match=r"'third_party:Sullen' sent a message of .* bytes"):
        scored(reward, [make_episode()])


@pytest.mark.parametrize(
    ("use", "fields", "told"),
    [
        ("third_party:Hint", {}, r"third_party has no class 'Hint'.*Hints"),
        ("third_party:Hints", {"word": 1}, r"arms.x.interventions.0 \(third_party:Hints\): .*word"),
        ("third_party:NeedsPolicy", {}, r"NeedsPolicy overrides auxiliary_loss\(\) and deploy\(\)"),
        ("third_party:Peeks", {}, r"Peeks declares oracle"),
    ],
)
def test_what_cannot_be_built_apart_is_told_before_the_start(
    use: str, fields: dict[str, Any], told: str, limits: Isolation
) -> None:
    with pytest.raises(UserError, match=told):
        isolated("intervention", use, fields, "arms.x.interventions.0", "x", limits)


def test_the_run_opens_no_file_that_it_names(limits: Isolation) -> None:
    built = build_arm("x", arm("third_party:Loads"), limits)
    with pytest.raises(InterventionError, match=r"Loads.adapters\(\) names a path"):
        built.adapters()


def test_a_monitor_that_it_trains_against_is_spent_here_too(limits: Isolation) -> None:
    reward = isolated("reward", "third_party:Watched", {}, "arms.x.reward", "x", limits)
    assert spent_names([reward], []) == ["overt_action"]


def test_the_process_ends_with_its_stand_in(limits: Isolation, make_episode: Any) -> None:
    reward = isolated("reward", "third_party:Thrift", {}, "arms.x.reward", "x", limits)
    process = reward._guest._process
    assert process.poll() is None
    reward._guest.close()
    assert process.poll() is not None
    with pytest.raises((IsolationError, RewardError, ValueError)):
        scored(reward, [make_episode()])


def test_the_process_ends_and_empties_its_folder_if_the_run_is_killed(tmp_path: Path) -> None:
    """The run is a process that kills itself once the plug-in is built."""
    code = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(third_party.__file__).parent)!r})
from launch.config.isolation import Isolation
from launch.isolation.standins import isolated
limits = Isolation(hidden={str(tmp_path)!r}, step_seconds=9, reward_seconds=9, stage_seconds=9)
reward = isolated("reward", "third_party:Thrift", {{}}, "arms.x.reward", "x", limits)
print(reward._guest._process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    wait_until(lambda: not psutil.pid_exists(int(done.stdout)), 20)
    assert list(tmp_path.glob("*/*")) == []  # it may not remove its folder itself


def test_a_reward_that_is_shown_all_groups_of_an_update_cannot_be_apart() -> None:
    assert describe(EnvReward())["name"] == "EnvReward"
    with pytest.raises(UserError, match=r"RandomReward overrides between\(\), .*: it cannot run isolated"):
        describe(RandomReward())
