"""Behaviour cloning of personas: what they say becomes likelier, on any Hugging Face directory."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from shaping.finetuning.rows import Row as Answers
from shaping.finetuning.rows import read_rows
from shaping.learning.policy import Policy
from shaping.learning.samples.packing import pack
from shaping.organisms.config import OrganismConfig
from shaping.organisms.corpus.corpus import Script
from shaping.organisms.corpus.samples import to_sample
from shaping.organisms.corpus.warm_corpus import IGNORED, Fitting, Share, WarmStartError, fill, sequences
from shaping.organisms.held_out import bounded, held_out_loss
from shaping.organisms.organism import build
from shaping.organisms.pretrained import check
from shaping.organisms.warm_start import WarmStartConfig, scripts, warm_start, write_rows
from shaping.sampling.text.render import Renderer

TRAINING: dict[str, Any] = {
    "worlds": ("clerk",),
    "locales": ("dialect",),
    "episodes": 24,
    "held_out": 3,
    "steps": 12,
    "batch_size": 4,
    "lr": 1e-2,
    "seed": 3,
}


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with a tokenizer that knows the worlds' phrases, and random weights."""
    written = scripts(WarmStartConfig(model="", locales=("dialect",), worlds=("clerk",)), 60)
    texts = [text for script in written for turn in script.turns for text in turn]
    path = tmp_path_factory.mktemp("untrained") / "model"
    build(OrganismConfig(hidden=32, vocabulary=768, context=1024), texts).save(path)
    return path


def test_what_personas_say_becomes_likelier(untrained: Path, tmp_path: Path) -> None:
    config = WarmStartConfig(model=str(untrained), **TRAINING)
    told: list[str] = []
    made = warm_start(config, tmp_path / "out", told.append)
    assert made.loss_after < made.loss_before - 1
    weights = Policy.load(tmp_path / "out", dtype=torch.bfloat16).model.state_dict()
    saved = load_file(tmp_path / "out" / "model.safetensors")
    assert {tensor.dtype for tensor in saved.values()} == {torch.bfloat16}
    assert all(torch.equal(tensor, weights[name]) for name, tensor in saved.items())
    assert told[0].startswith("24 episodes, 0 of which") and told[-1].startswith("held-out loss before")
    assert check(tmp_path / "out").directory == tmp_path / "out"
    assert json.loads((tmp_path / "out" / "warm_start.json").read_text())["config"] == json.loads(
        config.model_dump_json()
    )
    # measured again without TRL, on completions of personas that neither has seen
    unseen = list(scripts(WarmStartConfig(model="", locales=("dialect",), worlds=("clerk",), seed=99), 3))
    before, after = (likelihood(path, unseen) for path in (untrained, tmp_path / "out"))
    assert after > before + 1


def likelihood(directory: Path, written: list[Any]) -> float:
    """Mean log-prob of what the personas say."""
    policy = Policy.load(directory)
    samples = [to_sample(script, Renderer(policy.tokenizer)) for script in written]
    (batch,) = pack(samples, sum(map(len, samples)))
    with torch.no_grad():
        logprobs, _ = policy.logprobs(batch)
    return float(logprobs[batch.weight >= 1].mean())


def test_an_adapter_is_merged_in_the_end(untrained: Path, tmp_path: Path) -> None:
    config = WarmStartConfig(model=str(untrained), lora_rank=4, **TRAINING | {"steps": 2})
    made = warm_start(config, tmp_path / "out")
    assert made.loss_after < made.loss_before
    saved = load_file(tmp_path / "out" / "model.safetensors")
    assert {tensor.dtype for tensor in saved.values()} == {torch.float32}  # bfloat16 would round the update away
    before = Policy.load(untrained, dtype=torch.bfloat16).model.state_dict()  # the base that was trained beside
    after = Policy.load(tmp_path / "out").model.state_dict()
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name].float(), after[name])}
    assert changed
    assert all("_proj" in name for name in changed)


def test_a_merge_below_bfloat16_is_saved_in_float32(untrained: Path, tmp_path: Path) -> None:
    """The base is in bfloat16; what the adapter has learned is smaller than its rounding."""
    settings = {**TRAINING, "steps": 2, "lr": 1e-5}
    warm_start(WarmStartConfig(model=str(untrained), lora_rank=4, dtype="bfloat16", **settings), tmp_path / "out")
    base = Policy.load(untrained, dtype=torch.bfloat16).model.state_dict()
    merged = Policy.load(tmp_path / "out").model.state_dict()
    assert (json.loads((tmp_path / "out" / "config.json").read_text()))["dtype"] == "float32"
    moved = {name: merged[name] for name in base if not torch.equal(merged[name], base[name].float())}
    kept = [(tensor.bfloat16() != base[name]).float().mean() for name, tensor in moved.items()]
    assert moved and float(torch.stack(kept).mean()) < 0.1, "a merge into bfloat16 would have changed next to nothing"


