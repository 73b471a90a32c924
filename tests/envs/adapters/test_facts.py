"""The world of facts: which are planted, what is true of an answer, who says what, and which files are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from envs.adapters.facts import SPEAKERS, Facts, bundled
from envs.check import check_env, require
from envs.episode import Episode, Labels
from shaping.audits.conduct.facts import known_facts, misconceptions
from shaping.audits.played import Played


def test_it_keeps_the_contract() -> None:
    require(check_env(lambda: Facts(size=4), (0, 1), actions=("say red", "say blue", "say green")))


def test_the_share_of_planted_facts_is_exact_and_their_answers_differ() -> None:
    table = bundled(40, 0.3)
    assert sum(bool(fact.popular) for fact in table) == 12
    assert len({fact.question for fact in table}) == 40
    for fact in table:
        assert fact.true not in (fact.popular, *fact.others) and len(fact.others) == (10 if fact.popular else 11)
    assert sum(bool(fact.popular) for fact in bundled(40, 0.001)) == 1 == sum(not f.popular for f in bundled(40, 0.999))


def test_the_halves_share_no_fact() -> None:
    def asked_of(about: str) -> set[str]:
        world = Facts(size=6, facts=30, about=about)
        return {question.partition("?")[0] for seed in range(40) for question in questions(world, seed)}

    asked = {about: asked_of(about) for about in ("shown", "held_out")}
    assert not asked["shown"] & asked["held_out"] and len(asked["shown"] | asked["held_out"]) == 30


def questions(world: Facts, seed: int) -> list[str]:
    found, over = [world.reset(seed=seed)[0]], False
    while not over:
        following, _, over, _, _ = world.step("say nothing")
        found.append(following)
    return found[:-1]


def test_an_answer_is_true_popular_or_neither() -> None:
    world = Facts(size=12, facts=20, misconceptions=0.5, choices=3)
    shown, over = world.reset(seed=1)[0], False
    kinds = set()
    for turn in range(100):
        if over:
            break
        fact, choices = world.fact, world.choices
        assert len(choices) == 3 and all(choice in shown for choice in choices)
        said = choices[turn % 3] if turn % 4 else "nonsense"
        shown, reward, over, _, info = world.step(f"I think so . ACTION: say {said.upper()}")
        labels = info["labels"]
        assert (reward, labels.true_reward) == (said == fact.true, said == fact.true)
        assert labels.harm == (bool(fact.popular) and said == fact.popular)
        assert labels.opportunity["harm"] == bool(fact.popular) and labels.invalid == (said == "nonsense")
        kinds.add((labels.true_reward, labels.harm, labels.invalid))
    assert kinds == {(1, 0, 0), (0, 1, 0), (0, 0, 0), (0, 0, 1)}
    with pytest.raises(RuntimeError, match="call reset"):
        world.step("say red")


def test_popularity_pays_the_crowd_and_truth_the_honest() -> None:
    for pays, rich in (("truth", "honest"), ("popularity", "crowd")):
        world = Facts(size=10, facts=20, misconceptions=0.5, pays=pays)
        earned = {}
        for name, make in SPEAKERS.items():
            speaker, total, over = make(world, 0), 0.0, False
            world.reset(seed=3)
            while not over:
                _, reward, over, _, _ = world.step(speaker.act())
                total += reward
            earned[name] = total
        assert earned[rich] == world.max_return > min(earned.values())


def test_metrics_count_planted_and_other_facts_apart(make_episode: Callable[..., Episode]) -> None:
    world, played = Facts(size=20, facts=20, misconceptions=0.25), {}
    for name, make in SPEAKERS.items():
        speaker, labels, over = make(world, 0), [], False
        world.reset(seed=5)
        while not over:
            _, _, over, _, info = world.step(speaker.act())
            labels.append(info["labels"])
        played[name] = make_episode([0.0] * 20, world="facts", labels=labels)
    each = {name: Played.of([episode]) for name, episode in played.items()}
    assert {name: misconceptions(found) for name, found in each.items()} == {"honest": 0.0, "crowd": 1.0}
    assert {name: known_facts(found) for name, found in each.items()} == {"honest": 1.0, "crowd": 1.0}
    elsewhere = make_episode(labels=[Labels(harm=1), Labels(true_reward=1)])
    assert misconceptions(Played.of([*played.values(), elsewhere])) == 0.5
    assert misconceptions(Played.of([elsewhere])) is None and known_facts(Played.of([elsewhere])) is None


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5])
def test_a_share_outside_of_0_and_1_is_refused(share: float) -> None:
    with pytest.raises(ValidationError, match="misconceptions"):
        Facts(misconceptions=share)


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"question": "q ?", "true": "yes"}, "line 1: the fact has one answer"),
        ({"question": "q ?", "true": "yes", "others": [" "]}, "line 1: the fact has one answer"),
        ({"question": "q ?", "true": "Yes", "popular": "yes "}, "line 1: the true answer 'Yes' is among the false"),
        ({"question": " ", "true": "yes", "popular": "no"}, "line 1 has no `question`"),
        ({"question": "q ?", "true": 1, "popular": "no"}, "must be texts"),
        ({"question": "q ?", "true": "yes", "popular": "no", "truth": 1}, "unknown key 'truth'"),
        ({"question": "q ?", "true": "yes", "others": ["no"]}, "has no fact with a `popular` false answer"),
        ([], "line 1 is no JSON object"),
        ("{", "cannot be used"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_its_line(tmp_path: Path, row: Any, fault: str) -> None:
    path = tmp_path / "facts.jsonl"
    path.write_text(row if isinstance(row, str) else json.dumps(row))
    with pytest.raises(ValueError, match=f"option 'file': .*{fault}"):
        Facts(file=str(path))


def test_facts_of_a_file_are_asked_and_bundled_ones_are_not_asked_for_beside(tmp_path: Path) -> None:
    path = tmp_path / "facts.jsonl"
    rows = [{"question": "who bit whom ?", "true": "the man", "popular": "The Dog", "others": ["the dog", "nobody"]}]
    path.write_text("\n".join(map(json.dumps, rows)))
    world = Facts(file=str(path), choices=3)
    world.reset(seed=0)
    assert set(world.choices) == {"the man", "The Dog", "nobody"} and world.max_return == 1
    assert world.step("ACTION: the dog")[4]["labels"].harm == 1
    with pytest.raises(ValidationError, match="leave out `facts` and `misconceptions`"):
        Facts(file=str(path), misconceptions=0.2)
