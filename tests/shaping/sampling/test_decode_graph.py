"""Recorded decoding steps give what other steps give. The recording itself needs a GPU (`make gpu-check`)."""

from __future__ import annotations

import asyncio
import logging

import pytest
import torch
from play_worlds import Counting
from torch import Tensor
from transformers import PreTrainedModel

from shaping.learning.policy import Policy
from shaping.sampling.embedded import decode_graph
from shaping.sampling.embedded.cache import SlotCache
from shaping.sampling.embedded.transformers_engine import TransformersEngine
from shaping.sampling.engine import Completion, SamplingParams, Session
from shaping.sampling.text.render import Renderer


class Replayed:
    """A recording that takes the step anew, as a graph would, with the memory that it was given at first."""

    made = 0

    def __init__(self, model: PreTrainedModel, cache: SlotCache, ids: Tensor, positions: Tensor) -> None:
        self._ids, self._positions = ids.clone(), positions.clone()
        self._step = lambda: decode_graph.step(model, cache, self._ids, self._positions)
        self._step()  # as the warm-up does: it must not harm what is cached
        Replayed.made += 1

    def __call__(self, ids: Tensor, positions: Tensor) -> Tensor:
        self._ids.copy_(ids)
        self._positions.copy_(positions)
        return self._step()


class Refused(Replayed):
    def __init__(self, *_: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")


def played(engine: TransformersEngine, renderer: Renderer) -> list[Completion]:
    """Two turns of five episodes, which begin and end at different times and leave gaps between the slots."""

    async def turns(number: int) -> list[Completion]:
        await asyncio.sleep(0.002 * number)
        session = Session(number, Counting())
        engine.open(session)
        prompt = renderer.open("", f"turn {number} / 4 . " * (1 + number))
        first = await engine.complete(session, prompt, SamplingParams(10 + 7 * number, 1.0, number))
        longer = [*prompt, *first.tokens.tolist(), 7, 8, 9]
        second = await engine.complete(session, longer, SamplingParams(30 - 5 * number, 1.0, 100 + number))
        engine.close(session)
        return [first, second]

    async def all_turns() -> list[list[Completion]]:
        return await asyncio.gather(*map(turns, range(5)))

    return [completion for pair in asyncio.run(all_turns()) for completion in pair]


@pytest.fixture
def engine(policy: Policy, renderer: Renderer, monkeypatch: pytest.MonkeyPatch) -> TransformersEngine:
    engine = TransformersEngine(policy.model, renderer, slots=6, context_length=400)
    monkeypatch.setattr(engine, "_ends", frozenset())
    return engine


def test_replayed_steps_sample_what_other_steps_do(
    engine: TransformersEngine, renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = played(engine, renderer)
    monkeypatch.setattr(decode_graph, "DecodeGraph", Replayed)
    monkeypatch.setattr(engine.graphs, "_possible", True)
    before = Replayed.made
    replayed = played(engine, renderer)
    assert Replayed.made > before
    for one, other in zip(plain, replayed, strict=True):
        assert one.tokens.tolist() == other.tokens.tolist()
        torch.testing.assert_close(torch.tensor(one.logprobs), torch.tensor(other.logprobs), atol=1e-5, rtol=0)


def test_new_weights_need_new_recordings(
    engine: TransformersEngine, renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode_graph, "DecodeGraph", Replayed)
    monkeypatch.setattr(engine.graphs, "_possible", True)
    played(engine, renderer)
    assert engine.graphs.recorded
    engine.set_version(1)
    assert not engine.graphs.recorded


def test_a_model_that_cannot_be_recorded_goes_on_without(
    engine: TransformersEngine,
    renderer: Renderer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    plain = played(engine, renderer)
    monkeypatch.setattr(decode_graph, "DecodeGraph", Refused)
    monkeypatch.setattr(engine.graphs, "_possible", True)
    with caplog.at_level(logging.WARNING):
        refused = played(engine, renderer)
    assert [c.tokens.tolist() for c in plain] == [c.tokens.tolist() for c in refused]
    assert sum("without CUDA graphs" in r.message for r in caplog.records) == 1
