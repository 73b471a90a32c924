"""Makes the modules of this folder importable, here and in Ray's workers: `launch_fakes`. A model for all tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _fake_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FAKE_MODEL", str(tmp_path / "model"))


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An organism that has hardly been trained: it babbles."""
    from shaping.models.config import OrganismConfig
    from shaping.models.organism import ensure

    small = {"hidden": 32, "layers": 1, "heads": 2, "kv_heads": 1, "vocabulary": 400}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHAPING_CACHE", str(tmp_path_factory.mktemp("cache")))
        return ensure(OrganismConfig(**small, episodes=12, steps=2))
