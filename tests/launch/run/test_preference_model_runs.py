"""Runs that train a preference model: what they learn from, what they leave, and what they refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scripted_episodes import groups

from launch.config.loading import parse_study
from launch.config.study import RunConfig
from launch.errors import ConfigError
from launch.preference.stage import HELD_OUT_SEED, PreferenceModelStage
from launch.preflight import check_study, pressure_lines
from launch.report.build import build as build_report
from launch.run.evaluation.evaluate import evaluate as evaluate_policy
from launch.run.execute import execute
from launch.run.finetuning.preference_model import examples_of, held_out_of
from launch.run.memory import TooLargeError
from launch.run.models.preference_memory import check_preference_memory, preference_line
from launch.slices.write import write_study
from launch.storage.rundir import RunDirectory
from launch.study import run_study
from rewards import PreferenceModel
from rewards.base import scored
from rewards.preference.data import write_jsonl
from rewards.preference.model import read_card
from shaping.contract.groups import small_policy
from shaping.organisms.corpus.comparisons import Comparisons, comparisons

STAGE: dict[str, Any] = {
    "kind": "preference_model",
    "comparisons": {"pairs": 8, "worlds": ["clerk"], "turns": [3]},
    "held_out": 12,
    "training": {"steps": 2, "batch_size": 4, "micro_batch": 4},
}
BEFORE = {
    "data": {"comparisons": {"pairs": 4, "worlds": ["steward"], "turns": [2]}},
    "training": {"objective": "binary", "steps": 1},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model of 20,000 parameters, as a directory."""
    path = tmp_path_factory.mktemp("base") / "model"
    small_policy().save(path)
    return path


SHIPPED = {"organism": "shipped"}


def document(model: Any = SHIPPED, **stage: Any) -> dict[str, Any]:
    return {
        "name": "preferences",
        "seeds": 1,
        "model": str(model) if isinstance(model, Path) else model,
        "train": {"worlds": {"clerk": {}}, "updates": 0, "groups": 1, "group_size": 2},
        "eval": {"cells": ["train"], "episodes": 1, "access_episodes": 0, "monitors": []},
        "stages": [STAGE | stage],
        "arms": {"arm": {"role": "reference"}},
    }


def config(model: Any = SHIPPED, **stage: Any) -> RunConfig:
    return parse_study(document(model, **stage), "test").runs()[0]


def stage_of(**changes: Any) -> PreferenceModelStage:
    return PreferenceModelStage.model_validate(STAGE | changes)


def files_in(path: Path) -> dict[str, bytes]:
    found = (file for file in path.rglob("*") if file.is_file() and file.name != "timings.jsonl")
    return {str(file.relative_to(path)): file.read_bytes() for file in found}


def test_a_run_leaves_a_model_that_pays_and_all_that_readers_of_runs_want(tmp_path: Path, base: Path) -> None:
    seen: list[int] = []
    directory = RunDirectory(tmp_path / "run")
    result = execute(config(base, pretraining=BEFORE), base, directory, lambda number, row: seen.append(number))
    assert directory.status(weights=True) == "complete"
    phases = [(row["phase"], row["update"]) for row in directory.rows()]
    assert phases == [("preference_pretraining", 0), ("preference_model", 1), ("preference_model", 2)]
    assert seen == [0, 1, 2] and result["updates"] == 3
    card = read_card(directory.checkpoint)
    assert (card.objective, card.worlds, card.made["held_out"]["pairs"]) == ("ranked", ["clerk"], 12)
    members = [episode.redacted() for episode in groups("clerk")[0]]
    paid = scored(PreferenceModel(path=str(directory.checkpoint)), members)
    assert len({float(each[-1]) for each in paid}) > 1
    summary, model = result["summary"], result["preference_model"]
    assert summary["preference_accuracy"] == model["measured"]["accuracy"] == card.made["held_out"]["accuracy"]
    assert summary["preference_parameters"] == model["parameters"]
    assert summary["preference_brier"] == model["measured"]["calibration"]["brier"]
    assert (model["objective"], model["pretraining"], model["trained_on"]) == ("ranked", "binary", 8)
    assert directory.result()["role"] == "reference"  # type: ignore[index]


