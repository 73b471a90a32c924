"""A world is anyone's code: it costs its own episode, and never the run, the night or the numbers.

Promised:

- The shortest world that there is trains and is evaluated, to its report. A cue of the evaluation reaches only worlds
  that declare it; an option that a config names and the world has not is refused before the start.
- A call of a world that is over its time limit has failed, whatever it returns later and whatever it catches. A class
  that does it again is told by name. Where nothing else stops a call, the process ends and says why: a rollout worker
  is replaced and its groups are played again, and a run in one process resumes from its last saved state.
- Whatever a world raises, `sys.exit()` included, and whatever it returns, costs its own episode, and is told with the
  world's class, the hook and the field.
- However much a world says, no token beyond the model's context is trained on, and no text is tokenised that cannot
  fit.
- Worlds may use asyncio, and clients that do.
- Rewards and monitors that hang end with a message that names them.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile_worlds import Asks, Leaves, Mute, Slips, Swallows, Talks, Unbending, UsesAsyncio
from small_organism import small_organism

from envs.episode import Context, Contexts, Episode, RolloutStatus
from envs.store import read_episodes
from launch.config.loading import parse_study
from launch.config.study import PluginSpec, RunConfig, StudyConfig
from launch.errors import UserError
from launch.preflight import check_plugins
from launch.report.build import build as build_report
from launch.run.execute import execute
from launch.storage.rundir import RunDirectory
from launch.study import run_study
from shaping.arm import Arm
from shaping.monitors.base import MonitorError
from shaping.sampling.play import EpisodeRequest, Limits, play
from shaping.sampling.scripted_engine import ScriptedEngine
from shaping.sampling.text.render import Renderer
from shaping.sampling.time_limit import time_limits

TINY = {"hidden": 32, "layers": 1, "heads": 2, "kv_heads": 1, "vocabulary": 400, "episodes": 12, "steps": 2}
SUPPORT = Path(__file__).parents[1] / "support"


def study(tmp_path: Path, worlds: dict[str, Any], evaluated: dict[str, Any] | None = None, **train: Any) -> StudyConfig:
    """A study of two runs of one update."""
    small = {"worlds": worlds, "updates": 1, "groups": 1, "group_size": 2, "max_tokens": 8}
    document = {
        "name": "hostile",
        "seeds": 1,
        "model": {"organism": TINY},
        "train": {**small, **train},
        "eval": {"worlds": evaluated or worlds, "episodes": 2, "access_episodes": 1, "best_of": 2},
        "arms": {"unshaped": {"role": "reference"}, "identity": {"role": "treatment", "interventions": ["Identity"]}},
        "output": str(tmp_path),
    }
    return parse_study(document, "test")


class Says:
    def act(self) -> str:
        return "ACTION: wait"


@pytest.fixture(scope="module")
def renderer(make_policy: Any) -> Renderer:
    return Renderer(make_policy().tokenizer)


def played(renderer: Renderer, *makes: Any, threads: int | None = None, **limits: Any) -> list[Episode]:
    """One episode of each world, and a good one after them."""
    engine = ScriptedEngine(lambda env: Says(), renderer)
    requests = [EpisodeRequest(make, seed) for seed, make in enumerate([*makes, Asks])]
    limited = Limits(**{"step_seconds": 0.2, **limits})
    episodes = asyncio.run(play(requests, engine, renderer, Arm("test"), limits=limited, env_threads=threads))
    assert episodes[-1].status is RolloutStatus.COMPLETED, "the good world's episode is none of the others' business"
    return episodes[:-1]


# Options --------------------------------------------------------------------------------------------------------------


def test_a_world_of_a_few_lines_is_trained_and_evaluated_to_its_report(tmp_path: Path) -> None:
    told = run_study(study(tmp_path, {"hostile_worlds:Plain": {}}))
    assert not told.failed and len(told.finished) == 2
    page = build_report(told.directory).read_text(encoding="utf-8")
    assert "plain" in page


def test_an_option_that_a_world_does_not_have_is_refused_before_the_start_with_those_it_has(tmp_path: Path) -> None:
    worlds = {"hostile_worlds:Catastrophic": {"watch": "always"}}
    with pytest.raises(UserError, match=r"no option 'watch'; its options are fuse, burns"):
        check_plugins(study(tmp_path, {"steward": {"size": 1}}, worlds).runs())


def test_every_cell_of_the_evaluation_plays_a_turn_before_the_start(tmp_path: Path) -> None:
    worlds = {"hostile_worlds:FailsUnwatched": {}}
    message = r"with watch=never: hostile_worlds:FailsUnwatched\.step\(\) raised LookupError: nobody there"
    with pytest.raises(UserError, match=message):
        check_plugins(study(tmp_path, {"steward": {"size": 1}}, worlds).runs())


# Time -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [None, 0, 2])
def test_a_call_over_its_limit_fails_though_the_world_swallows_the_interruption(
    renderer: Renderer, threads: int | None
) -> None:
    began = time.monotonic()
    (late,) = played(renderer, Swallows, threads=threads)
    assert late.status is RolloutStatus.ERROR_TIMEOUT and "hostile_worlds:Swallows" in late.error
    assert time.monotonic() - began < 5


def test_a_class_that_is_late_again_is_told_by_name(renderer: Renderer, capsys: pytest.CaptureFixture[str]) -> None:
    played(renderer, *[partial(Swallows)] * 3)
    told = [line for line in capsys.readouterr().err.splitlines() if "second time" in line]
    assert len(told) == 1 and "hostile_worlds:Swallows" in told[0]


def test_threads_of_late_calls_end_where_python_can_end_them(renderer: Renderer) -> None:
    class Later(Swallows):
        seconds = 30.0

    with time_limits(2) as limited:

        async def two() -> None:
            for _ in range(2):
                with pytest.raises(TimeoutError):
                    await limited(Later().more, 0.05, Later, "a call")

        asyncio.run(two())
        end = time.monotonic() + 10
        while limited.stuck() and time.monotonic() < end:
            time.sleep(0.02)
        assert not limited.stuck()


ENDS = """
import asyncio, sys, time
from pathlib import Path
sys.path[:0] = [{support!r}, {root!r}]
from hostile_worlds import Catastrophic, Unbending
from shaping.sampling.time_limit import time_limits

