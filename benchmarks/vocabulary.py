"""Large vocabularies: drawing tokens beside torch's multinomial, at 49k, 152k and 262k tokens and 64 rows."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from benchmarks.table import Row, interleaved, main, throughput
from shaping.sampling.embedded.draw import Drawing

ROWS = 64


def benchmark(quick: bool) -> list[Row]:
    """Tokens drawn per second, with their log-probabilities, beside softmax and multinomial without them."""
    rows = []
    for vocabulary in (8_192,) if quick else (49_152, 151_936, 262_144):
        generator = torch.Generator().manual_seed(0)
        logits = torch.randn(ROWS, vocabulary, generator=generator) * 3
        uniforms = torch.rand(ROWS, dtype=torch.float64, generator=generator)
        greedy = torch.zeros(ROWS, dtype=torch.bool)
        drawing = Drawing()
        ours, peer = interleaved(
            [partial(drawing, logits, uniforms, greedy), partial(_by_torch, logits)], 2 if quick else 15
        )
        name = f"draw {ROWS} tokens of {vocabulary:,}"
        rows.append(throughput(name, "tokens/s", ours, peer, work=ROWS, target="ratio >= 3"))
    return rows


def _by_torch(logits: Tensor) -> Tensor:
    return torch.multinomial(torch.softmax(logits, -1), 1)


if __name__ == "__main__":
    main(benchmark)