def test_runs_of_one_config_are_equal_and_a_killed_one_starts_over(tmp_path: Path, base: Path) -> None:
    run, first, second = config(base), RunDirectory(tmp_path / "first"), RunDirectory(tmp_path / "second")
    execute(run, base, first)

    def killed(number: int, row: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(run, base, second, killed)
    assert second.status() == "partial" and not second.checkpoint.exists()
    execute(run, base, second)
    assert files_in(tmp_path / "first") == files_in(tmp_path / "second")


def test_imitation_has_no_calibration_and_binary_models_have_that_of_labels(tmp_path: Path, base: Path) -> None:
    found = {}
    for objective in ("imitation", "binary"):
        run = config(base, training=STAGE["training"] | {"objective": objective})
        found[objective] = execute(run, base, RunDirectory(tmp_path / objective))["summary"]
    assert "preference_ece" not in found["imitation"] and "preference_accuracy" in found["imitation"]
    assert 0 <= found["binary"]["preference_label_accuracy"] <= 1 and "preference_ece" in found["binary"]


def test_replicates_have_their_own_examples_and_one_set_is_held_out() -> None:
    first, second = (examples_of(stage_of(), seed) for seed in (0, 1))
    held_out = held_out_of(stage_of(control="random_labels"))
    assert len(first) == len(second) == 8 and len(held_out) == 12
    assert not set(first.situations) & set(second.situations)
    assert not (set(first.situations) | set(second.situations)) & set(held_out.situations)
    assert held_out == held_out_of(stage_of(comparisons=STAGE["comparisons"] | {"pairs": 3, "flipped": 0.4}))
    assert all(pair.margin > 0 for pair in held_out.pairs)


def test_random_labels_turn_about_half_of_the_examples_and_nothing_else() -> None:
    stage = {"comparisons": STAGE["comparisons"] | {"pairs": 200}}
    true, random = examples_of(stage_of(**stage), 0), examples_of(stage_of(**stage, control="random_labels"), 0)
    turned = [mine.better == other.worse for mine, other in zip(true.pairs, random.pairs, strict=True)]
    assert true.situations == random.situations and 70 < sum(turned) < 130
    assert {p.better for p in true.pairs} | {p.worse for p in true.pairs} == {
        answer for p in random.pairs for answer in (p.better, p.worse)
    }


Change = Callable[[dict[str, Any]], Any]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d["stages"].append({"kind": "rl"}), "preference_model must be the only stage"),
        (lambda d: d["arms"]["arm"].update(interventions=["LiePenalty"]), "arms.arm.interventions: a preference_model"),
        (lambda d: d["arms"]["arm"].update(reward="RandomReward"), "arms.arm.reward: a preference_model"),
        (
            lambda d: d["stages"][0]["comparisons"].update(pairs=0),
            "stages.0.comparisons.pairs: Input should be greater",
        ),
        (lambda d: d["stages"][0]["comparisons"].update(worlds=["casino"]), "stages.0.comparisons.worlds: no personas"),
        (lambda d: d["stages"][0].update(held_out=0), "stages.0.held_out: Input should be greater"),
        (lambda d: d["stages"][0].update(objective="ranked"), "stages.0.objective: unknown key"),
        (
            lambda d: d["stages"][0].update(training={"objective": "imitation"}, pretraining=BEFORE),
            "pretraining: imitation cannot go on",
        ),
    ],
)
def test_what_no_preference_model_can_have_is_refused_with_its_place(change: Change, says: str) -> None:
    given = json.loads(json.dumps(document()))
    change(given)
    with pytest.raises(ConfigError) as refused:
        parse_study(given, "test")
    assert says in str(refused.value)


def test_seats_are_refused() -> None:
    given = document() | {"seats": {"players": {"a": {}, "b": {}}}}
    with pytest.raises(ConfigError, match="leave `seats` out"):
        parse_study(given, "test")


@pytest.mark.parametrize(
    ("stage", "says"),
    [
        (
            {"comparisons": {"worlds": ["steward"]}},
            r"train.worlds are clerk, and stages.0.comparisons.worlds are steward",
        ),
        (
            {"comparisons": {"worlds": ["clerk"], "seed": HELD_OUT_SEED}},
            r"comparisons.seed is 99999, with which replicate 0 would be trained on the comparisons that are held out",
        ),
        ({"pretraining": {"data": {"files": ["same.jsonl"]}}}, "both answers are the same"),
        ({"pretraining": {"data": {"files": ["gone.jsonl"]}}}, "gone.jsonl cannot be read"),
    ],
)
def test_what_cannot_be_learned_from_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: dict[str, Any], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("same.jsonl").write_text('{"prompt": "q", "better": "a", "worse": "a"}\n')
    with pytest.raises(ConfigError, match=says):
        check_study(parse_study(document(**stage), "test"))


