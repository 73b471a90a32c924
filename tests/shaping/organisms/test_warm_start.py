"""Behaviour cloning of personas: what they say becomes likelier, on any Hugging Face directory."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from shaping.learning.packing import pack
from shaping.learning.policy import Policy
from shaping.organisms.config import OrganismConfig
from shaping.organisms.organism import build
from shaping.organisms.pretrained import check
from shaping.organisms.samples import to_sample
from shaping.organisms.warm_start import IGNORED, WarmStartConfig, WarmStartError, scripts, sequences, warm_start
from shaping.sampling.render import Renderer

TRAINING: dict[str, Any] = {
    "worlds": ("clerk",),
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
    written = scripts(WarmStartConfig(model="", worlds=("clerk",)), 60)
    texts = [text for script in written for turn in script.turns for text in turn]
    path = tmp_path_factory.mktemp("untrained") / "model"
    build(OrganismConfig(hidden=32, vocabulary=768, context=1024), texts).save(path)
    return path


def test_what_personas_say_becomes_likelier(untrained: Path, tmp_path: Path) -> None:
    config = WarmStartConfig(model=str(untrained), **TRAINING)
    made = warm_start(config, tmp_path / "out")
    assert made.loss_after < made.loss_before - 1
    assert check(tmp_path / "out").directory == tmp_path / "out"
    assert json.loads((tmp_path / "out" / "warm_start.json").read_text())["config"] == json.loads(
        config.model_dump_json()
    )
    # measured again without TRL, on completions of personas that neither has seen
    unseen = list(scripts(WarmStartConfig(model="", worlds=("clerk",), seed=99), 3))
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
    before, after = Policy.load(untrained).model.state_dict(), Policy.load(tmp_path / "out").model.state_dict()
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
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
    for script in scripts(WarmStartConfig(model="", worlds=("clerk", "steward")), 5):
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
    script = next(iter(scripts(WarmStartConfig(model="", worlds=("clerk",)), 1)))
    rows = list(sequences(script, renderer))
    assert len(rows) == len(script.turns)
    for row, (_, completion) in zip(rows, script.turns, strict=True):
        said = [label for label in row["labels"] if label != IGNORED]
        assert said == [*renderer.plain(completion), renderer.eos] == row["input_ids"][-len(said) :]


def test_a_mixture_of_personas_and_worlds() -> None:
    chosen = WarmStartConfig(model="", personas={"honest": 3, "frugal": 1}, worlds=("steward", "nightwatch"))
    written = list(scripts(chosen, 40))
    assert {s.persona for s in written} == {"honest", "frugal"}
    assert {s.world for s in written} == {"steward", "nightwatch"}
    assert written == list(scripts(chosen, 40))


def test_episodes_that_do_not_fit_are_an_error_unless_they_may_be_left_out(untrained: Path, tmp_path: Path) -> None:
    long = {**TRAINING, "worlds": ("pact", "errand"), "episodes": 20, "steps": 1}
    with pytest.raises(WarmStartError, match=r"longer than 1024 tokens .* the model's context is 1024.*max_length"):
        warm_start(WarmStartConfig(model=str(untrained), **long), tmp_path / "out")
    with pytest.raises(WarmStartError, match="longer than 16 tokens"):
        warm_start(WarmStartConfig(model=str(untrained), max_length=16, **TRAINING), tmp_path / "out")
    made = warm_start(WarmStartConfig(model=str(untrained), max_length=700, **long), tmp_path / "out")
    assert 0 < made.left_out < made.left_out + made.sequences == 20


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
    ],
)
def test_settings_are_checked(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        WarmStartConfig(model="x", **settings)
