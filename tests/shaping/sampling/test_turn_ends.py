"""A turn ends at every end that the model knows, and at the token that its template closes a reply with."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerBase

from envs.episode import Contexts
from shaping.learning.policy import Policy
from shaping.sampling.embedded.transformers_engine import TransformersEngine
from shaping.sampling.engine import Completion, SamplingParams, Session
from shaping.sampling.text.render import Renderer, TemplateError
from shaping.sampling.text.split import MarkerSplitter
from shaping.sampling.text.turn_ends import ends_of_directory
from shaping.sampling.transcript import Transcript

GEMMA = (
    "{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}"
    "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
LLAMA_2 = (
    "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }} {{ eos_token }}{% endif %}{% endfor %}"
)
BARE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"


@pytest.fixture
def tokenizer(make_policy: Callable[..., Policy]) -> PreTrainedTokenizerBase:
    """With tokens for Gemma's turns, in place of the organism's, and another eos token."""
    tokenizer = make_policy().tokenizer
    tokenizer.add_special_tokens({"additional_special_tokens": ["<start_of_turn>", "<end_of_turn>"]})
    return tokenizer


def test_gemma_closes_replies_with_a_token_that_is_not_the_tokenizers_eos(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = GEMMA
    renderer = Renderer(tokenizer)
    end = tokenizer.convert_tokens_to_ids("<end_of_turn>")
    assert renderer.eos == end and renderer.ends == {end, tokenizer.eos_token_id}
    assert renderer.extend("go on", finished=False) == [end, *renderer.extend("go on", finished=True)]
    assert renderer.text([*renderer.plain("work"), end]) == "work"


def test_a_blank_before_the_closing_token_is_left_out_once_a_reply_has_ended(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    tokenizer.chat_template = LLAMA_2
    renderer = Renderer(tokenizer)
    assert renderer.eos == tokenizer.eos_token_id
    assert renderer.eos not in renderer.extend("go on", finished=True)
    assert renderer.extend("go on", finished=False).count(renderer.eos) == 1


def test_a_template_that_closes_only_the_last_reply_has_an_end(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = BARE.replace("\n{% endfor", "{{ eos_token if loop.last }}\n{% endfor")
    assert Renderer(tokenizer).eos == tokenizer.eos_token_id


def test_a_template_without_an_end_of_turn_is_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = BARE
    with pytest.raises(TemplateError, match=r"has no end of turn: after a reply comes .*holds no special token"):
        Renderer(tokenizer)


def sampled(policy: Policy, renderer: Renderer, forced: list[int]) -> Completion:
    """A completion of a model that says the tokens of `forced`, and would go on after them."""
    engine = TransformersEngine(policy.model, renderer, slots=1)
    vocabulary, said = policy.model.config.vocab_size, iter([*forced, *[7] * 50])

    def forward(*_: object) -> torch.Tensor:
        logits = torch.full((1, vocabulary), -torch.inf)
        logits[0, next(said)] = 0.0
        return logits

    engine._forward = forward  # type: ignore[method-assign]
    session = Session(0, None)  # type: ignore[arg-type]
    engine.open(session)
    return asyncio.run(engine.complete(session, [5, 6], SamplingParams(max_tokens=20)))


def test_sampling_stops_at_every_end_of_the_generation_config_and_of_the_template(
    make_policy: Callable[..., Policy],
) -> None:
    policy = make_policy()
    renderer = Renderer(policy.tokenizer)
    policy.model.generation_config.eos_token_id = [11, 13]
    for end in (11, 13, renderer.eos):
        completion = sampled(policy, renderer, [8, 9, end])
        assert completion.finished and completion.tokens.tolist() == [8, 9, end]
    policy.model.generation_config.eos_token_id = 13
    completion = sampled(policy, renderer, [8, 11, 9])
    assert not completion.finished and len(completion.tokens) == 20


def test_a_reply_that_ends_otherwise_than_the_template_says_is_closed_by_the_template_too(renderer: Renderer) -> None:
    def after(last: int) -> list[int]:
        transcript = Transcript(renderer, MarkerSplitter(), Contexts(), "turn 1 .")
        tokens = np.array([*renderer.plain("wait"), last], np.int32)
        reply = Completion(tokens, np.zeros(len(tokens), np.float32), np.zeros(len(tokens), np.int32), True)
        start = len(transcript.tokens) + len(tokens)
        transcript.act("turn 1 .", reply, overt_shortcuts=(), rejected=0)
        transcript.settle(executed="wait", reward=0.0, events=())
        transcript.observe("turn 2 .")
        return transcript.tokens[start:]

    assert after(renderer.eos) == renderer.extend("turn 2 .", finished=True)
    assert after(11) == renderer.extend("turn 2 .", finished=False)


def test_the_ends_of_a_model_are_read_from_its_files(tmp_path: Path) -> None:
    assert ends_of_directory(tmp_path) == frozenset()
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": 2}))
    assert ends_of_directory(tmp_path) == {2}
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 106]}))
    assert ends_of_directory(tmp_path) == {1, 106}


def test_vllm_stops_at_all_of_them() -> None:
    pytest.importorskip("vllm")
    from shaping.sampling.vllm.start import vllm_request

    request = vllm_request(SamplingParams(), ends={106, 1})
    assert request.stop_token_ids == [1, 106] and request.ignore_eos