def test_claims_name_points_by_their_doses_and_metrics_that_there_are() -> None:
    said = {"use": "Ordered", "statement": "It falls.", "treatment": "arm", "dose": "point", "relative": False}
    points = {name: {"set": {"stages.0.comparisons.pairs": pairs}} for name, pairs in (("a", 2), ("b", 4), ("c", 8))}

    def claimed(metric: str, **values: float) -> dict[str, Any]:
        return document() | {"points": points, "claims": {"S": said | {"metrics": [metric], "values": values}}}

    parse_study(claimed("preference_log_error", a=2, b=4, c=8), "test")
    for metric, values, says in [
        ("preference_log_error", {"a": 2, "b": 4, "d": 8}, "'d' is no value of the axis 'point'"),
        ("preference_log_error", {"a": 2, "b": 2, "c": 8}, "two names have the same dose"),
        ("preference_log_error", {"a": 2, "b": 4}, "3 different doses at least"),
        ("preference_log_eror", {"a": 2, "b": 4, "c": 8}, "did you mean 'preference_log_error'"),
    ]:
        with pytest.raises(ConfigError) as refused:
            parse_study(claimed(metric, **values), "test")
        assert says in str(refused.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"train": {"updates": 3}}, "train.updates is 3, and nobody plays"),
        ({"rollout": {"workers": 1}}, "rollout.workers: a preference_model is trained by the run's own process"),
        ({"train": {"learner_group": {"strategy": "data"}}}, "train.learner_group: a preference_model is trained"),
    ],
)
def test_settings_of_agents_alone_are_refused(change: dict[str, dict[str, Any]], says: str) -> None:
    given = document()
    for key, own in change.items():
        given[key] = given.get(key, {}) | own
    with pytest.raises(ConfigError, match=says):
        check_study(parse_study(given, "test"))


def test_controls_of_agents_are_refused() -> None:
    given = document() | {"controls": ["base"]}
    given["arms"] = given["arms"] | {"other": {"role": "treatment"}}
    with pytest.raises(ConfigError, match=r"controls: base is a control of agents: .*stages\.0\.control"):
        parse_study(given, "test")


def test_held_out_situations_in_a_file_of_the_stage_before_are_found(tmp_path: Path, base: Path) -> None:
    held_out = Comparisons(pairs=2, worlds=("clerk",), turns=(3,), seed=HELD_OUT_SEED)
    write_jsonl(tmp_path / "leak.jsonl", comparisons(held_out))
    before = {"data": {"files": [str(tmp_path / "leak.jsonl")]}}
    with pytest.raises(ConfigError, match=r"pretraining\.data holds 2 of the held-out situations"):
        execute(config(base, pretraining=before), base, RunDirectory(tmp_path / "run"))


def test_other_contents_of_a_file_are_noticed(tmp_path: Path, base: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    write_jsonl(path, comparisons(Comparisons(pairs=4, worlds=("steward",), turns=(2,))))
    before = {"data": {"files": [str(path)]}, "training": {"objective": "binary", "steps": 1}}
    directory = RunDirectory(tmp_path / "run")
    execute(config(base, pretraining=before), base, directory)
    assert set(directory.record()["data"]) == {str(path)}


def test_a_model_that_does_not_fit_is_named_with_the_remedy(base: Path) -> None:
    run = config(base)
    check_preference_memory([(run, base)], free=2**30)
    with pytest.raises(TooLargeError, match=r"^arm/seed-0: .*set stages.0.training.lora_rank, or choose a smaller"):
        check_preference_memory([(run, base)], free=2**16)
    adapted = config(base, training=STAGE["training"] | {"lora_rank": 1})
    assert preference_line(run, base).startswith("0.0") and preference_line(adapted, base)


def test_a_preference_model_is_never_played(tmp_path: Path, base: Path) -> None:
    run, directory = config(base), RunDirectory(tmp_path / "run")
    execute(run, base, directory)
    with pytest.raises(ConfigError, match="is a preference model, and no policy"):
        evaluate_policy(run, directory.checkpoint, directory, "cpu")
    assert pressure_lines([run]) == []


def test_a_study_of_them_is_run_reported_and_kept(tmp_path: Path, base: Path) -> None:
    given = document(base) | {
        "seeds": 2,
        "output": str(tmp_path),
        "arms": {
            "ranked": {"role": "reference", "label": "<b>ranked"},
            "binary": {"role": "treatment", "set": {"stages.0.training.objective": "binary"}},
        },
        "axes": {"stages.0.comparisons.pairs": [4, 8]},
    }
    study = parse_study(given, "test")
    done = run_study(study)
    assert len(done.finished) == 8 and not done.failed
    again = run_study(study)
    assert not again.finished and len(again.kept) == 8
    page = build_report(done.directory)
    text, html = (page.parent / "report.md").read_text(), page.read_text()
    assert "## Preference models" in text and "cannot be read" not in text
    assert "Error = factor x parameters^-a x examples^-b" in html and "<b>ranked" not in html
    assert write_study(done.directory).runs == 8
    kept = build_report(done.directory / "rows", tmp_path / "from-rows")
    assert "## Preference models" in (kept.parent / "report.md").read_text()
