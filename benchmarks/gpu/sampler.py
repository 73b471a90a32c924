"""Sampled tokens per second and peak memory of the embedded engine beside `generate`, and of drawing tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
import torch
from transformers import PreTrainedModel

from benchmarks.gpu.report import Part
from benchmarks.gpu.shapes import (
    QWEN3_4B,
    QWEN3_600M,
    SMOLLM2_135M,
    TINY,
    measured,
    model_of,
    release,
    tokenizer,
)
from benchmarks.table import Row
from shaping.sampling.embedded.draw import Drawing
from shaping.sampling.embedded.transformers_engine import TransformersEngine
from shaping.sampling.engine import SamplingParams, Session
from shaping.sampling.text.render import Renderer


def sampler(device: torch.device, quick: bool) -> Part:
    """The part `sampler`."""
    rows: list[Row] = []
    slots, prompt, reply = (4, 16, 8) if quick else (64, 512, 64)
    for shape in (TINY,) if quick else (SMOLLM2_135M, QWEN3_600M, QWEN3_4B):
        model = model_of(shape, device, torch.bfloat16)
        prompts = np.random.default_rng(0).integers(5, shape.settings["vocab_size"], (slots, prompt))
        theirs, their_peak = measured(_generate(model, prompts, reply), device, 2)
        release(device)
        seconds, peak = measured(_ours(model, prompts, reply), device, 2)
        work = slots * reply
        rows.append(Row(f"{shape.name}: generate", work / seconds, work / theirs, "tokens/s", theirs / seconds))
        first, _ = measured(_ours(model, prompts, 1), device, 2)
        their_first, _ = measured(_generate(model, prompts, 1), device, 2)
        read = prompts.size
        rows.append(
            Row(f"{shape.name}: prompts, generate", read / first, read / their_first, "tokens/s", their_first / first)
        )
        if device.type == "cuda":
            rows.append(Row(f"{shape.name}: memory, generate", peak, their_peak, "GiB", their_peak / peak))
        del model
        release(device)
    return Part("sampler", rows=[*rows, *(_drawn(n, device) for n in ((512,) if quick else (49152, 151936, 262144)))])


def _ours(model: PreTrainedModel, prompts: np.ndarray, reply: int) -> Callable[[], object]:
    renderer = Renderer(tokenizer())
    engine = TransformersEngine(model, renderer, slots=len(prompts), context_length=prompts.shape[1] + reply)
    engine._ends = frozenset()  # replies of equal length on both sides

    async def one(number: int) -> None:
        session = Session(number, None)  # type: ignore[arg-type]
        engine.open(session)
        await engine.complete(session, prompts[number].tolist(), SamplingParams(reply, 1.0, number))
        engine.close(session)

    async def all_sessions() -> None:
        await asyncio.gather(*map(one, range(len(prompts))))

    return lambda: asyncio.run(all_sessions())


def _generate(model: PreTrainedModel, prompts: np.ndarray, reply: int) -> Callable[[], object]:
    model.set_attn_implementation("sdpa")
    model.generation_config.eos_token_id = None
    ids = torch.from_numpy(prompts).to(model.device)
    sampling = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "pad_token_id": 0}
    return lambda: model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=reply, **sampling)


def _drawn(vocabulary: int, device: torch.device) -> Row:
    """Drawing 64 tokens with their log-probs, beside torch's softmax and multinomial, without log-probs."""
    noise = torch.Generator(device).manual_seed(0)
    logits = torch.randn(64, vocabulary, device=device, generator=noise) * 3
    uniforms = torch.rand(64, device=device, dtype=torch.float64, generator=noise)
    drawing, greedy = Drawing(), torch.zeros(64, dtype=torch.bool, device=device)

    def repeated(draw: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(20):
                draw()

        return run

    ours, _ = measured(repeated(lambda: drawing(logits, uniforms, greedy)), device, 3)
    plain, _ = measured(repeated(lambda: torch.multinomial(logits.softmax(-1), 1)), device, 3)
    work = 20 * 64
    return Row(f"draw 64 of {vocabulary:,}: multinomial", work / ours, work / plain, "tokens/s", plain / ours)
