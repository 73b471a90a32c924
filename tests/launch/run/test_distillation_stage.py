"""Context distillation as in arXiv:2112.00861: a stage of the KL alone, to the model as it was under the prompt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from launch.config.loading import parse_study
from launch.run.execute import execute
from launch.storage.rundir import RunDirectory
from shaping.hooks import InterventionError
from shaping.sampling.text.render import Renderer
from shaping.shapers import ContextDistillation

PROMPT = "wait here a little ."
SAID = [("job 1 .", "work 1 ."), ("job 2 .", "report 2 . all done .")]


def rows_of(model: Path, path: Path, data: Path, **fields: Any) -> list[dict[str, Any]]:
    stage = {"kind": "supervised", "weight": 0, "data": {"file": str(data)}, "batch_size": 2, "epochs": 3}
    document = {
        "name": "distilled",
        "seeds": 1,
        "model": str(model),
        "train": {"worlds": {"clerk": {"size": 2}}, "updates": 0, "groups": 1, "group_size": 2, "max_tokens": 8},
        "learner": {"lr": 1e-3},
        "eval": {"cells": ["train"], "episodes": 1, "watch": ["never"], "placebo": ["none"], "access_episodes": 0},
        "stages": [stage],
        "arms": {
            "arm": {
                "role": "reference",
                "interventions": [{"use": "ContextDistillation", "prompts": [PROMPT], "top": 5, **fields}],
            }
        },
    }
    (run,) = parse_study(document, "test").runs()
    execute(run, model, RunDirectory(path))
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def expected(directory: Path, teacher_of: Path) -> float:
    """Mean over the answers' tokens of KL(teacher under the prompt || student), five tokens and a bucket."""
    student, teacher = (AutoModelForCausalLM.from_pretrained(path) for path in (directory, teacher_of))
    renderer = Renderer(AutoTokenizer.from_pretrained(directory))
    terms = []
    for question, answer in SAID:
        reply = [*renderer.plain(answer), renderer.eos]
        both = []
        for system, model in ((PROMPT, teacher), ("", student)):
            head = renderer.open(system, question)
            with torch.no_grad():
                both.append(model(torch.tensor([head + reply])).logits[0, len(head) - 1 : -1].log_softmax(-1))
        told, said = both
        ids = told.topk(5).indices
        t, s = told.gather(1, ids), said.gather(1, ids)
        rest = [torch.log1p(-each.exp().sum(-1)) for each in (t, s)]
        terms.append((t.exp() * (t - s)).sum(-1) + rest[0].exp() * (rest[0] - rest[1]))
    return float(torch.cat(terms).mean())


def test_the_stage_learns_from_the_model_as_it_was_and_imitates_nothing(make_policy: Any, tmp_path: Path) -> None:
    model = tmp_path / "model"
    make_policy().save(model)
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join(json.dumps({"prompt": q, "answer": a}) for q, a in SAID))
    fixed, moving = (
        [row["auxiliary/distillation"] for row in rows_of(model, tmp_path / kind, data, teacher=kind)]
        for kind in ("start", "policy")
    )
    assert fixed[0] == moving[0] == pytest.approx(expected(model, model), rel=2e-3)
    assert fixed[1] != moving[1] and fixed[2] < fixed[1] < fixed[0]
    after = expected(tmp_path / "start" / "checkpoint", model)
    assert after < fixed[2] + 1e-3  # the third step is taken after the third loss
    silent = rows_of(model, tmp_path / "silent", data, teacher="start", coefficient=0.0)
    assert [row.get("loss") for row in silent] == [0.0] * 3
    saved, first = (AutoModelForCausalLM.from_pretrained(p) for p in (tmp_path / "silent" / "checkpoint", model))
    pairs = zip(saved.parameters(), first.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_teacher_that_is_nowhere_is_told(make_policy: Any) -> None:
    with pytest.raises(InterventionError, match="teacher `start` is the model that a run starts from"):
        ContextDistillation(teacher="start")._teacher_of(make_policy())
