"""docs/examples/play_foreign.py: a saved model plays an episode of an adapter, and the page shows what happened."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from envs.episode import RolloutStatus
from shaping.learning.policy import Policy

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT))
    import docs.examples.play_foreign as module

    yield module
    sys.modules.pop("docs.examples.play_foreign")


@pytest.fixture(scope="module")
def model(make_policy: Callable[..., Policy], tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model")
    make_policy(context=4096).save(directory)
    return directory


@pytest.mark.parametrize(
    ("package", "world", "options"),
    [
        ("gymnasium", "envs.adapters.gymnasium_text:GymnasiumText", {"id": "shaping/Steward-v0", "horizon": 3}),
        ("textarena", "envs.adapters.textarena:TextArena", {"game": "GuessTheNumber-v0"}),
        ("textworld", "envs.adapters.textworld:TextWorld", {"games": 1}),
        ("reasoning_gym", "envs.adapters.reasoning_gym:ReasoningGym", {"task": "basic_arithmetic"}),
    ],
)
def test_a_saved_model_plays_and_the_page_shows_it(
    package: str,
    world: str,
    options: dict[str, Any],
    example: Any,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip(package)
    monkeypatch.setenv("SHAPING_CACHE", str(tmp_path))
    episode = example.play_one(model, world, options, seed=1, turns=3, tokens=8)
    assert episode.status in (RolloutStatus.COMPLETED, RolloutStatus.TRUNCATED_MAX_TURNS), episode.error
    page = "\n".join(example.lines(episode))
    assert page.count("--- turn") == len(episode.turns) > 0
    assert example.printable(episode.turns[0].observation) in page
    assert "invalid_chances" in page and episode.status.value in page


def test_the_world_that_fails_is_named(example: Any, model: Path) -> None:
    episode = example.play_one(model, "envs.adapters.openenv:OpenEnv", {"url": "http://127.0.0.1:9"}, turns=1)
    assert episode.status is RolloutStatus.ERROR
    assert "openenv" in "\n".join(example.lines(episode))


def test_what_a_terminal_would_act_on_is_not_printed(example: Any) -> None:
    assert example.printable("a\x1b[2Jb\u202ec\nd") == "a\ufffd[2Jb\ufffdc\nd"
