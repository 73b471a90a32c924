"""A small organism that has really been trained: a few hundred episodes, a few seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from shaping.organisms.config import OrganismConfig
from shaping.organisms.organism import ensure

SMALL = OrganismConfig(hidden=64, episodes=300, steps=60, vocabulary=768, batch_tokens=2048, context=1024, lr=1e-2)


@pytest.fixture(scope="session")
def organism(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHAPING_CACHE", str(tmp_path_factory.mktemp("cache")))
        return ensure(SMALL)
