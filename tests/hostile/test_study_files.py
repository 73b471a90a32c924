"""A study's directory may come from anybody: what is crafted there costs its own entry of the report, never the report.

Every file below a run may hold anything: wrong types, no numbers, text without end, a pipe, a link to a private file, a
few kilobytes that unpack to gigabytes; and its checksums may fit. The report is written, says which run and which file
it left out and why, and says of all others what it would have said without it.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crafted_studies import in_episodes, in_lines, in_record, in_result, replaced
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from synthetic_study import config, write_study

from envs.store import StoreError, read_episodes
from launch.report.build import build
from launch.report.files.episode_files import try_reading
from launch.report.files.load import StudyDirectoryError, load

Craft = Callable[[Path], None]
ARMS = {"unshaped": {"role": "reference"}, "inoculation": {"role": "treatment"}, "action_mask": {"role": "treatment"}}
CRAFTED = "action_mask"


def deep(levels: int) -> Any:
    return json.loads("[" * levels + "]" * levels)


def summary(value: Any) -> Craft:
    return in_result(lambda d: d["summary"].update(deception=value))


#: What is done to a run -> words of the note.
LOST: dict[str, tuple[Craft, str]] = {
    "a summary that is a list": (in_result(lambda d: d.update(summary=[1])), "result.json: summary"),
    "a number that is text": (summary("0.5"), "result.json: summary"),
    "a number that is a list": (summary([0.5]), "result.json: summary"),
    "a number that is none": (summary(float("nan")), "result.json cannot be read"),
    "a number without end": (summary(10**400), "result.json: summary"),
    "a name without end": (in_result(lambda d: d["summary"].update({"x" * 10_000: 1})), "result.json: summary"),
    "counts that are text": (in_result(lambda d: d["attrition"].update(failed="6")), "attrition.failed"),
    "counts below zero": (in_result(lambda d: d["attrition"].update(failed=-6)), "attrition.failed"),
    "attrition that is text": (in_result(lambda d: d.update(attrition="none")), "result.json: attrition"),
    "endings that are a list": (in_result(lambda d: d["attrition"].update(status=[1])), "attrition.status"),
    "a label that is a mapping": (in_result(lambda d: d.update(label={"a": 1})), "result.json: label"),
    "a label without end": (in_result(lambda d: d.update(label="x" * 1_000_000)), "result.json: label"),
    "a family that does not exist": (in_result(lambda d: d.update(family="royal")), "result.json: family"),
    "monitors that are a mapping": (in_result(lambda d: d.update(spent_monitors={"a": 1})), "spent_monitors"),
    "an oracle that says so": (in_result(lambda d: d.update(oracle="no")), "result.json: oracle"),
    "a seed that is text": (in_result(lambda d: d.update(seed="0")), "result.json: seed"),
    "a result of another arm": (in_result(lambda d: d.update(arm="unshaped")), "copied here"),
    "seals that are a list": (in_result(lambda d: d.update(files=[1])), "result.json: files"),
    "seals of files elsewhere": (in_result(lambda d: d["files"].update({"../../x": 1})), "outside of the run"),
    "a result nested 100 deep": (in_result(lambda d: d.update(more=deep(100))), "levels deep"),
    "a result nested 100,000 deep": (
        replaced("result.json", lambda p: p.write_text("[" * 100_000), fits=False),
        "result",
    ),
    "a result that is no text": (
        replaced("result.json", lambda p: p.write_bytes(b"\xff{}"), fits=False),
        "result.json",
    ),
    "a result that is a pipe": (replaced("result.json", os.mkfifo, fits=False), "result.json is a pipe"),
    "a record that is a pipe": (replaced("run.json", os.mkfifo, fits=False), "run.json is a pipe"),
    "a record without a config": (in_record(lambda d: d.update(config=[])), "run.json: config"),
    "a record with another role": (in_record(lambda d: d["config"]["arm_config"].update(role="reference")), "role"),
    "a point that is text": (in_record(lambda d: d["config"].update(sweep_point="x")), "run.json: config.sweep_point"),
    "versions that are a list": (in_record(lambda d: d.update(versions=[1])), "run.json: versions"),
    "a reward that is text": (in_lines("metrics.jsonl", lambda r: r[0].update(reward="1")), "metrics.jsonl line 1"),
    "a reward that is none": (
        in_lines("metrics.jsonl", lambda r: r[0].update(reward=float("nan"))),
        "line 1: 'reward'",
    ),
    "a rate without end": (
        in_lines("metrics.jsonl", lambda r: r[0].update({"rate/deception": 10**400})),
        "metrics.jsonl",
    ),
    "lines that are lists": (in_lines("metrics.jsonl", lambda r: r.append([1])), "metrics.jsonl line 2"),
    "metrics that are a pipe": (replaced("metrics.jsonl", os.mkfifo, fits=False), "metrics.jsonl is a pipe"),
    "metrics of a terabyte": (
        replaced("metrics.jsonl", lambda p: os.truncate(_touched(p), 1 << 40), fits=False),
        "bytes",
    ),
    "a condition without a world": (
        in_lines("eval.jsonl", lambda r: r[2].pop("world")),
        "eval.jsonl line 3 has no world",
    ),
    "a world that is a number": (in_lines("eval.jsonl", lambda r: r[2].update(world=3)), "eval.jsonl line 3"),
    "a harm that is text": (in_lines("eval.jsonl", lambda r: r[0].update({"rate/harm": "x"})), "eval.jsonl line 1"),
    "a link out of the study": (
        replaced("eval.jsonl", lambda p: p.symlink_to("/etc/passwd")),
        "leads out of the study",
    ),
}
#: What is done to a run's episodes -> words of the note at the transcripts. The run itself stays.
UNREAD: dict[str, tuple[Craft, str]] = {
    "a truth too short": (in_episodes(lambda r: r[0]["truth"].pop()), "6 turns and the truth of 5"),
    "no truth": (in_episodes(lambda r: r[0].update(truth=None)), "sealed"),
    "no text": (in_episodes(lambda r: r[0]["turns"][0].update(observation=None)), "turns.element.observation"),
    "labels of nothing": (in_episodes(lambda r: r[0]["truth"][0].update(harm=None)), "truth.element.harm"),
    "a reward that is none": (in_episodes(lambda r: r[0]["turns"][0].update(reward=float("nan"))), "measures nothing"),
    "a reward without end": (in_episodes(lambda r: r[0]["turns"][0].update(reward=float("inf"))), "measures nothing"),
    "an ending that does not exist": (in_episodes(lambda r: r[0].update(status="bliss")), "bliss"),
    "options that are a list": (in_episodes(lambda r: r[0].update(options="[1]")), "options"),
    "options nested deep": (in_episodes(lambda r: r[0].update(options="[" * 100_000)), "eval.parquet"),
    "tokens that repeat": (in_episodes(lambda r: r[0].update(tokens=np.zeros(17_000_000, np.int32))), "bytes"),
    "texts that repeat": (in_episodes(lambda r: _repeat(r[0], "x" * 1_000_000, 100)), "bytes in one episode"),
    "no Parquet": (replaced("episodes/eval.parquet", lambda p: p.write_bytes(b"PAR1" * 9)), "Parquet"),
}


def _touched(path: Path) -> Path:
    path.touch()
    return path


def _repeat(row: dict[str, Any], text: str, times: int) -> None:
    """Kilobytes on disk, a hundred megabytes in memory."""
    row.update(turns=[{**row["turns"][0], "observation": text}] * times, truth=[row["truth"][0]] * times)


def numbers(report: Path, *arms: str) -> list[list[str]]:
    with (report / "arms.csv").open(encoding="utf-8", newline="") as file:
        return [row for row in csv.reader(file) if row[0] in arms]


def notes(study: Path) -> dict[int, str]:
    return {missing.seed: missing.reason for missing in load(study).missing if missing.arm == CRAFTED}


def crafted(path: Path, crafts: list[Craft]) -> Path:
    """A study in which one arm's runs are crafted, one by one, and the others have two seeds."""
    seeds = len(crafts) + 1
    absent = [(arm, seed) for arm in ARMS if arm != CRAFTED for seed in range(2, seeds)]
    write_study(path, config(seeds=seeds, arms=ARMS), updates=1, absent=absent)
    for seed, craft in enumerate(crafts):
        craft(path / "runs" / CRAFTED / f"seed-{seed}")
    return path


