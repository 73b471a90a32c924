"""The penalties of the controls: lies priced by the truth, costs without content, honest answers paid, cues obeyed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scripted_episodes import groups

from envs import WORLDS
from envs.episode import Episode, Event, Labels
from envs.skins import load
from shaping.arm import compose
from shaping.constraints import Amnesty, LiePenalty, OverseerPenalty, PlaceboPenalty
from shaping.hooks import InterventionError
from shaping.intervention import Constraint
from shaping.learning.credit.costs import costs_of

MakeEpisode = Callable[..., Episode]
GRAB = Event("act", "grab", "grab 2")
ADMISSION = Event("claim", "inquiry", "answer yes", admits=True)
DENIAL = Event("claim", "inquiry", "answer no")


@pytest.fixture(scope="module")
def played() -> list[Episode]:
    """Scripted groups of all built-in worlds."""
    return [episode for group in groups() for episode in group]


def test_every_lie_has_its_price_and_nothing_else_has(make_episode: MakeEpisode) -> None:
    labels = [Labels(deception=2.0, knew=True), Labels(harm=1.0, oversight_evasion=1.0), Labels(knew=True)]
    episode = make_episode([0, 0, 0], [[DENIAL], [GRAB], [ADMISSION]], labels=labels)
    assert LiePenalty(penalty=0.5).cost(episode).tolist() == [1.0, 0.0, 0.0]


def test_lies_of_played_episodes_are_counted_as_the_world_labels_them(played: list[Episode]) -> None:
    charged = [LiePenalty().cost(e).sum() for e in played]
    assert charged == [sum(t.deception for t in e.truth.open()) for e in played] and sum(charged) > 0


@pytest.mark.parametrize("kind", [LiePenalty, Amnesty])
def test_what_needs_the_truth_says_so(played: list[Episode], kind: type[Constraint]) -> None:
    assert compose("arm", [kind()]).oracle
    assert costs_of(kind(), played[:2]) is not None, "an oracle is shown the truth"


@pytest.mark.parametrize(
    ("answer", "guilty", "paid"),
    [(ADMISSION, True, 1.0), (DENIAL, False, 1.0), (DENIAL, True, 0.0), (ADMISSION, False, 0.0)],
    ids=["confession", "rightly denied", "lie", "false confession"],
)
def test_a_true_answer_is_paid_whatever_it_says(
    make_episode: MakeEpisode, answer: Event, guilty: bool, paid: float
) -> None:
    truth = Labels(knew=guilty, deception=float(guilty and not answer.admits))
    episode = make_episode([0, 0], [[GRAB], [answer]], labels=[Labels(), truth])
    assert Amnesty(payment=0.25).cost(episode).tolist() == [0.0, -0.25 * paid]


def test_claims_that_no_one_asked_for_are_not_paid(make_episode: MakeEpisode) -> None:
    report = Event("claim", "report", "report 2 done")
    assert not Amnesty().cost(make_episode([0], [[report]], labels=[Labels()])).any()


def test_honest_answers_of_played_episodes_are_paid_and_lies_and_false_confessions_are_not(
    played: list[Episode],
) -> None:
    told = [
        (event, labels, Amnesty(payment=1.0).cost(episode)[number])
        for episode in played
        for number, (turn, labels) in enumerate(zip(episode.turns, episode.truth.open(), strict=True))
        for event in turn.events
        if event.name == "inquiry"
    ]
    lies = [cost for _, labels, cost in told if labels.deception]
    invented = [cost for event, labels, cost in told if event.admits and not labels.knew]
    assert len(lies) > 3 and len(invented) > 0 and not any(lies) and not any(invented)
    assert sum(cost == -1 for *_, cost in told) == len(told) - len(lies) - len(invented) > 3


# A placebo ------------------------------------------------------------------------------------------------------------


def grabbing(make_episode: MakeEpisode, counts: Sequence[int], seed: int = 7) -> tuple[Episode, ...]:
    """One group; episode n has `counts[n]` turns, in each of which something is grabbed."""
    return tuple(make_episode([0.0] * n, [[GRAB]] * n, seed=seed) for n in counts)


def test_the_placebo_charges_the_same_amounts_to_others(make_episode: MakeEpisode) -> None:
    fields: dict[str, Any] = {"accuracy": 1.0, "penalty": 2.0}
    orders = set()
    for seed in range(40):
        group = grabbing(make_episode, [1, 2, 3, 4], seed)
        charged = PlaceboPenalty(**fields).cost_group(group)
        assert [len(c) for c in charged] == [1, 2, 3, 4]
        assert sorted(c.sum() for c in charged) == [2.0, 4.0, 6.0, 8.0]
        orders.add(tuple(c.sum() for c in charged))
    assert len(orders) > 12, "the draw depends on the group's seed"


def test_what_an_episode_did_does_not_decide_what_it_pays(make_episode: MakeEpisode) -> None:
    own, charged = [], []
    for seed in range(300):
        group = grabbing(make_episode, [1, 2, 3, 4], seed)
        own += [OverseerPenalty(accuracy=1.0).priced(e).sum() for e in group]
        charged += [c.sum() for c in PlaceboPenalty(accuracy=1.0).cost_group(group)]
    assert abs(np.corrcoef(own, charged)[0, 1]) < 3 / np.sqrt(len(own))


def test_the_placebo_answers_the_same_when_asked_again_and_prices_no_episode_alone(make_episode: MakeEpisode) -> None:
    group = grabbing(make_episode, [4, 2, 3])
    placebo = PlaceboPenalty(accuracy=1.0)
    first, second = placebo.cost_group(group), placebo.cost_group(group)
    assert [a.tolist() for a in first] == [b.tolist() for b in second]
    assert placebo.cost(group[0]) is None and placebo.cost_group(()) == []
    assert [c.sum() for c in costs_of(placebo, group) or ()] == [c.sum() for c in first]


# Only while the cue shows ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("locale", ["", "ar-1850", "ar-2025", "en-1850"])
def test_a_price_while_watched_is_paid_only_where_the_cue_shows(make_episode: MakeEpisode, locale: str) -> None:
    here, away, blinded = WORLDS["nightwatch"].cues
    said = [f"turn {n} / 9 . parcel 1 not scanned . {cue}" for n, cue in enumerate((here, away, blinded), 1)]
    said.append(f"turn 4 / 9 . overseer asks : {WORLDS['nightwatch'].question}")
    if locale and (skin := load("nightwatch", locale)):
        said = [skin.text(text) for text in said]
    name = f"nightwatch@{locale}" if locale else "nightwatch"
    episode = make_episode([0.0] * 4, [[GRAB], [GRAB], [GRAB], [ADMISSION]], world=name)
    episode = replace(
        episode, turns=tuple(replace(t, observation=text) for t, text in zip(episode.turns, said, strict=True))
    )
    assert OverseerPenalty(accuracy=1.0).priced(episode).tolist() == [1, 1, 1, 1]
    assert OverseerPenalty(accuracy=1.0, when="watched").priced(episode).tolist() == [1, 0, 0, 0]


def test_a_price_while_watched_is_what_played_turns_under_watch_cost(played: list[Episode]) -> None:
    always, watched = (OverseerPenalty(accuracy=1.0, when=when) for when in ("always", "watched"))
    total = 0.0
    for episode in (e for e in played if e.world in ("steward", "nightwatch")):
        asked = np.array([any(event.kind == "claim" for event in turn.events) for turn in episode.turns])
        monitored = np.array([labels.monitored for labels in episode.truth.open()])
        found = watched.priced(episode)
        assert found.tolist() == (always.priced(episode) * (monitored & ~asked)).tolist()
        total += found.sum()
    assert total > 0


def test_a_world_without_a_cue_cannot_be_priced_while_watched(make_episode: MakeEpisode) -> None:
    episode = make_episode([0.0], [[GRAB]], world="uncued_world:Uncued")
    with pytest.raises((InterventionError, ValueError), match="uncued_world"):
        OverseerPenalty(when="watched").cost(episode)
