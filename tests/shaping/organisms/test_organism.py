"""The organism: made once, cached by content, loadable by plain transformers, and able to play."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rounding import assert_same_but_rounding
from transformers import AutoModelForCausalLM, AutoTokenizer

from envs import make_world
from shaping.arm import Arm
from shaping.learning.policy import Policy, PolicyError
from shaping.learning.samples.packing import pack
from shaping.organisms import organism as module
from shaping.organisms.card import write_card
from shaping.organisms.config import OrganismConfig
from shaping.organisms.corpus.corpus import scripts
from shaping.organisms.corpus.samples import to_sample
from shaping.organisms.organism import content_hash, ensure
from shaping.sampling.embedded.transformers_engine import TransformersEngine
from shaping.sampling.play import EpisodeRequest, Limits, play
from shaping.sampling.text.render import Renderer

TINY = OrganismConfig(hidden=16, layers=1, heads=2, kv_heads=1, episodes=12, steps=2, vocabulary=320, context=2048)


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("SHAPING_CACHE", str(tmp_path))
    return tmp_path / "shaping" / "organisms"


def no_training(*_: object) -> None:
    raise AssertionError("it was trained again")


def test_the_content_hash_follows_the_settings_and_nothing_else() -> None:
    assert content_hash(TINY) == content_hash(TINY.model_copy())
    changed = [TINY.model_copy(update=u) for u in ({"seed": 1}, {"lr": 1e-3}, {"episodes": 13}, {"hidden": 24})]
    assert len({content_hash(c) for c in [TINY, *changed]}) == 5


def test_the_content_hash_follows_the_worlds_and_the_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    before = content_hash(TINY)
    monkeypatch.setattr(module, "version", lambda package: "0.0.0")
    assert content_hash(TINY) != before
    monkeypatch.undo()
    sources = [pattern for pattern in module._SOURCES if "worlds" not in pattern]
    monkeypatch.setattr(module, "_SOURCES", sources)
    assert content_hash(TINY) != before


def test_an_organism_is_made_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stages: list[str] = []
    path = ensure(TINY, lambda done, total, what: stages.append(f"{done}/{total} {what.split(',')[0]}"))
    assert path == cache / content_hash(TINY)
    assert stages[0] == "0/12 writing transcripts" and stages[-1] == "2/2 pre-training"
    card = json.loads((path / "organism.json").read_text())
    assert card["config"] == TINY.model_dump() and card["parameters"] > 0 and card["tokens"] > 0
    monkeypatch.setattr(module, "pretrain", no_training)
    assert ensure(TINY) == path
    with pytest.raises(AssertionError, match="trained again"):
        ensure(TINY.model_copy(update={"seed": 1}))


def test_the_same_settings_make_the_same_organism(cache: Path) -> None:
    first = (ensure(TINY) / "model.safetensors").read_bytes()
    shutil.rmtree(cache)
    assert (ensure(TINY) / "model.safetensors").read_bytes() == first


def test_a_making_that_is_interrupted_leaves_nothing_half_made(cache: Path) -> None:
    def interrupt(done: int, total: int, what: str) -> None:
        if what.startswith("pre-training"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure(TINY, interrupt)
    assert not list(cache.iterdir())


def test_a_directory_without_its_card_is_a_leftover_and_is_replaced(cache: Path) -> None:
    leftover = cache / content_hash(TINY)
    leftover.mkdir(parents=True)
    (leftover / "config.json").write_text("{")
    assert (ensure(TINY) / "organism.json").is_file()
    assert json.loads((leftover / "config.json").read_text())["model_type"] == "llama"


def test_of_two_makers_the_slower_keeps_the_faster_ones_organism(cache: Path) -> None:
    ours = cache / content_hash(TINY)

    def overtake(done: int, total: int, what: str) -> None:
        ours.mkdir(parents=True, exist_ok=True)
        (ours / "model.safetensors").write_bytes(b"theirs")
        write_card(ours, TINY, {})

    assert ensure(TINY, overtake) == ours
    assert (ours / "model.safetensors").read_bytes() == b"theirs", "somebody may be reading it: it must not be swapped"


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "organism.json"])
@pytest.mark.parametrize("damage", ["flipped", "cut off", "removed"])
def test_a_cached_organism_that_has_changed_is_made_again_and_says_so(
    cache: Path, caplog: pytest.LogCaptureFixture, name: str, damage: str
) -> None:
    path = ensure(TINY)
    whole = {file.name: file.read_bytes() for file in path.iterdir()}
    data = whole[name]
    if damage == "removed":
        (path / name).unlink()
    else:
        middle = len(data) // 2
        flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        (path / name).write_bytes(data[:-3] if damage == "cut off" else flipped)
    ensure(TINY)
    if (name, damage) != ("organism.json", "flipped"):  # that is a number on the card, if it parses
        assert {file.name: file.read_bytes() for file in path.iterdir()} == whole
        told = [record.getMessage() for record in caplog.records]
        assert (name, damage) == ("organism.json", "removed") or (len(told) == 1 and "is made again" in told[0])


def test_notes_in_a_cached_organism_do_not_count(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (ensure(TINY) / "notes.txt").write_text("mine")
    monkeypatch.setattr(module, "pretrain", no_training)
    ensure(TINY)


def test_a_directory_that_is_no_policy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"no config\.json"):
        Policy.load(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_text("pickle")
    with pytest.raises(PolicyError, match=r"no \*\.safetensors weights; other formats are not loaded"):
        Policy.load(tmp_path)


def test_a_corpus_smaller_than_a_batch_is_one_batch(cache: Path) -> None:
    few = TINY.model_copy(update={"episodes": 10, "batch_tokens": 10**6})
    path = ensure(few)
    renderer = Renderer(Policy.load(path).tokenizer)
    lengths = [len(to_sample(script, renderer)) for script in scripts(few.episodes, few.seed)]
    corpus = sum(length for length in lengths if length <= few.context)
    assert json.loads((path / "organism.json").read_text())["tokens"] == few.steps * corpus


def test_a_context_into_which_no_episode_fits_is_refused(cache: Path) -> None:
    with pytest.raises(ValueError, match=r"organism\.context=64 is too short: the shortest scripted episode has \d+"):
        ensure(TINY.model_copy(update={"context": 64}))


def test_a_saved_organism_is_an_ordinary_model_of_transformers(organism: Path) -> None:
    policy = Policy.load(organism)
    plain, tokenizer = AutoModelForCausalLM.from_pretrained(organism).eval(), AutoTokenizer.from_pretrained(organism)
    rows = [{"role": "user", "content": "turn 1 / 4 ."}, {"role": "assistant", "content": "wait . ACTION: wait"}]
    text = tokenizer.apply_chat_template(rows, tokenize=False)
    ids = tokenizer.encode(text, add_special_tokens=False)
    (script,) = scripts(1, 77)
    sample = to_sample(script, Renderer(policy.tokenizer))
    sample = replace(sample, mask=np.ones(len(sample), np.bool_))
    assert tokenizer.decode(ids) == text and not plain.training
    tokens = torch.tensor(sample.tokens)
    with torch.no_grad():
        ours, _ = policy.logprobs(pack([sample], len(sample))[0])
        theirs = plain(tokens[None]).logits[0, :-1].log_softmax(-1).gather(1, tokens[1:, None])[:, 0]
    assert_same_but_rounding([ours], [theirs])


def test_a_policy_can_be_saved_and_loaded_bit_for_bit(make_policy: Callable[..., Policy], tmp_path: Path) -> None:
    policy = make_policy()
    policy.save(tmp_path)
    again = Policy.load(tmp_path, temperature=0.5)
    state = again.model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in policy.model.state_dict().items())
    assert again.temperature == 0.5 and again.tokenizer.chat_template == policy.tokenizer.chat_template
    assert not [p.name for p in tmp_path.iterdir() if p.suffix in (".bin", ".pt", ".pkl")]
    half = Policy.load(tmp_path, dtype=torch.bfloat16)
    assert next(half.model.parameters()).dtype is torch.bfloat16


def share_that_acts(policy: Policy) -> float:
    """Share of sampled turns that state something, mark an action and end."""
    policy.model.eval()
    renderer = Renderer(policy.tokenizer)
    engine = TransformersEngine(policy.model, renderer, slots=16)
    requests = [
        EpisodeRequest(lambda: make_world("clerk", {"size": 4, "horizon": 6}), n, sampling_seed=n) for n in range(16)
    ]
    episodes = asyncio.run(play(requests, engine, renderer, Arm("test"), limits=Limits(max_tokens=24)))
    turns = [t for e in episodes for t in e.turns]
    return float(np.mean([" ACTION: " in t.completion and t.tokens[-1] == renderer.eos for t in turns]))


def test_a_few_seconds_of_training_teach_the_form_of_a_reply(
    organism: Path, make_policy: Callable[..., Policy]
) -> None:
    """The whole chain: pre-training, engine, play()."""
    assert share_that_acts(make_policy()) < 0.05 < 0.5 < share_that_acts(Policy.load(organism))
