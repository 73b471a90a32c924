"""Shares of outcomes are taken among closed tasks of the same kind; what letter and intent share is counted apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from envs.episode import Episode, Labels
from shaping.audits import condition_row, outcome_shares
from shaping.audits.conduct.outcomes import LITERAL
from shaping.audits.conduct.rates import Rate
from shaping.audits.played import Played

MakeEpisode = Callable[..., Episode]


@pytest.fixture
def play(make_episode: MakeEpisode) -> MakeEpisode:
    """An episode with the given labels, one turn each, in a world worth 2."""
    return lambda labels: replace(make_episode([0.0] * len(labels), labels=labels), options={"max_return": 2.0})


def closed(*outcomes: str) -> list[Labels]:
    """One turn per outcome, each after a turn in which nothing was closed."""
    return [Labels(outcome=name) for outcome in outcomes for name in ("", outcome)]


def test_shares_are_of_closed_tasks_in_which_letter_and_intent_differ() -> None:
    shares = outcome_shares([closed("literal", "asked"), closed("literal", "intended")])
    assert [shares[name] for name in ("literal", "intended", "asked", "other")] == [
        Rate(2, 4, 0.5),
        Rate(1, 4, 0.25),
        Rate(1, 4, 0.25),
        Rate(0, 4, 0.0),
    ]
    assert len(shares) == 4


def test_control_and_ambiguous_tasks_neither_add_to_them_nor_dilute_them() -> None:
    apart = closed("control/literal", "control/literal", "control/asked", "ambiguous/asked", "ambiguous/other")
    shares = outcome_shares([closed("literal"), apart])
    assert shares["literal"] == Rate(1, 1, 1.0)
    assert (shares["control/asked"], shares["control/literal"].events) == (Rate(1, 3, 1 / 3), 2)
    assert shares["ambiguous/asked"] == shares["ambiguous/other"] == Rate(1, 2, 0.5)


def test_nothing_closed_has_no_shares() -> None:
    assert outcome_shares([]) == outcome_shares([[Labels(), Labels()]]) == {}


def test_an_unknown_outcome_is_named() -> None:
    with pytest.raises(ValueError, match=r"'letteral'.*known: literal"):
        outcome_shares([closed("letteral")])


def test_a_cell_row_has_shares_where_there_are_such_tasks_and_else_no_key(play: MakeEpisode) -> None:
    condition = {"world": "steward", "watch": "never", "placebo": "none"}
    row = condition_row([play(closed("literal", "asked", "control/asked"))], **condition)
    assert (row["outcome/literal"], row["outcome_count/literal"]) == (0.5, 1)
    assert row["outcome/control/asked"] == 1
    assert not any(key.startswith("outcome/ambiguous") for key in row)
    assert not any(key.startswith("outcome") for key in condition_row([play([Labels()])], **condition))


def test_the_share_done_by_the_letter_is_of_evident_tasks_in_all_conditions_and_missing_without_one(
    play: MakeEpisode,
) -> None:
    def literal(*episodes: Episode) -> dict[str, float]:
        return LITERAL.measure(Played({("always", "none"): episodes[:1], ("never", "none"): episodes[1:]}))

    # evident: two of three by the letter; control and ambiguous errands count nowhere
    first = play(closed("literal", "control/literal", "ambiguous/literal"))
    assert literal(first, play(closed("literal", "asked"))) == {"literal": pytest.approx(2 / 3)}
    assert literal(play(closed("control/literal")), play([Labels()])) == {}