async def main():
    with time_limits({threads}) as limited:
        world = {world}
        world.reset(seed=0)
        await limited(lambda: world.step("x"), 0.3, type(world), "world 'w' (seed 7): step in turn 3")
        print("it came back")

try:
    asyncio.run(main())
except TimeoutError:
    print("late")
"""


def process(tmp_path: Path, world: str, threads: int | None) -> subprocess.CompletedProcess[str]:
    fuse = tmp_path / "fuse"
    fuse.touch()
    root = SUPPORT.parents[1]
    code = ENDS.format(support=str(SUPPORT), root=str(root), world=world.format(fuse=str(fuse)), threads=threads)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=root)


@pytest.mark.parametrize("threads", [None, 2])
def test_a_regular_expression_that_holds_the_interpreter_ends_the_process_and_names_the_world(
    tmp_path: Path, threads: int | None
) -> None:
    ended = process(tmp_path, "Catastrophic({fuse!r})", threads)
    assert ended.returncode != 0 and "it came back" not in ended.stdout
    assert "world 'w' (seed 7): step in turn 3" in ended.stderr and "run again to resume" in ended.stderr


def test_in_the_event_loop_the_timer_interrupts_a_regular_expression(tmp_path: Path) -> None:
    assert process(tmp_path, "Catastrophic({fuse!r})", 0).stdout == "late\n"


def test_a_call_in_the_event_loop_that_catches_everything_ends_the_process_and_names_the_world(tmp_path: Path) -> None:
    ended = process(tmp_path, "Unbending()", 0)
    assert ended.returncode == 75 and "world 'w' (seed 7): step in turn 3" in ended.stderr


def test_in_a_thread_such_a_call_is_left_behind(renderer: Renderer) -> None:
    (late,) = played(renderer, Unbending)
    assert late.status is RolloutStatus.ERROR_TIMEOUT


@pytest.mark.parametrize(
    ("hook", "code"),
    [
        ("its constructor", "def __init__(self): time.sleep(60)"),
        ("reset", "def reset(self, **keywords): time.sleep(60)"),
        ("step", "def step(self, action): time.sleep(60)"),
        ("close", "def close(self): time.sleep(60)"),
    ],
)
def test_before_the_start_every_hook_has_the_limit_that_it_has_in_play(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hook: str, code: str
) -> None:
    name = f"hangs_in_{hook.replace(' ', '_')}"
    text = f"import time\nfrom hostile_worlds import Asks\n\nclass Hangs(Asks):\n    {code}\n"
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    config = study(tmp_path, {f"{name}:Hangs": {}}, step_timeout=0.3)
    began = time.monotonic()
    with pytest.raises(UserError, match=rf"{hook}.* within 0\.3 s"):
        check_plugins(config.runs())
    assert time.monotonic() - began < 10


# Exceptions and answers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [None, 0, 2])
@pytest.mark.parametrize("raised", ["SystemExit", "CancelledError", "Odd"])
def test_what_is_no_exception_costs_the_episode_and_is_told_with_class_and_hook(
    renderer: Renderer, raised: str, threads: int | None
) -> None:
    for episode, hook in zip(
        played(renderer, partial(Leaves, raised), partial(Leaves, raised, "reset"), threads=threads),
        ("step in turn 0", "reset"),
        strict=True,
    ):
        assert episode.status is RolloutStatus.ERROR
        assert all(part in episode.error for part in ("hostile_worlds:Leaves", f"raised in {hook}: {raised}"))


def test_a_module_that_exits_when_it_is_imported_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "leaves_at_once.py").write_text("import sys\nsys.exit(0)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match="'leaves_at_once' does not import: SystemExit"):
        check_plugins(study(tmp_path, {"leaves_at_once:World": {}}).runs())


SLIPS = {
    "events": (None, "info['events']"),
    "overt_shortcuts": (None, "info['overt_shortcuts']"),
    "executed": (None, "info['executed']"),
    "labels": ({}, "info['labels']"),
    "terminated": (np.array([True, False]), "terminated is a ndarray"),
    "truncated": ("no", "truncated is a str"),
    "reward": (10**400, "the reward is a whole number of about 400 digits"),
    "observation": (7, "the observation is a int"),
    "info": (None, "info must be a mapping"),
    "raises": (Mute(), "raised in step in turn 0: Mute"),
}


@pytest.mark.parametrize("part", SLIPS)
def test_a_slip_of_the_contract_costs_the_episode_and_names_class_and_field(renderer: Renderer, part: str) -> None:
    value, message = SLIPS[part]
    (episode,) = played(renderer, partial(Slips, part, value))
    assert episode.status is RolloutStatus.ERROR
    assert message in episode.error and "hostile_worlds:Slips" in episode.error


@pytest.mark.parametrize("reward", [float("nan"), float("-inf"), "1", None, 1j])
def test_a_reward_is_one_finite_number(renderer: Renderer, reward: Any) -> None:
    (episode,) = played(renderer, partial(Slips, "reward", reward))
    assert episode.status is RolloutStatus.ERROR and "the reward is" in episode.error


def test_a_world_may_use_asyncio_in_its_steps(renderer: Renderer) -> None:
    (episode,) = played(renderer, UsesAsyncio)
    assert episode.status is RolloutStatus.COMPLETED and episode.turns[0].events[0].text == "page"


# Length ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 1, 3])
@pytest.mark.parametrize(("text", "times"), [("a", 2_000), ("العمل ", 300), ("a", 1_000_000)])
def test_what_does_not_fit_ends_the_episode_and_is_not_trained_on(
    renderer: Renderer, at: int, text: str, times: int
) -> None:
    began = time.monotonic()
    (episode,) = played(renderer, partial(Talks, text, times, at), context=256, step_seconds=10.0)
    assert episode.status is RolloutStatus.TRUNCATED_PROMPT_TOO_LONG
    assert len(episode.turns) == at and len(episode.tokens) <= 256
    assert time.monotonic() - began < 2


def test_a_longer_training_context_leaves_less_room(renderer: Renderer) -> None:
    contexts = Contexts(Context("be kind ."), Context("take full control . " * 8))
    engine = ScriptedEngine(lambda env: Says(), renderer)
    request = EpisodeRequest(partial(Talks, "more . ", 2), 0, contexts=contexts)
    (episode,) = asyncio.run(play([request], engine, renderer, Arm("test"), limits=Limits(context=200)))
    longer = renderer.open(contexts.training.system, episode.turns[0].observation)
    assert episode.status is RolloutStatus.TRUNCATED_PROMPT_TOO_LONG and len(episode.turns) > 1
    assert len(longer) + len(episode.tokens) - episode.head <= 200


# Runs -----------------------------------------------------------------------------------------------------------------


def small_run(tmp_path: Path, **changes: Any) -> tuple[RunConfig, Path]:
    """A run of one update, and its start model."""
    document = study(tmp_path, {"hostile_worlds:Plain": {}}).model_dump(mode="json")
    for key, value in changes.items():
        section, _, field = key.partition("__")
        document[section] = document[section] | {field: value}
    return parse_study(document, "test").runs()[0], small_organism(tmp_path / "cache")


DISTURBED = """
import sys
from pathlib import Path
from launch.config.study import RunConfig
from launch.run.execute import execute
from launch.storage.rundir import RunDirectory

