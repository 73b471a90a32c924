"""The time of a study is said before it starts, from runs that were timed; what is like none of them is said, too."""

from __future__ import annotations

import json
from pathlib import Path

from launch.config.loading import bundled_studies, load_study
from launch.config.study import StudyConfig
from launch.estimate.estimate import duration, estimate, time_lines
from launch.estimate.measure import main
from launch.estimate.table import Seconds, Timed, read
from launch.storage.rundir import RunDirectory

STUDY = """
name: {name}
seeds: 2
train: {{worlds: {{steward: {{size: 4}}}}, updates: 10, groups: 2, group_size: 4}}
eval: {{worlds: {{steward: {{size: 4}}}}, episodes: 8}}
arms:
  unshaped: {{role: reference}}
  masked: {{role: treatment, interventions: [ActionMask]}}
"""


def timed(study: str, setting: str, **changes: object) -> Timed:
    given = {
        "worlds": ["steward"], "model": "organism", "runs": 3, "updates": 5, "episodes": 8, "evaluated": 8,
        "update_seconds": 2.0, "other_seconds": 4.0,
    }  # fmt: skip
    return Timed(study=study, setting=setting, **(given | changes))  # type: ignore[arg-type]


def loaded(tmp_path: Path, name: str = "mine", *overrides: str) -> StudyConfig:
    (tmp_path / f"{name}.yaml").write_text(STUDY.format(name=name))
    return load_study(tmp_path / f"{name}.yaml", [f"output={tmp_path}", *overrides])


def test_times_grow_with_updates_episodes_and_evaluation(tmp_path: Path) -> None:
    table = Seconds(machine="a machine", timed=(timed("mine", "unshaped"), timed("mine", "masked", update_seconds=3.0)))
    runs = loaded(tmp_path).runs()
    assert estimate(runs, table).seconds == (24, 34, 24, 34)  # 10 updates of 2 s or 3 s, and 4 s
    (line,) = time_lines(runs, 2, table)
    assert line == (
        "time: about 58 s for 4 runs of 24 to 34 s, 2 at a time, where each has a core to itself (timed on a machine)"
    )
    doubled = loaded(tmp_path, "mine", "train.groups=4", "eval.episodes=16").runs()
    assert estimate(doubled, table).seconds == (48, 68, 48, 68)
    assert "about 34 s" in time_lines(runs, 100, table)[0]  # never less than the longest run


def test_what_was_not_timed_is_like_others_of_its_worlds_or_unknown(tmp_path: Path) -> None:
    table = Seconds(
        timed=(timed("other", "a"), timed("other", "b", update_seconds=4.0), timed("x", "c", worlds=["clerk"]))
    )
    found = estimate(loaded(tmp_path).runs(), table)
    assert found.seconds == (34, 34, 34, 34) and found.alike == 4  # between 24 s and 44 s
    elsewhere = Seconds(timed=(timed("x", "c", worlds=["clerk"]), timed("y", "d", worlds=["clerk", "pact"])))
    assert estimate(loaded(tmp_path).runs(), elsewhere).seconds == (24, 24, 24, 24)  # of as many worlds, if of others
    large = loaded(tmp_path, "mine", "model={organism: {layers: 3, hidden: 192}}").runs()
    assert estimate(large, table).unknown == 4 and "not estimated" in time_lines(large, 2, table)[0]


def test_durations_read_as_one_says_them() -> None:
    assert [duration(s) for s in (42, 600, 7260, 3600)] == ["42 s", "10 min", "2 h 1 min", "1 h 0 min"]


def test_finished_runs_are_timed_without_what_they_waited_for(tmp_path: Path) -> None:
    for seed, run in enumerate(run for run in loaded(tmp_path).runs() if run.arm == "masked"):
        directory = RunDirectory(tmp_path / "mine" / "runs" / run.directory_name)
        directory.create(run.recorded, {})
        for update in range(10):
            directory.metrics({"update": update, "reward": 0.5})
            directory.timings({"phase": "train", "update": update, "seconds/play": 1.0, "seconds/learn": 1.0})
        directory.timings({"phase": "run", "first_update": 0, "seconds": 24.0, "seconds/cpu": 12.0})
        directory.evaluation([])
        directory.finish({"seed": seed})
    table = tmp_path / "seconds.json"
    assert main(["a machine", str(tmp_path / "mine"), "--table", str(table)]) == 0
    (found,) = read(table).timed
    assert (found.study, found.setting, found.runs, found.updates) == ("mine", "masked", 2, 10)
    assert (found.update_seconds, found.other_seconds) == (1.0, 2.0)  # half of 2 s and 4 s: it had half of a core
    assert json.loads(table.read_text())["machine"] == "a machine"


def test_the_steps_of_a_last_stage_on_rows_are_no_updates(tmp_path: Path) -> None:
    """Half of 24 s, which it had a core for, and of 6 s of the stage before: .5 * (24 + 6) s at 0 updates."""
    rows = "data: {personas: {honest: 1}, rows: 16}"
    stages = f"stages=[{{kind: supervised, name: a, {rows}}}, {{kind: supervised, name: b, {rows}}}]"
    run = loaded(tmp_path, "mine", stages, "train.updates=0").runs()[0]
    directory = RunDirectory(tmp_path / "mine" / "runs" / run.directory_name)
    directory.create(run.recorded, {})
    for step in range(10):
        directory.timings({"phase": "train", "update": step, "seconds/learn": 2.0})
    directory.timings({"phase": "run", "first_update": 0, "seconds": 24.0, "seconds/cpu": 12.0})
    before = directory.path / "stages" / "a" / "timings.jsonl"
    before.parent.mkdir(parents=True)
    before.write_text('{"phase": "run", "seconds": 6.0}\n')
    directory.evaluation([])
    directory.finish({})
    table = tmp_path / "seconds.json"
    assert main(["a machine", str(tmp_path / "mine"), "--table", str(table)]) == 0
    (found,) = read(table).timed
    assert (found.updates, found.update_seconds, found.other_seconds) == (0, 0.0, 15.0)


def test_bundled_studies_say_how_long_they_take() -> None:
    # not timed yet: organisms of their own, or of other sizes; a real model, whose times are those of a GPU
    untimed = {"smollm2_inoculation", "smollm2_conditionalization", "smollm2_selective"}
    untimed |= {"skins", "em_era", "em_era_today", "em_language", "hhh_distill", "inverse_scaling", "tax"}
    untimed |= {"random_answers", "preference_scaling"}
    unknown = {name for name in bundled_studies() if estimate(load_study(name).runs()).unknown}
    assert unknown <= untimed, "time a run of each: python -m launch.estimate.measure"
