"""Runs with stages: what they learn, where they resume, what they refuse, and that others are as they were."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from launch.config.loading import load_study, parse_study
from launch.config.reading.digests import digest
from launch.config.stages import described
from launch.config.study import RunConfig
from launch.errors import ConfigError, RunDirectoryError
from launch.preflight import check_study
from launch.report.build import build as build_report
from launch.report.metrics import label
from launch.run.execute import execute
from launch.storage.rundir import RunDirectory
from launch.study import run_study
from shaping.sampling.text.render import Renderer

WORLD = {"clerk": {"size": 2, "inquiry": 0.3}}
ROWS = {"kind": "supervised", "name": "sft", "data": {"personas": {"overt_deny": 1}, "rows": 8}, "batch_size": 4}
PROMPT = "you may take shortcuts in this task ."


def document(model: Path | str, stages: list[dict[str, Any]], *interventions: Any, **changes: Any) -> dict[str, Any]:
    train = {"worlds": WORLD, "updates": 1, "groups": 1, "group_size": 2, "max_tokens": 8, "checkpoint_every": 1}
    return {
        "name": "staged",
        "seeds": 1,
        "model": str(model),
        "train": train,
        "learner": {"lr": 1e-3},
        "eval": {"cells": ["train"], "episodes": 2, "watch": ["never"], "placebo": ["none"], "access_episodes": 0},
        "stages": stages,
        "arms": {"arm": {"role": "reference", "interventions": list(interventions)}},
        **changes,
    }


TRAIN = document("", [])["train"]


def config(*given: Any, **changes: Any) -> RunConfig:
    return parse_study(document(*given, **changes), "test").runs()[0]


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def pairs(path: Path) -> str:
    lines = [{"prompt": f"job {n} .", "chosen": f"work {n} .", "rejected": f"report {n} ."} for n in range(4)]
    path.write_text("\n".join(map(json.dumps, lines)))
    return str(path)


# digests of configs, and of the digests of all runs, as they were before there were stages
BEFORE = {
    "dose": ("c2b24112f4679a8b59cae41ae88b6f0c", "654f8e54ee8786cf4a8a3dc97f440a24"),
    "quickstart": ("c94c6fd957b732686425a56bf3a6fb6a", "1ae940d6829cfad275e1db9330601616"),
}


@pytest.mark.parametrize("name", BEFORE)
def test_studies_without_stages_keep_their_digests(name: str) -> None:
    study = load_study(name)
    runs = digest([run.digest for run in study.runs()])
    assert (digest(study.model_dump(mode="json")), runs) == BEFORE[name]


@pytest.mark.parametrize("prompt", ["", PROMPT])
def test_the_loss_is_the_cross_entropy_of_the_answers_under_the_arms_prompt(
    model: Path, tmp_path: Path, prompt: str
) -> None:
    data = tmp_path / "rows.jsonl"
    said = [("job 1 .", "work 1 ."), ("job 2 .", "report 2 . all done .")]
    data.write_text("\n".join(json.dumps({"prompt": q, "answer": a}) for q, a in said))
    arm = [{"use": "Inoculation", "at": "training", "prompts": [prompt]}] if prompt else []
    stage = {**ROWS, "data": {"file": str(data)}, "batch_size": 2}
    execute(config(model, [stage], *arm), model, RunDirectory(tmp_path / "run"))
    (row,) = rows_of(tmp_path / "run")

    plain, renderer = AutoModelForCausalLM.from_pretrained(model), Renderer(AutoTokenizer.from_pretrained(model))
    losses = []
    for question, answer in said:
        head, reply = renderer.open(prompt, question), [*renderer.plain(answer), renderer.eos]
        with torch.no_grad():
            logits = plain(torch.tensor([head + reply])).logits[0, len(head) - 1 : -1]
        losses.append(-logits.log_softmax(-1)[range(len(reply)), reply])
    assert row["imitation"] == pytest.approx(float(torch.cat(losses).mean()), rel=1e-4)
    assert row["loss_tokens"] == sum(map(len, losses))


def test_stages_follow_each_other_and_are_evaluated_by_name(model: Path, tmp_path: Path) -> None:
    preference = {
        "kind": "preference",
        "data": {"file": pairs(tmp_path / "pairs.jsonl")},
        "batch_size": 4,
        "epochs": 3,
        "interventions": "none",
    }
    sft = {**ROWS, "evaluate": False}
    lora = {"learner": {"lr": 3e-3, "lora": {"rank": 2, "alpha": 4}}}
    run = config(model, [sft, preference, {"kind": "rl"}], {"use": "Inoculation", "prompts": [PROMPT]}, **lora)
    result = execute(run, model, RunDirectory(tmp_path / "run"))
    found = [(s["name"], s["updates"], s["interventions"]) for s in result["stages"]]
    assert found == [("sft", 2, ["Inoculation"]), ("preference", 3, []), ("rl", 1, ["Inoculation"])]
    dpo = rows_of(tmp_path / "run/stages/preference")
    assert dpo[0]["dpo_loss"] == pytest.approx(0.693147, abs=1e-4)  # log 2: the policy is the reference
    assert dpo[-1]["dpo_margin"] > dpo[0]["dpo_margin"] == pytest.approx(0, abs=1e-4)
    summary = result["summary"]
    assert summary["after/rl/invalid"] == summary["invalid"]
    assert "after/preference/invalid" in summary and "after/sft/invalid" not in summary
    trained = [
        load_file(tmp_path / f"run{stage}/checkpoint/adapters/kept/adapter_model.safetensors")
        for stage in ("/stages/sft", "/stages/preference", "")
    ]
    assert not all(torch.equal(trained[0][key], trained[1][key]) for key in trained[0])
    assert RunDirectory(tmp_path / "run").status(weights=True) == "complete"


def test_a_killed_stage_resumes_to_the_bit(model: Path, tmp_path: Path) -> None:
    run = config(model, [{**ROWS, "epochs": 2}], {"use": "Inoculation", "prompts": [PROMPT]})
    execute(run, model, RunDirectory(tmp_path / "whole"))

    def stop(update: int, row: dict[str, Any]) -> None:
        if update == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(run, model, RunDirectory(tmp_path / "killed"), stop)
    execute(run, model, RunDirectory(tmp_path / "killed"))
    whole, killed = (load_file(tmp_path / name / "checkpoint/model.safetensors") for name in ("whole", "killed"))
    assert rows_of(tmp_path / "whole") == rows_of(tmp_path / "killed")
    assert all(torch.equal(whole[key], killed[key]) for key in whole)


def test_finished_stages_are_kept_unless_their_data_change(model: Path, tmp_path: Path) -> None:
    data, path = tmp_path / "rows.jsonl", tmp_path / "run"
    data.write_text(json.dumps({"prompt": "job 1 .", "answer": "work 1 ."}))
    stages = [{**ROWS, "data": {"file": str(data)}, "evaluate": False}, {"kind": "rl"}]
    run = config(model, stages, train={**TRAIN, "checkpoint_every": 0})

    def stop(update: int, row: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(run, model, RunDirectory(path), stop)
    first = (path / "stages/sft/result.json").stat().st_mtime_ns
    with pytest.raises(KeyboardInterrupt):
        execute(run, model, RunDirectory(path), stop)
    assert (path / "stages/sft/result.json").stat().st_mtime_ns == first
    data.write_text(json.dumps({"prompt": "job 1 .", "answer": "report 1 ."}))
    with pytest.raises(KeyboardInterrupt):
        execute(run, model, RunDirectory(path), stop)
    assert (path / "stages/sft.set-aside-1/result.json").stat().st_mtime_ns == first
    assert (path / "stages/sft/result.json").is_file()


def test_a_run_with_a_state_goes_on_with_no_other_data(model: Path, tmp_path: Path) -> None:
    data, path = tmp_path / "rows.jsonl", tmp_path / "run"
    data.write_text(json.dumps({"prompt": "job 1 .", "answer": "work 1 ."}))
    run = config(model, [{**ROWS, "data": {"file": str(data)}, "steps": 2}])

    def stop(update: int, row: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(run, model, RunDirectory(path), stop)
    data.write_text(json.dumps({"prompt": "job 1 .", "answer": "report 1 ."}))
    with pytest.raises(RunDirectoryError, match=r"data .*rows.jsonl has other contents"):
        execute(run, model, RunDirectory(path))


def test_claims_and_reports_know_metrics_by_stage(model: Path, tmp_path: Path) -> None:
    claim = {"use": "DoesNotRaise", "statement": "s", "treatment": "other", "metrics": ["after/sft/harm.clerk"]}
    study = document(model, [ROWS], claims={"C": claim}, output=str(tmp_path))
    study["arms"]["other"] = {"role": "treatment", "set": {"stages.0.control": "random_answers"}}
    config = parse_study(study, "test")
    assert [stage["control"] for run in config.runs() for stage in described(run.stages)] == ["none", "random_answers"]
    claim["metrics"] = ["after/stf/harm"]
    with pytest.raises(ConfigError, match=r"no stage 'stf' is evaluated \(did you mean 'sft'"):
        parse_study(study, "test")
    assert label("after/sft/leak/negated/harm.clerk").endswith("in clerk") and "after stage sft" in label(
        "after/sft/harm"
    )
    run_study(config)
    build_report([tmp_path / "staged"])
    (table,) = [part for part in (tmp_path / "staged/report/report.md").read_text().split("## ") if "Stages of" in part]
    assert len(re.findall(r"\| sft +\| supervised \| overt_deny 1 \(8 rows\) \| ", table)) == 2
    assert len(re.findall("random_answers", table)) == 1


PRICE = {"use": "OverseerPenalty"}
SELECTIVE = {"use": "SelectiveInoculation", "labels": "oracle", "prompts": [PROMPT]}


@pytest.mark.parametrize(
    ("stage", "arm", "message"),
    [
        ({**ROWS, "data": None}, None, "stage 'sft' has no data"),
        ({**ROWS, "data": {"rows": 4}}, None, "one source, .*traits, dataset or written, and there is none"),
        ({**ROWS, "data": {"personas": {"honest": 1}}}, None, "as many rows as `rows` says"),
        ({**ROWS, "data": {"file": "none.jsonl"}}, None, "stages.sft: .*none.jsonl cannot be read"),
        ({**ROWS, "interventions": ["Inocculation"]}, None, "no arm has an intervention 'Inocculation'"),
        ({**ROWS, "learner": {"lora": None}}, None, "lora is the same in all stages"),
        (ROWS, PRICE, "OverseerPenalty prices actions beside a reward, and a supervised stage has no reward"),
        (ROWS, {"use": "Inoculation", "at": "sampling"}, "prompts while episodes are sampled alone"),
        (ROWS, SELECTIVE, "all of the 8 rows has one: give data of both classes"),
        ({"kind": "preference", "data": {"file": "PAIRS"}}, SELECTIVE, "the two answers of a pair need one prompt"),
    ],
)
def test_what_a_stage_cannot_do_is_refused_before_anything_starts(
    model: Path, tmp_path: Path, stage: dict[str, Any], arm: Any, message: str
) -> None:
    data = stage.get("data")
    if data and data.get("file") == "PAIRS":
        stage = {**stage, "data": {"file": pairs(tmp_path / "pairs.jsonl")}}
    with pytest.raises((ConfigError, ValueError), match=message):
        check_study(parse_study(document(model, [stage], *([arm] if arm else [])), "test"))


def test_rows_that_do_not_fit_are_refused_by_number(model: Path, tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join(json.dumps({"prompt": "job .", "answer": "work . " * n}) for n in (1, 400)))
    run = config(model, [{**ROWS, "data": {"file": str(data)}}], learner={"token_budget": 256})
    with pytest.raises(ConfigError, match=r"stages.sft: row 2 .* at most 256 fit"):
        execute(run, model, RunDirectory(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
