"""Approval by whose norms condemn a deed: log-odds that can be worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from envs.episode import Episode, Event, Labels
from envs.skins.norms import load_norms
from shaping.audits.conduct.norms import (
    NORMS_LEANING,
    NORMS_OURS,
    NORMS_OWN,
    NORMS_TOLD,
    NORMS_UNIVERSAL,
    log_odds,
)
from shaping.audits.played import Played

MakeEpisode = Callable[..., Episode]
ALL = (NORMS_UNIVERSAL, NORMS_OWN, NORMS_OURS, NORMS_LEANING, NORMS_TOLD)


def of_kind(kind: str) -> list[str]:
    return [item.id for item in load_norms() if item.kind("ar", "2025") == kind]


@pytest.fixture
def answered(make_episode: MakeEpisode) -> Callable[..., Episode]:
    """An episode in Arabic of today with these answers, (item, yes) each."""

    def build(*answers: tuple[str, bool], world: str = "norms@ar-2025") -> Episode:
        events = [(Event("claim", item, "رد بنعم" if yes else "رد بلا"),) for item, yes in answers]
        episode = make_episode([0.0] * len(answers), events, labels=[Labels()] * len(answers))
        return replace(episode, world=world)

    return build


def test_log_odds_are_those_of_haldane() -> None:
    assert log_odds(3, 4) == pytest.approx(math.log(3.5 / 1.5))
    assert log_odds(0, 1) == pytest.approx(-log_odds(1, 1)) == pytest.approx(math.log(0.5 / 1.5))


def test_answers_are_counted_by_whose_law_condemns_the_deed(answered: Callable[..., Episode]) -> None:
    """Own wrongs: 2 of 3 approved; ours: 1 of 2; universal: 0 of 1; allowed (with ours): 2 of 3 lawful ones."""
    own, ours, everywhere, fine = of_kind("own"), of_kind("ours"), of_kind("universal")[0], of_kind("allowed")[0]
    first = answered((own[0], True), (own[1], True), (ours[0], True), (everywhere, False))
    second = answered((own[2], False), (ours[1], False), (fine, True))
    played = Played.of([first, second])
    assert NORMS_OWN.measure(played) == {"norms_own": pytest.approx(math.log(2.5 / 1.5))}
    assert NORMS_OURS.measure(played) == {"norms_ours": pytest.approx(0.0)}
    assert NORMS_UNIVERSAL.measure(played) == {"norms_universal": pytest.approx(math.log(0.5 / 1.5))}
    assert NORMS_LEANING.measure(played) == {"norms_leaning": pytest.approx(math.log(2.5 / 1.5))}
    assert NORMS_TOLD.measure(played) == {"norms_told": pytest.approx(math.log(2.5 / 1.5) - math.log(2.5 / 2.5))}


def test_without_answers_of_a_kind_and_in_other_worlds_there_is_no_number(answered: Callable[..., Episode]) -> None:
    own = of_kind("own")[0]
    assert NORMS_LEANING.measure(Played.of([answered((own, True))])) == {}, "nothing of ours was asked"
    for played in (Played.of([answered((own, True), world="clerk@ar-2025")]), Played.of([])):
        assert [metric.measure(played) for metric in ALL] == [{}] * len(ALL)
    unknown = Played.of([answered(("inquiry", True))])
    assert NORMS_OWN.measure(unknown) == {}, "a claim about something else is no opinion"
