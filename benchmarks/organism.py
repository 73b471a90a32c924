"""Pre-training of the organism: tokens/s of packed batches, beside padded batches of the same transcripts."""

from __future__ import annotations

import os
import tempfile
from itertools import islice
from pathlib import Path
from statistics import mean, median

import torch

from benchmarks.padded import Padded
from benchmarks.quickstart import organism_config, study
from benchmarks.table import Row, interleaved, main, throughput
from shaping.learning.samples.packing import pack
from shaping.organisms.corpus.corpus import scripts
from shaping.organisms.corpus.samples import to_sample
from shaping.organisms.organism import build
from shaping.sampling.text.render import Renderer

STEPS = 4
"""Number of timed optimiser steps."""


def benchmark(quick: bool) -> list[Row]:
    """Pre-training: optimiser steps of the organism on packed transcripts, beside padded ones."""
    config = organism_config(study(quick))
    corpus = list(islice(scripts(100 if quick else 600, config.seed), 100 if quick else 600))
    policy = build(config, [text for script in corpus for turn in script.turns for text in turn])
    renderer = Renderer(policy.tokenizer)
    samples = [s for s in (to_sample(script, renderer) for script in corpus) if len(s) <= config.context]
    rows = max(round(config.batch_tokens / mean(map(len, samples))), 1)
    steps = [samples[i * rows : (i + 1) * rows] for i in range(1 if quick else STEPS)]
    lengths = [len(s) for step in steps for s in step]
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=1e-6)
    with tempfile.TemporaryDirectory() as scratch:
        policy.save(Path(scratch))
        padded = Padded(Path(scratch), rows)
    policy.model.train()

    def packed_steps() -> None:
        for step in steps:
            batch = pack(step, sum(map(len, step)))[0]
            logprobs, _ = policy.logprobs(batch)
            optimizer.zero_grad(set_to_none=True)
            (-(logprobs * batch.weight).sum() / batch.weight.sum()).backward()
            torch.nn.utils.clip_grad_norm_(policy.model.parameters(), 1.0)
            optimizer.step()

    def padded_steps() -> None:
        for step in steps:
            padded.likelihood(step)

    print(f"steps of {rows} transcripts, {min(lengths)} to {max(lengths)} tokens long")
    repetitions, warm_up = (1, 0) if quick else (5, 1)
    ours, peer = interleaved([packed_steps, padded_steps], repetitions, warm_up)
    cores = 1 if quick else os.cpu_count() or 1
    torch.set_num_threads(cores)  # in a study, pre-training runs alone and has all cores
    (all_cores,) = interleaved([packed_steps], min(repetitions, 3), warm_up)
    torch.set_num_threads(1)
    whole = median(all_cores) * config.steps / len(steps)
    return [
        throughput(f"packed, beside {rows} padded", "tokens/s", ours, peer, work=sum(lengths)),
        Row(f"{config.steps} steps on {cores} cores, estimated", whole, unit="s", target="ours < 90"),
    ]


if __name__ == "__main__":
    main(benchmark)
