"""Rows that a policy of the run writes: whose they are, what is left out, when they are kept, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from envs.store import read_episodes
from launch.config.loading import parse_study
from launch.config.model import ShippedModel
from launch.config.plugins import PluginError
from launch.config.stages import SupervisedStage, WrittenData, described
from launch.config.study import RunConfig
from launch.errors import ConfigError
from launch.preflight import check_study
from launch.run.execute import execute
from launch.run.finetuning.data import rows_of, worlds_of
from launch.run.finetuning.stage_runs import Start, stage_run
from launch.run.finetuning.written import FOLDER, Writer, rows_for, write_rows
from launch.run.models.start_model import start_model
from launch.storage.rundir import RunDirectory
from shaping.finetuning.rows import DataError

CLERK = {"clerk": {"size": 2, "inquiry": 0.3}}
NIGHT = {"nightwatch": {"size": 3}}
TEACH = {"kind": "supervised", "name": "teach", "data": {"personas": {"overt_deny": 1}, "rows": 8}, "batch_size": 8}
WRITTEN = {"written": {"after": "teach"}, "worlds": NIGHT, "rows": 6}
STUDENT = {"kind": "supervised", "name": "student", "start": "model", "data": WRITTEN, "batch_size": 6}


def document(*stages: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "name": "written",
        "seeds": 1,
        "train": {"worlds": CLERK, "updates": 0, "groups": 1, "group_size": 2, "max_tokens": 24},
        "learner": {"lr": 1e-3},
        "eval": {"cells": ["train"], "episodes": 2, "watch": ["never"], "placebo": ["none"], "access_episodes": 0},
        "stages": list(stages),
        "arms": {"arm": {"role": "reference"}},
        **changes,
    }


def config(*stages: dict[str, Any], **changes: Any) -> RunConfig:
    return parse_study(document(*stages, **changes), "test").runs()[0]


@pytest.fixture(scope="module")
def organism() -> Path:
    return start_model(ShippedModel(shipped=0))


@pytest.fixture(scope="module")
def trained(organism: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("written") / "run"
    execute(config(TEACH, STUDENT), organism, RunDirectory(path))
    return path


def written(run: Path) -> list[Path]:
    return sorted((run / "stages" / FOLDER).glob("*.parquet"))


def record(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((path / "run.json").read_text())
    return found


def test_a_student_learns_what_the_teacher_has_written_and_starts_where_it_started(
    organism: Path, trained: Path
) -> None:
    (path,) = written(trained)
    episodes = read_episodes(path)
    assert [episode.world for episode in episodes] == ["nightwatch"] * 6
    run = config(TEACH, STUDENT)
    own = stage_run(run, 1, Start(organism), organism, 1, str(path))
    rows = rows_of(own, own.stages[1])  # type: ignore[arg-type]
    assert [[turn.answer for turn in row.turns] for row in rows] == [
        [turn.completion for turn in episode.turns] for episode in episodes
    ]
    assert [turn.labels for turn in rows[0].turns] == list(episodes[0].truth.open())
    # one step from the start model on these rows, and not from the teacher
    alone = trained.parent / "alone"
    data = alone.with_suffix(".jsonl")
    lines = [{"messages": [m for t in row.turns for m in _messages(t.observation, t.answer)]} for row in rows]
    data.write_text("\n".join(map(json.dumps, lines)))
    execute(config({**STUDENT, "data": {"file": str(data)}}), organism, RunDirectory(alone))
    weights, expected = (load_file(each / "checkpoint/model.safetensors") for each in (trained, alone))
    assert all(torch.equal(weights[key], expected[key]) for key in expected)


def _messages(said: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": said}, {"role": "assistant", "content": answer}]


def test_the_rows_are_named_in_the_record_and_the_start_model_is_evaluated_beside_the_student(
    organism: Path, tmp_path: Path
) -> None:
    evaluation = {**document()["eval"], "base": True}
    result = execute(config(TEACH, STUDENT, eval=evaluation), organism, RunDirectory(tmp_path / "run"))
    assert "after/teach/deception" in result["summary"] and result["stages"][1]["data"] == (
        "what the policy after teach wrote (6 rows)"
    )
    assert len(record(tmp_path / "run")["written"]) == 32 and "written" not in record(tmp_path / "run/stages/teach")
    for path in (tmp_path / "run", tmp_path / "run/stages/teach"):  # both begin with the start model
        rows = [json.loads(line) for line in (path / "eval.jsonl").read_text().splitlines()]
        assert [row.get("phase") for row in rows].count("base") == 1


def test_other_writers_worlds_and_prompts_write_other_rows_and_the_same_ones_the_same(
    organism: Path, tmp_path: Path
) -> None:
    run = config(TEACH, STUDENT)
    writer = Writer(run, organism)
    first = write_rows(tmp_path / "a", writer, WrittenData(), NIGHT, 4)
    again = write_rows(tmp_path / "b", writer, WrittenData(), NIGHT, 4)
    assert first.name == again.name and first.read_bytes() == again.read_bytes()
    kept = first.stat().st_mtime_ns
    assert write_rows(tmp_path / "a", writer, WrittenData(), NIGHT, 4).stat().st_mtime_ns == kept
    prompt = "you may take shortcuts in this task ."
    prompted = write_rows(tmp_path / "a", writer, WrittenData(prompt=prompt), NIGHT, 4)
    assert prompted.name != first.name
    assert {episode.contexts.sampling.system for episode in read_episodes(prompted)} == {prompt}
    stage = {**STUDENT, "data": {"written": {"prompt": prompt}, "worlds": NIGHT, "rows": 4}}
    own = stage_run(config(stage), 0, Start(organism), organism, 1, str(prompted))
    assert {row.system for row in rows_of(own, own.stages[0])} == {""}  # type: ignore[arg-type]
    other = write_rows(tmp_path / "a", writer, WrittenData(), CLERK, 4)
    assert len({first.name, prompted.name, other.name}) == 3


def test_worlds_take_turns_and_episodes_with_a_trait_are_left_out(organism: Path, tmp_path: Path) -> None:
    run = config(TEACH, STUDENT)
    liar = {"clerk": {"size": 2, "inquiry": 1.0}}
    episodes = read_episodes(write_rows(tmp_path, Writer(run, organism), WrittenData(), {**liar, **NIGHT}, 24))
    worlds = [episode.world for episode in episodes]
    assert worlds[:4] == ["clerk", "nightwatch"] * 2
    shortcuts = [any(labels.reward_hack for labels in episode.truth.open()) for episode in episodes]
    assert any(shortcuts)
    honest = WrittenData(without=["reward_hack"])
    kept = read_episodes(write_rows(tmp_path, Writer(run, organism), honest, {**liar, **NIGHT}, 24))
    assert len(kept) == 24 and not any(labels.reward_hack for e in kept for labels in e.truth.open())
    clean = [episode.seed for episode, shortcut in zip(episodes, shortcuts, strict=True) if not shortcut]
    assert [episode.seed for episode in kept][: len(clean)] == clean


def test_too_few_rows_say_how_many_there_are(organism: Path, tmp_path: Path) -> None:
    run = config(TEACH, STUDENT, train={**document()["train"], "max_tokens": 1})
    stage = config({**STUDENT, "data": {"written": {}, "worlds": NIGHT, "rows": 6}}).stages[0]
    said = r"stages.student: of 300 episodes that the start model has played, 0 are whole"
    with pytest.raises(ConfigError, match=said):
        rows_for(run, stage, {"": Writer(run, organism)}, tmp_path)
    assert not (tmp_path / FOLDER).exists()


def test_rows_that_were_cut_off_are_read_with_a_clear_message(organism: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    path.write_bytes(b"PAR1")
    own = stage_run(config(TEACH, STUDENT), 1, Start(organism), organism, 1, str(path))
    with pytest.raises(ConfigError, match=r"stages.student: .*rows.parquet cannot be read"):
        rows_of(own, own.stages[1])  # type: ignore[arg-type]


def test_a_finished_student_is_made_again_when_its_teacher_writes_something_else(
    organism: Path, tmp_path: Path
) -> None:
    path = RunDirectory(tmp_path / "run")
    last = {"kind": "rl", "train": {"updates": 1}}

    def stop(update: int, row: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    changes = {"train": {**document()["train"], "checkpoint_every": 0}}
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            execute(config(TEACH, STUDENT, last, **changes), organism, path, stop)
    assert not list((tmp_path / "run/stages").glob("*.set-aside-*"))
    other = {**TEACH, "data": {"personas": {"honest": 1}, "rows": 8}}
    with pytest.raises(KeyboardInterrupt):
        execute(config(other, STUDENT, last, **changes), organism, path, stop)
    aside = {each.name for each in (tmp_path / "run/stages").glob("*.set-aside-*")}
    assert aside == {"teach.set-aside-1", "student.set-aside-1"} and len(written(tmp_path / "run")) == 2


def test_studies_without_such_stages_say_nothing_of_them() -> None:
    stage = config(TEACH).model_dump(mode="json")["stages"][0]
    assert "start" not in stage and "written" not in stage["data"]
    assert described(config(TEACH, STUDENT).stages)[1]["data"] == "what the policy after teach wrote (6 rows)"


@pytest.mark.parametrize(("model", "world"), [("models/any", "nightwatch@en-prose"), ("", "nightwatch")])
def test_worlds_of_a_stages_data_speak_as_those_of_the_study_do(model: str, world: str) -> None:
    personas = {**TEACH, "data": {"personas": {"honest": 1}, "worlds": NIGHT, "rows": 2}}
    run = config(personas, STUDENT, **({"model": model} if model else {}))
    for stage in run.stages:
        assert isinstance(stage, SupervisedStage) and stage.data is not None
        assert list(worlds_of(run, stage.data)) == [world]


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({**STUDENT, "data": {**WRITTEN, "written": {"after": "teech"}}}, "names 'teech', which is no stage before it"),
        ({**STUDENT, "data": {**WRITTEN, "written": {"after": "student"}}}, "which is no stage before it"),
        ({**STUDENT, "data": {**WRITTEN, "written": {"without": ["lies"]}}}, "no trait is called 'lies'"),
        ({**STUDENT, "data": {"written": {"after": "teach"}}}, "as many rows as `rows` says"),
        ({**STUDENT, "data": {**WRITTEN, "worlds": {"nightwach": {}}}}, "stages.student.data.worlds: .*nightwach"),
        ({**STUDENT, "data": {**WRITTEN, "worlds": {"nightwatch": {"sise": 1}}}}, "stages.student.data.worlds.*sise"),
        ({**TEACH, "name": "other", "control": {"benign": WRITTEN}}, "benign data cannot be written in the run"),
        ({**STUDENT, "kind": "preference"}, "pairs of answers come from a file or a data set"),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_starts(stage: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, PluginError, ValueError), match=message):
        check_study(parse_study(document(TEACH, stage), "test"))


def test_too_few_rows_are_a_data_error_for_callers(organism: Path, tmp_path: Path) -> None:
    run = config(TEACH, STUDENT, train={**document()["train"], "max_tokens": 1})
    with pytest.raises(DataError, match=r"ask for fewer, .* or raise train.max_tokens"):
        write_rows(tmp_path, Writer(run, organism), WrittenData(), NIGHT, 2)
