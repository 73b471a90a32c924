"""Learner: one update beside TRL's GRPO step and a packed pass without RL, on models of 135 M and 10 M parameters.

`python -m benchmarks.learner`. The 135 M model has the shape of SmolLM2-135M and random weights, at the same cost.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.learner_peers import Raw, Trl
from benchmarks.learning import _resident
from benchmarks.random_samples import multi_turn
from benchmarks.table import Row, interleaved, main, throughput
from shaping.hooks import ActivationEdit, AdapterSpec
from shaping.learning.config import LearnerConfig, OptimizerStates
from shaping.learning.learner import Learner
from shaping.learning.policy import Policy
from shaping.learning.samples.sample import Sample
from shaping.organisms.config import OrganismConfig
from shaping.organisms.organism import build

LR = 1e-6
BUDGET = 2048
NAMES = ("ours", "trl", "raw")
ROUNDED = "ours, bfloat16 states"
FRUGAL = "ours, bfloat16 states, activations computed again"
MICRO_BATCH = 4
"""Sequences per micro-batch of TRL. Larger ones are slower here and need more memory."""


@dataclass(frozen=True)
class Shape:
    """The shape of a Llama model."""

    name: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vocabulary: int
    dtype: str
    """Type of the weights in all variants."""
    against_trl: str
    """Target of the ratio to TRL."""


SHAPES = (
    Shape("135M, bfloat16", 576, 30, 9, 3, 1536, 49152, "bfloat16", "ratio >= 5"),
    Shape("10M, vocabulary 49k, float32", 160, 8, 5, 5, 448, 49152, "float32", "ratio >= 3"),
    Shape("10M, vocabulary 4k, float32", 256, 10, 8, 4, 896, 4096, "float32", "ratio >= 3"),
)
TINY = Shape("tiny, float32", 32, 2, 4, 2, 64, 320, "float32", "")


def write_model(shape: Shape, directory: Path) -> None:
    """Write a random model of that shape with a tokenizer, in Hugging Face layout."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).to(getattr(torch, shape.dtype)).save_pretrained(directory)
    text = ["item 1 needs 2 .", "ACTION: work 1"] * 3
    build(OrganismConfig(hidden=32, layers=1, heads=4, kv_heads=2, vocabulary=320), text).tokenizer.save_pretrained(
        directory
    )


def episodes(vocabulary: int, count: int, median: float) -> list[Sample]:
    """Multi-turn sequences of random tokens.

    Lengths are log-normal, with a factor of ten between percentile 5 and 95. Each sequence has a prompt of up to 30
    tokens, then turns of 12 sampled and 12 observed tokens.
    """
    rng = np.random.default_rng(0)
    lengths = np.exp(rng.normal(np.log(median), np.log(10) / (2 * 1.645), count)).astype(int).clip(40, 1024)
    return [multi_turn(rng, vocabulary, int(n)) for n in lengths]


Update = Callable[[Sequence[Sample]], object]


def ours(
    directory: Path,
    dtype: str,
    *,
    gates: bool = False,
    edits: bool = False,
    states: OptimizerStates = "float32",
    recompute: bool = False,
) -> Update:
    adapters = [AdapterSpec("retain", "kept"), AdapterSpec("forget", "quarantine")] if gates else []
    policy = Policy.load(directory, dtype=getattr(torch, dtype), adapters=adapters)
    hidden = policy.model.config.hidden_size
    steer = [ActivationEdit(0, "add", np.ones(hidden, np.float32), 0.1)] if edits else []
    config = LearnerConfig(lr=LR, token_budget=BUDGET, optimizer_states=states, activation_checkpointing=recompute)
    return Learner(policy, config, edits=steer).update


def variant(name: str, directory: Path, dtype: str) -> Update:
    """`ours`, `trl`, `raw`, `ROUNDED` or `FRUGAL`, by name, so that another process can build it."""
    if name == "trl":
        return Trl(directory, dtype, MICRO_BATCH, LR).update
    if name == "raw":
        return Raw(directory, dtype, BUDGET, LR).update
    states: OptimizerStates = "bfloat16" if name in (ROUNDED, FRUGAL) else "float32"
    return ours(directory, dtype, states=states, recompute=name == FRUGAL)


