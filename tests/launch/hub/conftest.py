"""A hub on this machine, and an empty cache of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_hub import FakeHub, fake_hub


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where the hub's client caches models. No token, and no variable of the environment that forbids the network."""
    path = tmp_path / "hf"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return path


@pytest.fixture
def point_to(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Callable[[str], None]:
    """Send the hub's client to another address."""

    def point(address: str) -> None:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        monkeypatch.setattr("huggingface_hub.hf_api.ENDPOINT", address, raising=False)
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", address + _FILE)

    return point


_FILE = "/{repo_id}/resolve/{revision}/{filename}"


@pytest.fixture
def hub(point_to: Callable[[str], None]) -> Iterator[FakeHub]:
    with fake_hub() as made:
        point_to(made.address)
        yield made


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
