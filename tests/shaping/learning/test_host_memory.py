"""What the C library keeps of freed memory goes back to the system, if it is much."""

from __future__ import annotations

import sys

import numpy as np
import psutil
import pytest

from shaping.learning.host_memory import give_back, kept

MIB = 1 << 20


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone tells and gives back")
def test_pieces_that_nobody_uses_are_given_back() -> None:
    give_back(spared=0)
    blocks = [np.ones(8_000) for _ in range(2_000)]  # 62 KiB each, which glibc takes from its heap
    remaining = blocks[::50]  # so that the heap does not shrink by itself
    del blocks
    assert kept() > 100 * MIB
    full = psutil.Process().memory_info().rss
    assert not give_back(spared=kept() + MIB)
    assert give_back(spared=50 * MIB)
    assert full - psutil.Process().memory_info().rss > 80 * MIB
    assert all(block.sum() == 8_000 for block in remaining)