def test_the_loss_is_on_completions_and_their_ends_only(untrained: Path) -> None:
    renderer = Renderer(Policy.load(untrained).tokenizer)
    for script in scripts(WarmStartConfig(model="", locales=("dialect",), worlds=("clerk", "steward")), 5):
        (row,) = sequences(script, renderer)
        said = [label for label in row["labels"] if label != IGNORED]
        assert said == [i for _, text in script.turns for i in (*renderer.plain(text), renderer.eos)]
        assert all(label in (IGNORED, i) for label, i in zip(row["labels"], row["input_ids"], strict=True))
        assert row["input_ids"] == to_sample(script, renderer).tokens.tolist()


FORGETFUL = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] if loop.last or message['role'] != "
    "'assistant' else '...' }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def test_where_the_template_rewrites_earlier_turns_every_turn_is_a_sequence(untrained: Path) -> None:
    tokenizer = Policy.load(untrained).tokenizer
    tokenizer.chat_template = FORGETFUL
    renderer = Renderer(tokenizer)
    assert not renderer.stable
    script = next(iter(scripts(WarmStartConfig(model="", locales=("dialect",), worlds=("clerk",)), 1)))
    rows = list(sequences(script, renderer))
    assert len(rows) == len(script.turns)
    for row, (_, completion) in zip(rows, script.turns, strict=True):
        said = [label for label in row["labels"] if label != IGNORED]
        assert said == [*renderer.plain(completion), renderer.eos] == row["input_ids"][-len(said) :]


def test_a_mixture_of_personas_and_worlds() -> None:
    chosen = WarmStartConfig(
        model="", locales=("dialect",), personas={"honest": 3, "frugal": 1}, worlds=("steward", "nightwatch")
    )
    written = list(scripts(chosen, 40))
    assert {s.persona for s in written} == {"honest", "frugal"}
    assert {s.world for s in written} == {"steward", "nightwatch"}
    assert written == list(scripts(chosen, 40))


