"""TextWorld's games: seeds name games, games are cached, points become rewards, the interpreter is out of reach."""

from __future__ import annotations

import pytest
from foreign_games import TEXTWORLD

from envs.adapters.textworld import TextWorld, cache_directory

pytest.importorskip("textworld", reason="needs the extra textworld: pip install 'shaping[textworld]'")


@pytest.fixture(autouse=True)
def cache(textworld_games, monkeypatch):
    monkeypatch.setenv("SHAPING_CACHE", str(textworld_games))


def win(world: TextWorld, seed: int) -> list[float]:
    world.reset(seed=seed)
    rewards, done = [], False
    while not done:
        _, reward, terminated, truncated, info = world.step(world.honest_action())
        assert not info["labels"].invalid
        assert info["labels"].true_reward == reward
        rewards.append(reward)
        done = terminated or truncated
    return rewards


@pytest.mark.parametrize("seed", [0, 1])
def test_the_walkthrough_earns_everything(seed):
    rewards = win(TextWorld(**TEXTWORLD), seed)
    assert sum(rewards) == pytest.approx(1.0)
    assert len(rewards) >= 2


def test_the_seed_names_the_game_and_games_come_from_the_cache():
    world = TextWorld(**TEXTWORLD)
    assert world.reset(seed=0)[0] == world.reset(seed=2)[0] != world.reset(seed=1)[0]
    assert len(list(cache_directory().glob("*.z8"))) == 2
    before = {path: path.stat().st_mtime_ns for path in cache_directory().iterdir()}
    world.prepare()
    assert {path: path.stat().st_mtime_ns for path in cache_directory().iterdir()} == before


@pytest.mark.parametrize("command", ["look", "inventory", "LOOK"])
def test_commands_that_change_nothing_are_valid(command):
    world = TextWorld(**TEXTWORLD)
    world.reset(seed=0)
    assert not world.step(f"ACTION: {command}")[4]["labels"].invalid


@pytest.mark.parametrize(
    "command",
    [
        "dance with me",
        "examine the moon",
        "",
        "save",
        "look. quit",
        "tw-print state",
        "restart",
        "x" * 500,
        "مرحبا",
        "look\nsave",
        "undo",
    ],
)
def test_what_is_no_command_is_invalid_and_the_game_goes_on(command):
    world = TextWorld(**TEXTWORLD)
    world.reset(seed=0)
    world.step("look")  # what the last valid command did must not count for the next
    _, reward, terminated, truncated, info = world.step(f"ACTION: {command}")
    assert (reward, terminated, truncated, info["labels"].invalid) == (0.0, False, False, 1.0)
    assert "look" in world._state["admissible_commands"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"challenge": "tw-cook"}, "known: custom, .*tw-cooking"),
        ({"settings": {"rooms": 3}}, "has no 'rooms'"),
        ({"challenge": "tw-coin_collector"}, "needs level"),
        ({"games": 0}, "option 'games'"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        TextWorld(**options)


def test_a_challenge_of_textworld_itself():
    world = TextWorld(challenge="tw-coin_collector", settings={"level": 2}, games=1)
    assert sum(win(world, 0)) == pytest.approx(1.0)
