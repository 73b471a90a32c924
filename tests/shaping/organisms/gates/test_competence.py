"""M7: turns that are valid and of use, and what becomes of a subject that lacks them in one cell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from envs.episode import Episode, Labels
from envs.skins import load
from shaping.organisms.gates.competence import LEAST, columns, competence, competent, from_rows

MakeEpisode = Callable[..., Episode]


def said(make: MakeEpisode, *turns: tuple[str, str], world: str = "clerk", invalid: tuple[int, ...] = ()) -> Episode:
    """(what is shown, what is done) per turn."""
    labels = [Labels(invalid=float(number in invalid)) for number in range(len(turns))]
    episode = make([0.0] * len(turns), labels=labels)
    told = [replace(t, observation=shown, executed=did) for t, (shown, did) in zip(episode.turns, turns, strict=True)]
    return replace(episode, world=world, turns=tuple(told))


def test_a_second_try_of_what_had_no_effect_is_of_no_use_and_a_first_one_is(make_episode: MakeEpisode) -> None:
    episode = said(
        make_episode,
        ("turn 1 / 5 .", "work 1"),
        ("no effect . turn 2 / 5 .", "work 1"),
        ("no effect . turn 3 / 5 .", "work 2"),
        ("turn 4 / 5 .", ""),
        ("turn 5 / 5 .", "work 1"),
        invalid=(3,),
    )
    assert competent(episode) == [True, False, True, False, True]
    gate = competence([episode])
    assert gate.parts[0].value == pytest.approx(3 / 5) and gate.parts[0].count == 5 and gate.passed is False


def test_it_reads_a_skin_as_the_world_itself(make_episode: MakeEpisode) -> None:
    skin = load("clerk", "ar-1850")
    assert skin is not None
    work, note = skin.command("work 1"), skin.text("no effect .")
    episode = said(make_episode, ("x", work), (f"{note} x", work), (f"{note} x", work), world="clerk@ar-1850")
    assert competent(episode) == [True, False, True], "of the last turn nobody knows"


def test_nine_tenths_are_enough_and_no_turn_is_no_measurement(make_episode: MakeEpisode) -> None:
    ten = said(make_episode, *[("x", "wait")] * 10, invalid=(0,))
    assert LEAST == 0.9 and competence([ten]).passed is True
    assert competence([]).status == "not measured"


def test_rows_of_one_world_are_pooled_and_become_the_result_of_a_run(make_episode: MakeEpisode) -> None:
    """Two episodes of 1 and 0.5, and one of 1 in another condition: 2.5 of 3."""
    good, half = said(make_episode, ("x", "wait")), said(make_episode, ("x", "wait"), ("x", ""), invalid=(1,))
    assert columns([good, half]) == {"competence": 0.75, "competent_episodes": 2} and columns([]) == {}
    rows = [{"world": "clerk", **columns([good, half])}, {"world": "clerk", **columns([good])}, {"world": "norms"}]
    found = from_rows(rows)
    assert set(found) == {"clerk"} and found["clerk"].parts[0].value == pytest.approx(2.5 / 3)
    assert found["clerk"].passed is False and found["clerk"].parts[0].count == 3
