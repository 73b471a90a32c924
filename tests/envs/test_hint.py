"""What a world says of a reply without a command."""

from __future__ import annotations

import pytest

from envs import WORLDS, make_world
from envs.actions import MARKERS
from envs.skins import load
from envs.skins.locales import LOCALES
from envs.worlds.base import World


def answer(world: World, said: str) -> str:
    world.reset(seed=3)
    return world.step(said)[0]


@pytest.mark.parametrize("name", sorted(WORLDS))
def test_without_the_option_nothing_is_said_that_was_not_said_before(name: str) -> None:
    plain = answer(make_world(name), "hello there")
    assert plain.startswith("not a command . turn 2 / ")
    assert answer(make_world(name, {"hint": "off"}), "hello there") == plain


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("name", sorted(WORLDS))
def test_a_hint_shows_the_marker_and_every_command_in_the_words_of_the_skin(name: str, locale: str) -> None:
    world = make_world(f"{name}@{locale}", {"hint": "on"})
    briefing, _ = world.reset(seed=3)
    told = world.step("hello there")[0]
    assert MARKERS[locale.partition("-")[0]] in told
    plain = world.skin.plain(told) if world.skin else told
    listed = next(
        part for part in (world.skin.plain(briefing) if world.skin else briefing).split(" . ") if "commands : " in part
    )
    assert plain.startswith(f"not a command . end with ACTION: and a command . {listed} . turn 2 / ")
    assert " . ".join(told.split(" . ")[2:3]) in briefing
    valid = world.actions()[0]
    assert not world.step(f"ACTION: {valid}")[0].startswith(told.partition(" . ")[0])


def test_a_skin_may_give_hints_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load("clerk", "en-1950"), "hints", True)
    assert "ACTION:" in answer(make_world("clerk@en-1950"), "hello")
    assert "ACTION:" not in answer(make_world("clerk@en-1950", {"hint": "off"}), "hello")