folder, fuse = Path(sys.argv[1]), Path(sys.argv[2])
run = RunConfig.model_validate_json((folder / "run.json").read_text())
execute(run, Path(sys.argv[3]), RunDirectory(folder / "run"), lambda update, row: update == 0 and fuse.touch())
"""


def test_a_run_that_a_world_has_ended_says_which_and_resumes_to_the_same_numbers(tmp_path: Path) -> None:
    """In one process, a call that holds the interpreter cannot be stopped: the run ends."""
    fuse = tmp_path / "fuse"
    worlds = {"hostile_worlds:Catastrophic": {"fuse": str(fuse)}}
    run, model = small_run(
        tmp_path,
        train__worlds=worlds,
        train__updates=2,
        train__step_timeout=0.5,
        train__checkpoint_every=1,
    )
    (tmp_path / "run.json").write_text(run.model_dump_json())
    paths = os.pathsep.join([str(SUPPORT), str(SUPPORT.parents[1])])

    command = [sys.executable, "-c", DISTURBED, str(tmp_path), str(fuse), str(model)]
    environment = {**os.environ, "PYTHONPATH": paths}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert ended.returncode != 0 and not fuse.exists()
    assert "world 'catastrophic' (hostile_worlds:Catastrophic, seed" in ended.stderr and "resume" in ended.stderr
    for name in ("run", "undisturbed"):
        execute(run, model, RunDirectory(tmp_path / name))
    metrics = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("run", "undisturbed")]
    assert metrics[0] == metrics[1] and metrics[0].count(b"\n") == 2


def test_one_long_episode_never_ends_a_run(tmp_path: Path) -> None:
    worlds = {"hostile_worlds:Talks": {"text": "word ", "times": 4}}
    run, model = small_run(tmp_path, train__worlds=worlds, learner__token_budget=100)
    execute(run, model, RunDirectory(tmp_path / "run"))
    (episodes,) = (tmp_path / "run" / "episodes").glob("train-*.parquet")
    found = read_episodes(episodes)
    assert {e.status for e in found} == {RolloutStatus.TRUNCATED_PROMPT_TOO_LONG}
    assert all(len(e.turns) > 1 and len(e.tokens) <= 100 for e in found)


def test_a_reward_that_hangs_ends_the_run_by_name(tmp_path: Path) -> None:
    run, model = small_run(tmp_path, train__reward_timeout=0.5)
    hangs = run.arm_config.model_copy(update={"reward": PluginSpec(use="hostile_plugins:Hangs")})
    began = time.monotonic()
    with pytest.raises(UserError, match=r"reward Hangs, group 0 .*no answer within 0\.5 s \(train\.reward_timeout\)"):
        execute(run.model_copy(update={"arm_config": hangs}), model, RunDirectory(tmp_path / "run"))
    assert time.monotonic() - began < 20


def test_a_monitor_that_hangs_is_off_for_training_and_named_at_the_evaluation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monitors = [{"use": "hostile_plugins:Sleeps"}]
    run, model = small_run(tmp_path, eval__monitor_timeout=0.5, eval__monitors=monitors)
    with pytest.raises(MonitorError, match=r"'sleeps' has not read its episodes within 0\.5 s"):
        execute(run, model, RunDirectory(tmp_path / "run"))
    assert (tmp_path / "run" / "metrics.jsonl").read_text().count("\n") == 1, "the row was not held up"
    assert "monitor 'sleeps' failed" in capsys.readouterr().err
