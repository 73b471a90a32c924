"""Models for all tests of launching, and a parent that no Ctrl-C reaches."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _fake_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FAKE_MODEL", str(tmp_path / "model"))


@pytest.fixture
def deaf_to_interrupts() -> Iterator[None]:
    """This process ignores SIGINT, as everything does that a script starts in the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def babbling(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes an organism that has hardly been trained, with such settings, in a cache of its own."""
    from shaping.organisms.config import OrganismConfig
    from shaping.organisms.organism import ensure

    def make(**settings: int) -> Path:
        small = {"hidden": 32, "layers": 1, "heads": 2, "kv_heads": 1, "vocabulary": 400, "episodes": 12, "steps": 2}
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SHAPING_CACHE", str(tmp_path_factory.mktemp("cache")))
            return ensure(OrganismConfig(**{**small, **settings}))

    return make


@pytest.fixture(scope="session")
def model(babbling: Callable[..., Path]) -> Path:
    return babbling()


@pytest.fixture(scope="session")
def vllm_model(babbling: Callable[..., Path]) -> Path:
    """With heads of a size that vLLM serves on CPUs."""
    return babbling(hidden=64, context=1024)