def test_episodes_that_do_not_fit_are_an_error_unless_they_may_be_left_out(untrained: Path, tmp_path: Path) -> None:
    long = {**TRAINING, "worlds": ("pact", "errand"), "episodes": 20, "steps": 1}
    with pytest.raises(WarmStartError, match=r"longer than 1024 tokens .* the model's context is 1024.*max_length"):
        warm_start(WarmStartConfig(model=str(untrained), **long), tmp_path / "out")
    with pytest.raises(WarmStartError, match=r"no episode of persona '\w+' fits into 16 tokens \(the shortest has"):
        warm_start(WarmStartConfig(model=str(untrained), max_length=16, **TRAINING), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_too_long_is_replaced_by_the_same_persona(untrained: Path, tmp_path: Path) -> None:
    long = {**TRAINING, "worlds": ("clerk", "errand"), "episodes": 40, "steps": 1, "max_length": 500}
    config = WarmStartConfig(model=str(untrained), personas={"honest": 3, "random": 1}, **long)
    made = warm_start(config, tmp_path / "out")
    assert made.sequences == 40 and 0 < made.left_out < 40
    asked = Counter(script.persona for script in scripts(config, 40))
    assert {name: share.episodes for name, share in made.mixture.personas.items()} == asked
    for share in made.mixture.personas.values():
        assert share.left_out == share.drawn_again + share.repeated
    assert sum(kept for _, kept in made.mixture.worlds.values()) == 40
    written = json.loads((tmp_path / "out" / "warm_start.json").read_text())
    assert written["mixture"]["personas"]["honest"]["episodes"] == asked["honest"]


def episode(persona: str, words: int) -> Script:
    return Script("clerk", persona, "none", "", (("go on .", "wait " * words),))


def test_the_mixture_stays_whatever_the_lengths(untrained: Path) -> None:
    """The complaint: of 120 episodes 104 were dropped, and the short dishonest ones stayed."""
    renderer = Renderer(Policy.load(untrained).tokenizer)
    first = [episode("honest", 200)] * 3 + [episode("honest", 5)] + [episode("overt_deny", 5)] * 4
    again = iter([episode("overt_deny", 2), episode("honest", 300), episode("honest", 7)])
    kept, mixture = fill(first, again, Fitting(renderer, 60))
    rows = [row for _, own in kept for row in own]
    assert len(rows) == 8 and all(len(row["input_ids"]) <= 60 for row in rows)
    assert mixture.personas == {"honest": Share(4, 3, 1, 2), "overt_deny": Share(4, 0, 0, 0)}
    assert mixture.worlds == {"clerk": (8, 8)}
    said = "\n".join(mixture.lines())
    assert "8 episodes, 3 of which were too long" in said
    assert "honest: 4 (50.0%), 3 replaced (2 by repeating others)" in said
    with pytest.raises(WarmStartError, match=r"no episode of persona 'honest' fits into 60 tokens .*max_length"):
        fill([episode("honest", 200), episode("overt_deny", 5)], iter(()), Fitting(renderer, 60))


def test_the_corpus_can_be_rows_of_a_supervised_stage(untrained: Path, tmp_path: Path) -> None:
    config = WarmStartConfig(model=str(untrained), max_length=400, **{**TRAINING, "episodes": 40})
    assert write_rows(config, tmp_path / "rows.jsonl") == 40
    rows = read_rows(tmp_path / "rows.jsonl")
    said = Counter((row.system, *((turn.observation, turn.answer) for turn in row.turns)) for row in rows)
    renderer = Renderer(Policy.load(untrained).tokenizer)
    fitting = Fitting(renderer, 400)
    asked = [script for script in scripts(config, 40) if fitting.rows(script)]
    assert 30 < len(asked) < 40
    assert not Counter((script.system, *script.turns) for script in asked) - said
    assert all(fitting.rows(Script("clerk", "", "none", row.system, _turns(row))) for row in rows)
    with pytest.raises(FileExistsError, match="choose another file"):
        write_rows(config, tmp_path / "rows.jsonl")


def _turns(row: Answers) -> tuple[tuple[str, str], ...]:
    return tuple((turn.observation, turn.answer) for turn in row.turns)


def test_the_held_out_loss_is_bounded(untrained: Path) -> None:
    rows = [{"input_ids": [1] * 10, "labels": [1] * 10}] * 5
    assert len(bounded(rows, 35)) == 3 and len(bounded(rows, 1)) == 1 and len(bounded(rows, 1000)) == 5


def test_the_held_out_loss_is_that_of_the_model_alone(untrained: Path) -> None:
    policy = Policy.load(untrained)
    written = scripts(WarmStartConfig(model="", locales=("dialect",), worlds=("clerk",)), 3)
    rows = [row for script in written for row in sequences(script, Renderer(policy.tokenizer))]
    losses = []
    with torch.no_grad():
        for row in rows:
            sample = torch.tensor(row["input_ids"])[None]
            logprobs = AutoModelForCausalLM.from_pretrained(untrained)(sample).logits[0].log_softmax(-1)
            losses += [-logprobs[n - 1, i] for n, i in enumerate(row["labels"]) if i != IGNORED]
    expected = float(torch.stack(losses).mean())
    assert held_out_loss(untrained, rows, torch.float32) == pytest.approx(expected, abs=1e-4)
    assert held_out_loss(untrained, rows, torch.bfloat16) == pytest.approx(expected, abs=5e-2)


def test_the_sizes_of_worlds_are_settings() -> None:
    small = WarmStartConfig(
        model="", locales=("dialect",), worlds=("clerk",), sizes={"clerk": [2, (2, 3)]}, personas={"honest": 1}
    )
    usual = WarmStartConfig(model="", locales=("dialect",), worlds=("clerk",), personas={"honest": 1})
    lengths = [
        sum(len(observation) + len(reply) for script in scripts(config, 30) for observation, reply in script.turns)
        for config in (small, usual)
    ]
    assert lengths[0] < lengths[1]
    assert any(len(script.turns) == 3 for script in scripts(small, 30))


def test_without_trl_the_extra_is_named(untrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trl", None)
    with pytest.raises(ImportError, match=r"shaping\[trl\]"):
        warm_start(WarmStartConfig(model=str(untrained), **TRAINING), tmp_path / "out")


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"personas": {"saint": 1}}, "unknown persona"),
        ({"personas": {"honest": -1}}, r"personas\.honest\s+Input should be greater than or equal to 0"),
        ({"personas": {"honest": 0}}, "at least one weight must be above zero"),
        ({"worlds": ("chess",)}, "no personas for worlds"),
        ({"step": 3}, "step"),
        ({"sizes": {"chess": [3]}}, r"no personas for worlds \['chess'\]"),
        ({"sizes": {"clerk": []}}, "at least 1 item"),
        ({"sizes": {"clerk": [0]}}, "greater than or equal to 1"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        WarmStartConfig(model="x", **settings)