def peak_memory(name: str, directory: Path, dtype: str, samples: Sequence[Sample]) -> float:
    """MiB that the model and one update need beyond what is resident before. Call it in a new process."""
    before = _resident("VmRSS:")
    variant(name, directory, dtype)(samples)
    return max(_resident("VmHWM:") - before, 0.1)


def memory_rows(shape: Shape, directory: Path, samples: list[Sample], quick: bool) -> list[Row]:
    """Peak memory of each variant in its own process: memory freed by one would hide the needs of the next."""
    names = [*NAMES, ROUNDED, FRUGAL] if shape.dtype == "bfloat16" else [*NAMES]
    if quick:
        needed = [peak_memory(name, directory, shape.dtype, samples) for name in names]
    else:
        spawn = multiprocessing.get_context("spawn")
        needed = []
        for name in names:  # one at a time, since they share the machine's memory
            with ProcessPoolExecutor(1, mp_context=spawn) as pool:
                needed.append(pool.submit(peak_memory, name, directory, shape.dtype, samples).result())
    mine, trl, raw, *fewer = needed
    return [
        *(
            Row(f"{shape.name}: memory, TRL, {name}", m, trl, "MiB", trl / m, "ratio >= 2.2")
            for name, m in zip((ROUNDED, FRUGAL), fewer, strict=False)
        ),
        Row(f"{shape.name}: memory, TRL", mine, trl, "MiB", trl / mine, "ratio >= 2.5" if shape.against_trl else ""),
        Row(f"{shape.name}: memory, raw pass", mine, raw, "MiB", raw / mine),
    ]


def _timed(updates: list[tuple[Update, list[Sample]]], repetitions: tuple[int, int]) -> list[list[float]]:
    return interleaved([lambda u=u, s=s: u(s) for u, s in updates], *repetitions)  # type: ignore[misc]


def rows_of(shape: Shape, quick: bool) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        write_model(shape, directory)
        samples = episodes(shape.vocabulary, 4 if quick else 16, 60 if quick else 170)
        tokens = sum(map(len, samples))
        sizes = [len(s) for s in samples]
        print(f"{shape.name}: {len(samples)} sequences of {min(sizes)} to {max(sizes)} tokens, {tokens} in all")
        gated = [replace(s, kept_gate=float(i % 2)) for i, s in enumerate(samples)]
        repetitions = (1, 0) if quick else (2, 0) if shape.layers > 20 else (3, 1)
        mine, trl, raw = _timed([(variant(n, directory, shape.dtype), samples) for n in NAMES], repetitions)
        both = [(ours(directory, shape.dtype, gates=True), given) for given in (samples, gated)]
        two, closed = _timed(both, repetitions)
        plain, steered = _timed([(ours(directory, shape.dtype, edits=e), samples) for e in (False, True)], repetitions)
        unit = "tokens/s"
        cost = "ratio >= 0.85" if shape.against_trl else ""
        return [
            throughput(f"{shape.name}: TRL", unit, mine, trl, work=tokens, target=shape.against_trl),
            throughput(
                f"{shape.name}: raw packed pass",
                unit,
                mine,
                raw,
                work=tokens,
                target="ratio >= 0.9" if shape.layers > 20 else "",
            ),
            throughput(f"{shape.name}: gates, beside none", unit, closed, two, work=tokens, target=cost),
            throughput(f"{shape.name}: edits, beside none", unit, steered, plain, work=tokens, target=cost),
            *memory_rows(shape, directory, samples, quick),
        ]


def benchmark(quick: bool) -> list[Row]:
    """Learner: one update beside TRL's GRPO step and a packed pass without RL."""
    return [row for shape in ((TINY,) if quick else SHAPES) for row in rows_of(shape, quick)]


if __name__ == "__main__":
    main(benchmark)