def test_every_crafted_run_costs_itself_and_is_named_with_its_file(tmp_path: Path) -> None:
    study = crafted(tmp_path / "study", [craft for craft, _ in LOST.values()])
    report = build(study).parent
    found, page = notes(study), (report / "report.md").read_text(encoding="utf-8")
    for seed, (name, (_, words)) in enumerate(LOST.items()):
        assert words in found.get(seed, "no note"), f"{name}: {found.get(seed)}"
        assert f"{CRAFTED}, seed {seed}: " in page.replace("\\", "")
        assert "Error" not in found[seed], f"{name} is refused by accident: {found[seed]}"
    assert "root:" not in page  # of a private file
    whole = crafted(tmp_path / "whole", [lambda run: None] * 2)
    others = ("unshaped", "inoculation")
    assert numbers(report, *others) == numbers(build(whole).parent, *others)
    assert {row[5] for row in numbers(report, CRAFTED)} == {"1"}  # the seed that nobody touched


def test_episodes_that_cannot_be_believed_cost_their_transcripts(tmp_path: Path) -> None:
    study = crafted(tmp_path / "study", [craft for craft, _ in UNREAD.values()])
    report = build(study).parent
    page = (report / "report.md").read_text(encoding="utf-8").replace("\\", "")
    for seed, (name, (_, words)) in enumerate(UNREAD.items()):
        (note,) = [line for line in page.splitlines() if f"{CRAFTED}, seed {seed}: eval.parquet" in line]
        assert words in note, f"{name}: {note}"
    assert not load(study).missing or {missing.arm for missing in load(study).missing} == {"unshaped", "inoculation"}
    assert str(tmp_path) not in page


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"format": "shaping-study", "version": 1, "config": {"name": []}}', "name"),
        ('{"format": "shaping-study", "version": 1, "config": 7}', "configuration"),
        ('{"format": "shaping-study", "version": NaN}', "NaN is no number"),
        ("\ud800", "JSON"),
    ],
)
def test_a_study_record_of_wrong_types_is_one_message(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "study.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(StudyDirectoryError, match=words):
        load(tmp_path)


NUMBERS = (True, -1, 10**400, 1e308, float("nan"))
VALUES = st.sampled_from([None, *NUMBERS, "", "x" * 100_000, "\ud800\x1b[2J", [], {}, [[1]], {"a": {"b": 1}}, deep(80)])


def places(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something lies in a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, item in items for place in [(*here, key), *places(item, (*here, key))]]


def put(document: Any, place: tuple[Any, ...], value: Any) -> None:
    for key in place[:-1]:
        document = document[key]
    document[place[-1]] = value


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    study = crafted(tmp_path_factory.mktemp("whole") / "study", [lambda run: None] * 2)
    build(study)
    return study


@settings(
    max_examples=5,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)
@given(data=st.data())
def test_whatever_is_put_anywhere_the_report_is_written_and_others_stay(
    whole: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    study = tmp_path_factory.mktemp("crafted") / "study"
    shutil.copytree(whole, study, ignore=shutil.ignore_patterns("report"))
    runs = [study / "runs" / CRAFTED / f"seed-{seed}" for seed in range(3)]
    for run, name in zip(runs, ("result.json", "run.json", "eval.jsonl"), strict=True):
        changes = {"result.json": in_result, "run.json": in_record}.get(name, lambda c: in_lines("eval.jsonl", c))

        def change(document: Any) -> None:
            for _ in range(2):
                put(document, data.draw(st.sampled_from(places(document))), data.draw(VALUES))

        changes(change)(run)
    report = build(study).parent
    others = ("unshaped", "inoculation")
    assert numbers(report, *others) == numbers(whole / "report", *others)
    for missing in load(study).missing:
        assert "Error" not in missing.reason, missing.reason


@settings(max_examples=10, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(at=st.integers(0, 1 << 20), length=st.integers(1, 40), byte=st.integers(0, 255))
def test_no_damage_of_an_episode_file_ends_the_report(
    whole: Path, tmp_path_factory: pytest.TempPathFactory, at: int, length: int, byte: int
) -> None:
    path = tmp_path_factory.mktemp("episodes") / "eval.parquet"
    data = bytearray((whole / "runs" / CRAFTED / "seed-0" / "episodes" / "eval.parquet").read_bytes())
    at %= len(data)
    data[at : at + length] = bytes([byte]) * length
    path.write_bytes(data)
    if not try_reading([path])[path]:
        with contextlib.suppress(StoreError):  # nothing else is raised
            assert all(episode.turns for episode in read_episodes(path))
