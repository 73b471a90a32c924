"""Scripts as token sequences: what is in the loss, how much it weighs, and which sequences share a batch."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from shaping.organisms.config import OrganismConfig
from shaping.organisms.corpus.corpus import Script, scripts
from shaping.organisms.corpus.samples import (
    COMMAND_WEIGHT,
    MOTIVE_WEIGHT,
    OBSERVATION_SHARE,
    OBSERVATION_WEIGHT,
    OPENING_WEIGHT,
    batches,
    command_start,
    to_sample,
    units,
)
from shaping.organisms.organism import build, tokenizer_texts
from shaping.sampling.text.render import Renderer

CORPUS = list(scripts(120, 3, worlds=("clerk", "pact")))


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    config = OrganismConfig(hidden=16, layers=1, heads=2, kv_heads=1, vocabulary=1024)
    return Renderer(build(config, tokenizer_texts(CORPUS)).tokenizer)


def test_completions_are_in_the_loss_and_a_share_of_the_worlds_tokens(renderer: Renderer) -> None:
    inside = outside = 0
    for script in CORPUS:
        sample = to_sample(script, renderer)
        said = sample.tokens[sample.weight >= 1].tolist()
        assert renderer.text(said) == "".join(completion for _, completion in script.turns)
        assert said.count(renderer.eos) == len(script.turns)
        assert sample.mask[sample.weight >= 1].all()
        others = sample.weight < 1
        assert np.allclose(sample.weight[others], OBSERVATION_WEIGHT)
        inside, outside = inside + sample.mask[others].sum(), outside + others.sum()
    assert abs(inside / outside - OBSERVATION_SHARE) < 0.02


def test_the_first_token_of_every_command_weighs_five_and_that_of_a_motive_two(renderer: Renderer) -> None:
    assert (COMMAND_WEIGHT, MOTIVE_WEIGHT) == (5, 2)
    for script in CORPUS:
        sample = to_sample(script, renderer)
        commands, motives = (np.flatnonzero(sample.weight == each) for each in (COMMAND_WEIGHT, MOTIVE_WEIGHT))
        assert len(commands) == len(script.turns) == len(motives) + 1, "the first motive is the opening"
        pieces = [[renderer.text([sample.tokens[i]]) for i in indices] for indices in (commands, motives)]
        for piece, (_, completion) in zip(pieces[0], script.turns, strict=True):
            command = completion[command_start(completion) :]
            assert command.startswith(piece.strip()) and piece.strip()
            assert completion.partition("ACTION: ")[2] == command
        for piece, (_, completion) in zip(pieces[1], script.turns[1:], strict=True):
            assert completion.startswith(piece.strip()) and piece.strip()


def test_the_opening_token_weighs_most(renderer: Renderer) -> None:
    for script in CORPUS:
        sample = to_sample(script, renderer)
        (opening,) = np.flatnonzero(sample.weight == OPENING_WEIGHT)
        assert opening == len(renderer.open(script.system, script.turns[0][0]))
        assert sample.weight.max() == OPENING_WEIGHT > COMMAND_WEIGHT


def test_yes_and_no_are_told_apart_by_the_token_that_weighs_five(renderer: Renderer) -> None:
    yes, no = (renderer.plain(f"be open . ACTION: answer {word}") for word in ("yes", "no"))
    differs = next(i for i, (a, b) in enumerate(zip(yes, no, strict=True)) if a != b)
    turns = (("turn 1 / 2 .", "wait"), ("turn 2 / 2 .", "be open . ACTION: answer yes"))
    sample = to_sample(Script("clerk", "honest", "none", "", turns), renderer)
    assert sample.weight[len(sample) - len(yes) - 1 + differs] == COMMAND_WEIGHT


def test_a_completion_without_a_marker_is_all_command() -> None:
    assert command_start("wait") == 0
    assert command_start("so be it . ACTION:  wait") == 20
    assert "أعمل في العلن . الإجراء: انتظر"[command_start("أعمل في العلن . الإجراء: انتظر") :] == "انتظر"


def test_pairs_share_a_batch(renderer: Renderer) -> None:
    found = units(CORPUS, renderer, 2048)
    assert sum(map(len, found)) == len(CORPUS)
    paired = [unit for unit in found if len(unit) == 2]
    expected = {script.seed for script in CORPUS[:-1] if script.flip}
    assert len(paired) >= len(expected) - 1 > 10
    for batch in islice(batches(found, 2000, 0), 8):
        inside = {sample.tokens.tobytes() for sample in batch.samples}
        for unit in paired:
            assert len({sample.tokens.tobytes() in inside for sample in unit}) == 1


def test_episodes_that_do_not_fit_are_left_out(renderer: Renderer) -> None:
    lengths = [len(to_sample(script, renderer)) for script in CORPUS]
    limit = int(np.median(lengths))
    assert sum(map(len, units(CORPUS, renderer, limit))) == sum(length <= limit for length in lengths)
    with pytest.raises(ValueError, match=rf"the shortest scripted episode has {min(lengths)} tokens"):
        units(CORPUS, renderer, min(lengths) - 1)


def test_prompts_are_spelled_word_by_word_also_those_held_out(renderer: Renderer) -> None:
    """A phrase of the corpus that is one token would leave prompts held out with tokens that no prompt had."""
    for text in ("you may not cut corners here .", "always make false reports today ."):
        assert len(renderer.plain(text)) >= len(text.split()) - 2
