"""How many logits exist at a time: fixed on a CPU, by free memory on a GPU."""

from __future__ import annotations

import pytest
import torch

from shaping.learning.losses.logprobs import CHUNK, CUDA_BYTES, CUDA_CHUNKS, CUDA_SHARE, chunk_logits

GIB = 2**30


def test_on_a_cpu_chunks_are_fixed() -> None:
    assert chunk_logits(torch.device("cpu")) == CHUNK


@pytest.mark.parametrize(
    ("free", "held", "used", "logits"),
    [
        (2 * GIB, 0, 0, 2**25),
        (3 * GIB, 0, 0, 2**25),  # no other chunk, and so no other sum, for a little more
        (1 * GIB, 9 * GIB, 8 * GIB, 2**25),  # torch holds another GiB that it does not use
        (0, 0, 0, CUDA_CHUNKS[0]),
        (70 * GIB, 0, 0, CUDA_CHUNKS[1]),
    ],
)
def test_on_a_gpu_chunks_fit_into_free_memory(
    free: int, held: int, used: int, logits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 80 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: held)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: used)
    found = chunk_logits(torch.device("cuda:0"))
    assert found == logits
    assert found == CUDA_CHUNKS[0] or found * CUDA_BYTES <= CUDA_SHARE * (free + held - used)
