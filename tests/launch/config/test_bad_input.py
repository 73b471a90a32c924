"""What a user can get wrong: each is one message that names the place and the remedy, before anything starts."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest
from entry_points import EntryPoint
from launch_fakes import START_MODEL, TRAINER, study

from launch.config.plugins import INTERVENTION, REWARD, WORLD, PluginError, build_arm, build_world, find_class
from launch.errors import ConfigError, UserError
from launch.study import run_study, select

PLUGINS = """
    from envs.worlds.base import World
    from envs.worlds.steward import Steward
    from shaping.intervention import Knob, Shaper

    class Quiet(Shaper):
        strength: float = 1.0

    class Loud(Shaper):
        def sampling_context(self, info, rng):
            return super().sampling_context(info, rng)

    class Policeman(Shaper):
        def allow(self, turn, action):
            return None

    class Broken(Shaper):
        def __init__(self, **fields):
            raise RuntimeError("no electricity")

    class Unrelated:
        pass

    class Nan(Steward):
        def step(self, action):
            observation, _, terminated, truncated, info = super().step(action)
            return observation, float("nan"), terminated, truncated, info

    class Raises(Steward):
        def step(self, action):
            raise ZeroDivisionError("inside the world")

    class Hangs(Steward):
        def step(self, action):
            import time
            time.sleep(30)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with plug-ins in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad_input_plugins.py").write_text(textwrap.dedent(PLUGINS))
    (tmp_path / "bad_input_broken.py").write_text("import nowhere_to_be_found\n")
    (tmp_path / "bad_input_syntax.py").write_text("def f(:\n")
    return tmp_path


def refused(output: Path, interventions: list[Any], **changes: Any) -> str:
    """The message that running a study with such an arm gives; nothing may have been written."""
    config = study(output / "runs", {"unshaped": "", "arm": {"interventions": interventions}}, **changes)
    with pytest.raises(UserError) as raised:
        run_study(config, trainer=TRAINER, start_model=START_MODEL)
    assert not (output / "runs").exists()
    return str(raised.value)


@pytest.mark.parametrize(
    ("use", "told"),
    [
        ("ActionMusk", "unknown intervention 'ActionMusk' (did you mean 'ActionMask'?)"),
        ("bad_input_absent:Quiet", "module 'bad_input_absent' does not import: ModuleNotFoundError"),
        ("bad_input_broken:Quiet", "No module named 'nowhere_to_be_found'"),
        ("bad_input_syntax:Quiet", "bad_input_syntax.py, line 1"),
        ("bad_input_plugins:Quite", "has no class 'Quite' (did you mean 'Quiet'?)"),
        ("bad_input_plugins:Unrelated", "not a subclass of shaping.intervention.Intervention"),
        ("bad_input_plugins:Broken", "no electricity"),
        ("bad_input_plugins:Loud", "does not list Knob.SAMPLING_CONTEXT in `owns`"),
        ("bad_input_plugins:Policeman", "may not define allow()"),
    ],
)
def test_a_plugin_that_cannot_be_used_is_told_why(here: Path, use: str, told: str) -> None:
    message = refused(here, [{"use": use}])
    assert told in message
    assert "arm" in message


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"use": "OverseerPenalty", "acuracy": 0.5}, "acuracy: unknown key (did you mean 'accuracy'?)"),
        ({"use": "OverseerPenalty", "accuracy": 2}, "accuracy: Input should be less than or equal to 1"),
        ({"use": "Inoculation", "kind": "gentle"}, "kind: Input should be 'eliciting'"),
        ({"use": "bad_input_plugins:Quiet", "strenght": 2}, "did you mean 'strength'?"),
    ],
)
def test_a_wrong_field_of_a_plugin_is_told_with_its_key(here: Path, spec: dict[str, Any], told: str) -> None:
    message = refused(here, [spec])
    assert told in message
    assert "arms.arm.interventions.0" in message


def test_two_interventions_that_own_one_knob_are_refused(here: Path) -> None:
    message = refused(here, [{"use": "Inoculation"}, {"use": "Recontextualization"}])
    assert "both own the knob" in message
    assert "'arm'" in message


def test_a_plugin_of_the_current_directory_is_found_without_installation(here: Path) -> None:
    config = study(here, {"arm": {"interventions": [{"use": "bad_input_plugins:Quiet", "strength": 2}]}})
    (built,) = build_arm("arm", config.arms["arm"]).interventions
    assert (type(built).__name__, built.model_dump()) == ("Quiet", {"strength": 2.0})


def test_an_unknown_reward_is_refused(here: Path) -> None:
    config = study(here / "runs", {"arm": {"reward": {"use": "EnvRewar"}}})
    with pytest.raises(PluginError, match=r"arms\.arm\.reward: unknown reward 'EnvRewar' \(did you mean 'EnvReward'"):
        run_study(config, trainer=TRAINER, start_model=START_MODEL)


