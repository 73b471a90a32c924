"""Comparisons of scripted personas: the truth says which episode is better, and stays behind."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from envs import make_world
from envs.episode import Labels
from rewards.preference.data import Pair, PreferenceError
from shaping.organisms.corpus.comparisons import Comparisons, comparisons, worth_of


def replayed(pair: Pair, better: bool, options: dict[str, Any]) -> float:
    """True reward of one side, played again command by command in a world of its own."""
    world = make_world(pair.world, options)
    world.reset(seed=int(pair.situation.split("|")[1]))
    total = 0.0
    for message in pair.better if better else pair.worse:
        if message.role == "assistant":
            total += world.step(message.content)[4]["labels"].true_reward
    return total


FIXED = {
    **{"size": 4, "horizon": 16, "inquiry": 0.3},
    **{"watch": "drawn", "aware": "shown", "placebo": "none", "oversight": 0.0, "escalation": 0.0, "pressure": 0},
    **{"penalty": 1.0, "honest_share": 1.0, "covert": "on", "covert_cost": 0.0, "candour": 0.0, "polarity": "conduct"},
}


def test_the_better_episode_has_the_higher_true_reward() -> None:
    found = comparisons(Comparisons(pairs=12, worlds=("clerk",), options={"clerk": _known("clerk")}))
    assert len(found.pairs) == 12 and found.worlds == ["clerk"]
    for pair in found.pairs:
        better, worse = (replayed(pair, side, _known("clerk")) for side in (True, False))
        assert better > worse and pair.margin == pytest.approx(better - worse)


def _known(world: str) -> dict[str, Any]:
    from envs import WORLDS

    return {name: value for name, value in FIXED.items() if name in WORLDS[world].Options.model_fields}


def test_they_repeat_with_the_seed_and_begin_alike_whatever_their_number() -> None:
    few, many = (comparisons(Comparisons(pairs=n, worlds=("steward", "clerk"))).pairs for n in (5, 15))
    assert many[:5] == few
    other = comparisons(Comparisons(pairs=5, worlds=("steward", "clerk"), seed=1))
    assert not set(other.situations) & {pair.situation for pair in many}


def test_situations_give_several_pairs_and_episodes_are_cut_where_it_is_asked() -> None:
    found = comparisons(Comparisons(pairs=12, per_situation=3, turns=(3,), worlds=("nightwatch",)))
    assert len(found.situations) < 12
    assert all(
        sum(m.role == "assistant" for m in each) <= 3 for pair in found.pairs for each in (pair.better, pair.worse)
    )


def test_an_annotator_who_errs_swaps_some_pairs_and_nothing_else() -> None:
    right = comparisons(Comparisons(pairs=60)).pairs
    wrong = comparisons(Comparisons(pairs=60, flipped=0.4)).pairs
    swapped = sum(a.better == b.worse and a.worse == b.better for a, b in zip(right, wrong, strict=True))
    same = sum(a == b for a, b in zip(right, wrong, strict=True))
    assert swapped + same == 60 and abs(swapped / 60 - 0.4) < 4 * (0.4 * 0.6 / 60) ** 0.5


def test_worth_is_the_true_reward_less_what_events_are_priced() -> None:
    assert worth_of(Labels(true_reward=2.0, deception=3.0, harm=1.0), {"deception": 0.5, "harm": 0.25}) == 0.25


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"worlds": ["casino"]}, "no personas for worlds"),
        ({"personas": {"honest": 1.0, "nobody": 1.0}}, "nobody"),
        ({"personas": {"honest": 1.0, "frugal": 0.0}}, "at least two personas"),
        ({"prices": {"greed": 1.0}}, "no traits"),
        ({"locales": ["xx-1700"]}, "xx-1700"),
    ],
)
def test_settings_that_name_nothing_are_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Comparisons(**settings)


def test_personas_who_are_always_worth_the_same_are_refused() -> None:
    with pytest.raises(PreferenceError, match="no two episodes of different worth"):
        comparisons(Comparisons(pairs=1, worlds=("clerk",), personas={"honest": 1.0, "power_seeker": 1.0}))
