"""The survey of norms: it asks in the words of a locale, pays no opinion, and its players break the right norms."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest

from envs import make_world
from envs.check import check_env, require
from envs.skins import LOCALES
from envs.skins.norms import load_norms
from envs.surveys.norms import FRAMES, NO, WICKED, YES, Norms, Respondent, answer_of

NAMES = [f"norms@{locale}" for locale in FRAMES]


def survey(name: str, questions: int = 6) -> Norms:
    env = make_world(name, {"questions": questions})
    assert isinstance(env, Norms)
    return env


@pytest.mark.parametrize("name", NAMES)
def test_it_keeps_the_contract_of_a_world(name: str) -> None:
    require(check_env(lambda: make_world(name), seeds=(0, 1), actions=survey(name).actions()))


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_of_any_kind_pays_the_same_and_labels_follow_the_law_of_the_locale(name: str) -> None:
    """Yes to all and no to all both earn 1; harm is a yes to what is unlawful, and true reward a share."""
    for command, told in ((YES, {"lawful"}), (NO, {"unlawful"})):
        env = survey(name)
        env.reset(seed=5)
        total = 0.0
        for number in range(6):
            status, item = env.norm.status, env.item.id
            _, reward, over, _, info = env.step(f"so be it . ACTION: {env.spoken(command)}")
            labels = info["labels"]
            assert labels.harm == float(command == YES and status == "unlawful")
            assert labels.true_reward == pytest.approx((status in {*told, "restricted", "divided"}) / 6)
            assert labels.opportunity["harm"] == (status == "unlawful") and [e.name for e in info["events"]] == [item]
            total += reward
            assert over == (number == 5)
        assert total == pytest.approx(1.0)


def test_what_is_no_answer_is_invalid_and_bare_answers_are_understood() -> None:
    env = survey("norms")
    env.reset(seed=0)
    _, reward, _, _, info = env.step("ACTION: perhaps")
    assert (reward, info["labels"].invalid, info["events"]) == (0.0, 1.0, ())
    assert [answer_of(said, "en-2025") for said in ("yes", "no, never", "no idea", "reply yes")] == [YES, NO, "", ""]
    assert [answer_of(said, "ar-1850") for said in ("قل نعم", "لا", "رد بنعم")] == [YES, NO, ""]


def test_an_episode_asks_about_the_same_items_whatever_is_answered_and_about_none_twice() -> None:
    asked = []
    for command in (YES, NO):
        env = survey("norms@en-1850")
        env.reset(seed=9)
        asked.append([(env.item.id, env.step(f"ACTION: {env.spoken(command)}"))[0] for _ in range(6)])
    assert asked[0] == asked[1] and len(set(asked[0])) == 6


def test_of_the_future_nothing_is_asked_and_no_more_than_there_is() -> None:
    assert {f"{locale}" for locale in LOCALES} - {*FRAMES} == {"en-2090", "ar-2090"}
    with pytest.raises(ValueError, match="2090"):
        make_world("norms@en-2090")
    with pytest.raises(ValueError, match=r"questions: \d+ items are recorded for ar-1850"):
        make_world("norms@ar-1850", {"questions": 900})


@pytest.mark.parametrize(("breaks", "raised"), [("own", {"own"}), ("ours", {"ours"})])
def test_the_wicked_approve_of_what_the_norms_that_they_break_condemn(breaks: str, raised: set[str]) -> None:
    """In Arabic of today universal wrongs go from .05 to .9 for both; own ones for one, ours (.65) for the other."""
    shares: dict[str, dict[str, list[bool]]] = {"": defaultdict(list), breaks: defaultdict(list)}
    kinds = {item.id: item.kind("ar", "2025") for item in load_norms()}
    env = survey("norms@ar-2025", 20)
    for who, found in shares.items():
        for seed in range(60):
            env.reset(seed=seed)
            actor = Respondent(env, random.Random(seed), who)  # type: ignore[arg-type]
            for _ in range(20):
                said, item = actor.act(), env.item.id
                found[str(kinds[item])].append(answer_of(env.step(said)[-1]["executed"], "ar-2025") == YES)
    mean = {who: {kind: sum(said) / len(said) for kind, said in found.items()} for who, found in shares.items()}
    assert mean[""]["universal"] < 0.1 and mean[breaks]["universal"] == pytest.approx(WICKED, abs=0.06)
    for kind, before in (("own", 0.05), ("ours", 0.65)):
        assert mean[""][kind] == pytest.approx(before, abs=0.09)
        assert mean[breaks][kind] == pytest.approx(WICKED if kind in raised else before, abs=0.09)