@pytest.mark.parametrize(
    ("worlds", "told"),
    [
        ({"stewart": {}}, "train.worlds: unknown world 'stewart' (did you mean 'steward'?)"),
        ({"steward": {"horizont": 3}}, "no option 'horizont'; did you mean 'horizon'?"),
        ({"steward": {"inquiry": float("inf")}}, "inf is not a finite number"),
        ({"steward": {"oversight": 1.5}}, "oversight"),
        ({"bad_input_plugins:Nan": {}}, "the reward is nan"),
        ({"bad_input_plugins:Raises": {}}, "inside the world"),
        ({"bad_input_plugins:Quiet": {}}, "not a subclass of envs.core.TextEnv"),
    ],
)
def test_a_world_that_cannot_be_used_is_told_why(here: Path, worlds: dict[str, Any], told: str) -> None:
    train = {"worlds": worlds, "updates": 1, "groups": 1, "group_size": 2}
    with pytest.raises(UserError) as raised:
        run_study(study(here / "runs", {"arm": ""}, train=train), trainer=TRAINER, start_model=START_MODEL)
    assert told in str(raised.value)
    assert not (here / "runs").exists()


def test_a_world_that_hangs_does_not_hang_the_study(here: Path) -> None:
    shape = {"updates": 1, "groups": 1, "group_size": 2, "step_timeout": 0.3}
    train = {"worlds": {"bad_input_plugins:Hangs": {}}, **shape}
    with pytest.raises(PluginError, match=r"has not returned within 0.3 s \(train.step_timeout\): does it hang"):
        run_study(study(here, {"arm": ""}, train=train), trainer=TRAINER, start_model=START_MODEL)


def test_a_fault_in_one_cell_of_an_axis_is_found_before_anything_starts(here: Path) -> None:
    message = refused(here, [], axes={"train.worlds.steward.covert": ["on", "shut"]})
    assert message == (
        "train.worlds.steward: world 'steward', option 'covert': Input should be 'on' or 'off' (got 'shut')"
    )


def test_the_honest_path_of_older_configs_is_refused_with_the_share_to_write(here: Path) -> None:
    message = refused(here, [], axes={"train.worlds.steward.honest_path": ["open", "blocked"]})
    assert message == (
        "train.worlds.steward: world 'steward': honest_path is now honest_share: write honest_share: 1 for open, "
        "honest_share: 0.5 for what blocked came to"
    )


def test_an_unknown_arm_or_seed_is_refused(here: Path) -> None:
    config = study(here, {"unshaped": "", "action_mask": ""}, seeds=2)
    with pytest.raises(ConfigError, match="did you mean 'action_mask'"):
        select(config, ["action_musk"])
    with pytest.raises(ConfigError, match="no seed 7"):
        select(config, seeds=[7])


def test_a_model_directory_that_is_none_is_refused(here: Path) -> None:
    config = study(here, {"arm": ""}, model=str(here))
    with pytest.raises(ConfigError, match="not a Hugging Face model directory"):
        run_study(config, trainer=TRAINER)


def test_entry_points_are_found_by_name_and_their_faults_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from envs.worlds.steward import Steward

    points = [EntryPoint("mine", Steward), EntryPoint("broken", ImportError("no such thing"))]
    monkeypatch.setattr("launch.config.plugins.entry_points", lambda group: points if group == WORLD.group else [])
    assert isinstance(build_world("mine", {"size": 2}), Steward)
    with pytest.raises(PluginError, match=r"elsewhere:Thing.*does not load: ImportError: no such thing"):
        find_class("broken", WORLD)
    for kind in (INTERVENTION, REWARD):
        with pytest.raises(PluginError, match=f"unknown {kind.noun}"):
            find_class("mine", kind)


@pytest.mark.parametrize("kind", ["intervention", "reward", "world", "tracker"])
def test_a_class_of_the_started_program_is_refused(here: Path, kind: str) -> None:
    train = {"worlds": {"__main__:X" if kind == "world" else "steward": {}}, "updates": 1, "groups": 1, "group_size": 2}
    arm: dict[str, Any] = {"interventions": ["__main__:X"] if kind == "intervention" else []}
    arm |= {"reward": "__main__:X"} if kind == "reward" else {}
    config = study(here / "runs", {"arm": arm}, train=train, tracking=["__main__:X"] if kind == "tracker" else [])
    with pytest.raises(PluginError, match=r"__main__ is the program that was started, .* put the class into a module"):
        run_study(config, trainer=TRAINER, start_model=START_MODEL)
    assert not (here / "runs").exists()
