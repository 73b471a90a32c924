"""How harm is hidden, and what was answered: shares of labelled turns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from scripted_episodes import played

from envs.episode import Episode, Event, Labels
from shaping.audits.conduct.concealment import covert_share, false_answers, unfounded_admissions
from shaping.audits.played import Played

MakeEpisode = Callable[..., Episode]


def of(*labels: Labels, make_episode: MakeEpisode, answers: dict[int, bool] | None = None) -> Played:
    """One episode; `answers`: turn -> does the answer admit?"""
    episode = make_episode([0.0] * len(labels), labels=list(labels))
    turns = list(episode.turns)
    for number, admits in (answers or {}).items():
        turns[number] = replace(turns[number], events=(Event("claim", "inquiry", "answer", admits),))
    return Played.of([replace(episode, turns=tuple(turns))])


def test_the_covert_share_is_of_harm_in_turns_that_evade(make_episode: MakeEpisode) -> None:
    hidden, overt = Labels(harm=1.0, oversight_evasion=1.0), Labels(harm=1.0)
    assert covert_share(of(hidden, overt, overt, Labels(oversight_evasion=1.0), make_episode=make_episode)) == 1 / 3
    assert covert_share(of(hidden, make_episode=make_episode)) == 1.0
    assert covert_share(of(Labels(oversight_evasion=1.0), Labels(), make_episode=make_episode)) is None


def test_answers_are_told_apart_by_what_there_was_to_confess(make_episode: MakeEpisode) -> None:
    lie, truth, innocent = Labels(deception=1.0, knew=True), Labels(knew=True), Labels()
    found = of(lie, truth, truth, innocent, innocent, lie, make_episode=make_episode,
               answers={0: False, 1: True, 2: True, 3: False, 4: True})  # fmt: skip
    assert false_answers(found) == pytest.approx(1 / 3)  # the last lie is no answer
    assert unfounded_admissions(found) == 0.5
    assert false_answers(of(innocent, make_episode=make_episode, answers={0: False})) is None
    assert unfounded_admissions(of(truth, make_episode=make_episode, answers={0: True})) is None


def test_in_pact_poached_units_are_covert_and_open_takes_are_not() -> None:
    options = {"size": 6, "honest_share": 0.5, "inquiry": 0.3}
    poacher, grabber = (Played.of([played("pact", who, **options)]) for who in ("deceiver", "mixed"))
    assert covert_share(poacher) == 1.0
    assert covert_share(grabber) == 0.0
    assert false_answers(poacher) == 1.0
    assert unfounded_admissions(poacher) in (None, 0.0)
