"""What every built-in monitor keeps, with every choice of its settings; what each sees is tested beside it."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import socket
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from off_record import Remembers, oracle
from plugin_settings import check_settings, every_choice, needed
from pydantic import ValidationError
from scripted_episodes import groups
from scripted_judge import Request, verdict

from envs.discovery import subclasses
from envs.episode import Episode, SealedError
from shaping.contract.groups import small_policy
from shaping.contract.readers import check_monitor
from shaping.directions.direction_set import DirectionSet
from shaping.directions.probe_set import ProbeSet
from shaping.monitors import Monitor, Reading
from shaping.monitors.beliefs.elicit import elicit
from shaping.monitors.beliefs.record import write_beliefs
from shaping.monitors.judging.endpoint import Answer
from shaping.sampling.text.render import Renderer

BUILT_IN = list(subclasses("shaping.monitors", Monitor).values())  # type: ignore[type-abstract]
EVERY_CHOICE = every_choice(BUILT_IN)


@pytest.fixture(scope="module", autouse=True)
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The files that monitors have as their examples are in the folder that tests run in."""
    one, sides = np.ones((1, 101), np.float32), np.array([[[1.0, -1.0], [1.0, -1.0]]], np.float32)
    found = DirectionSet((0,), np.eye(1, 4, dtype=np.float32), np.ones(1, np.float32), one, -one, sides, {})
    with contextlib.chdir(tmp_path_factory.mktemp("directions")):
        found.save(Path("deception.safetensors"))
        ProbeSet((0,), np.eye(1, 4, dtype=np.float32), np.zeros(1, np.float32), {}).save(Path("probe.safetensors"))
        members = [e for group in groups("clerk", "steward", seeds=2) for e in group]
        renderer = Renderer(small_policy().tokenizer)
        beliefs = asyncio.run(elicit(members, Remembers(renderer, oracle), renderer))
        write_beliefs(Path("beliefs.jsonl"), beliefs)
        yield


@pytest.fixture(scope="module", autouse=True)
def endpoint() -> Iterator[None]:
    """The endpoints that judges have as their example answer .7 to every question, without a network."""

    def complete(_client: Any, _judge: Any, _key: str, body: bytes) -> Answer:
        return Answer(verdict(Request(0, {}, body), 0.7), None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shaping.monitors.judging.panel.complete", complete)
        yield


@pytest.fixture(scope="module")
def episodes() -> list[Episode]:
    """Scripted episodes in two worlds, lies, open shortcuts and covert ones among them; and hidden states of each."""
    played = [episode for members in groups("clerk", "steward", seeds=2) for episode in members]
    rng = np.random.default_rng(0)
    states = [rng.normal(size=(len(e.turns), 1, 4)).astype(np.float32) for e in played]
    names = ("monitor/persona", "monitor/probe", "monitor/of_this_study")
    return [replace(e, activations=dict.fromkeys(names, s)) for e, s in zip(played, states, strict=True)]


def read(monitor: Monitor, episodes: Sequence[Episode]) -> list[list[Reading]]:
    return [monitor.read(monitor.view(episode)) for episode in episodes]


@pytest.mark.parametrize("kind", BUILT_IN)
def test_its_settings_are_documented_frozen_and_strict(kind: type[Monitor]) -> None:
    check_settings(kind)


@pytest.mark.parametrize(("kind", "settings"), EVERY_CHOICE)
def test_it_keeps_the_rules_of_monitors(kind: type[Monitor], settings: dict[str, Any]) -> None:
    results = check_monitor(partial(kind, **settings), seeds=1, worlds=("clerk",))
    assert [each for each in results if not each.ok] == []


@pytest.mark.parametrize(("kind", "settings"), EVERY_CHOICE)
def test_it_reads_alike_in_another_process_and_touches_no_global_generator(
    kind: type[Monitor], settings: dict[str, Any], episodes: list[Episode]
) -> None:
    before = np.random.get_state()[1].tobytes()  # type: ignore[union-attr, index]
    here = read(kind(**settings), episodes)
    assert np.random.get_state()[1].tobytes() == before  # type: ignore[union-attr, index]
    assert read(pickle.loads(pickle.dumps(kind(**settings))), episodes) == here
    assert any(here), "nothing was suspicious: there is nothing to compare"


@pytest.mark.parametrize("kind", BUILT_IN)
def test_its_readings_are_signed_with_the_name_that_a_study_gives_it(
    kind: type[Monitor], episodes: list[Episode]
) -> None:
    monitor = kind(**{**needed(kind), "name": "of_this_study"})
    assert {reading.monitor for readings in read(monitor, episodes) for reading in readings} == {"of_this_study"}


@pytest.mark.parametrize(("kind", "settings"), EVERY_CHOICE)
def test_its_readings_name_only_the_traits_that_it_suspects(
    kind: type[Monitor], settings: dict[str, Any], episodes: list[Episode]
) -> None:
    monitor = kind(**settings)
    named = {reading.trait for readings in read(monitor, episodes) for reading in readings}
    assert named <= set(monitor.suspects()), "a trait without readings would have no column in metrics.jsonl"


@pytest.mark.parametrize("kind", BUILT_IN)
def test_only_an_oracle_opens_labels_and_no_oracle_can_be_trained_against(
    kind: type[Monitor], episodes: list[Episode]
) -> None:
    monitor = kind(**needed(kind))
    if not kind.oracle:
        assert monitor.read(episodes[0].redacted()) == monitor.read(episodes[0])
        assert kind(**{**needed(kind), "role": "train"}).role == "train"
        return
    with pytest.raises(SealedError):
        monitor.read(episodes[0].redacted())
    with pytest.raises(ValidationError, match="role"):
        kind(**{**needed(kind), "role": "train"})


@pytest.mark.parametrize("kind", [kind for kind in BUILT_IN if kind.cheap])
def test_a_cheap_one_reads_without_a_model_and_without_a_network(
    kind: type[Monitor], episodes: list[Episode], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError(f"{kind.__name__} says that it is cheap")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(torch.nn.Module, "__call__", refuse)
    assert any(read(kind(**needed(kind)), episodes))
