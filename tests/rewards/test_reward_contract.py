"""What every built-in reward keeps, with every choice of its settings; what each pays is tested beside it."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plugin_settings import check_settings, every_choice
from scripted_episodes import groups as scripted_groups
from small_preference import write_small

from envs.discovery import subclasses
from rewards import Reward
from shaping.contract.readers import check_reward

BUILT_IN = list(subclasses("rewards", Reward).values())  # type: ignore[type-abstract]
EVERY_CHOICE = every_choice(BUILT_IN)


@pytest.fixture(scope="module", autouse=True)
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The model that `PreferenceModel` has as its example is in the folder that tests run in."""
    with contextlib.chdir(tmp_path_factory.mktemp("models")):
        write_small(Path("preference-model"), ["clerk", "steward"])
        yield


@pytest.mark.parametrize("kind", BUILT_IN)
def test_its_settings_are_documented_frozen_and_strict(kind: type[Reward]) -> None:
    check_settings(kind)


@pytest.mark.parametrize(("kind", "settings"), EVERY_CHOICE)
def test_it_keeps_the_rules_of_rewards(kind: type[Reward], settings: dict[str, Any]) -> None:
    results = check_reward(partial(kind, **settings), seeds=1, worlds=("clerk",))
    assert [each for each in results if not each.ok] == []


@pytest.mark.parametrize(("kind", "settings"), EVERY_CHOICE)
def test_it_pays_alike_in_another_process_and_touches_no_global_generator(
    kind: type[Reward], settings: dict[str, Any]
) -> None:
    groups = [[episode.redacted() for episode in members] for members in scripted_groups("clerk", "steward")]
    before = np.random.get_state()[1].tobytes()  # type: ignore[union-attr, index]
    here = [kind(**settings).score_group(members) for members in groups]
    assert np.random.get_state()[1].tobytes() == before  # type: ignore[union-attr, index]
    there = pickle.loads(pickle.dumps(kind(**settings)))
    for paid, members in zip(here, groups, strict=True):
        again = there.score_group(members)
        assert [values.tolist() for values in again] == [values.tolist() for values in paid]


@pytest.mark.parametrize(("kind", "settings"), EVERY_CHOICE)
def test_an_empty_group_is_paid_nothing(kind: type[Reward], settings: dict[str, Any]) -> None:
    assert kind(**settings).score_group([]) == []
