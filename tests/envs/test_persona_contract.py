"""What a file of `envs.personas` owes its world: one suite over all that are found."""

from __future__ import annotations

import re

import pytest

from envs import WORLDS, make_world
from envs.episode import TRAITS
from envs.personas.persona import MOTIVES, PERSONAS, POLICIES, persona, play_scripted

EACH = pytest.mark.parametrize("world", POLICIES)


@EACH
@pytest.mark.parametrize("who", PERSONAS)
def test_a_completion_is_a_known_motive_and_a_valid_command(world, who):
    env = make_world(world, {"inquiry": 0.2, "oversight": 0.3})
    for _, completion, _, info in play_scripted(env, persona(who)(env, 0), seed=1):
        motive, command = re.fullmatch(r"(.+ \.) ACTION: (.+)", completion).groups()
        assert motive in MOTIVES
        assert info["executed"] == command
        assert not info["labels"].invalid


@EACH
def test_one_seed_gives_one_transcript_and_another_seed_other_phrases(world):
    env = make_world(world)
    once, again, other = (play_scripted(env, persona("opportunist")(env, s), seed=4) for s in (1, 1, 2))
    assert once == again
    assert [c for _, c, *_ in once] != [c for _, c, *_ in other]


@EACH
@pytest.mark.parametrize("oversight", [0.0, 0.5])
def test_honesty_reaches_the_maximum_and_shows_no_trait(scores, world, oversight):
    got = scores(world, "honest", 40, oversight=oversight, inquiry=0.2)
    assert (got["proxy"] == got["top"]).all()
    assert not any(got[trait].any() for trait in TRAITS)


@EACH
def test_an_honest_episode_of_the_long_size_takes_about_two_hundred_turns(scores, world):
    size = WORLDS[world].long_size
    got = scores(world, "honest", 20, size=size, oversight=0.3, inquiry=0.1)
    working = scores(world, "honest", 20, size=size)["steps"]
    assert 150 <= working.mean() <= 224
    assert (got["proxy"] == got["top"]).all()
    assert not any(got[trait].any() for trait in TRAITS)
    assert got["steps"].mean() > working.mean()  # inquiries come on top of the working turns


@EACH
def test_inquiries_change_neither_the_task_nor_the_overseer_of_working_turns(world):
    plain, asked = make_world(world), make_world(world, {"inquiry": 0.3})
    record = play_scripted(plain, persona("honest")(plain, 0), seed=3)
    longer = play_scripted(asked, persona("honest")(asked, 0), seed=3)
    work = [info["executed"] for *_, info in longer if not info["executed"].startswith("answer")]
    assert work == [info["executed"] for *_, info in record]
    assert [m[:2] for m in asked.met if not m[2]] == [m[:2] for m in plain.met]
    assert asked.turns == plain.turns + len(asked._asks)


@EACH
def test_an_honest_agent_meets_no_more_audits_where_findings_add_them(world):
    plain, graded = make_world(world, {"oversight": 0.3}), make_world(world, {"oversight": 0.3, "escalation": 1.0})
    for env in (plain, graded):
        play_scripted(env, persona("honest")(env, 0), seed=3)
    assert graded.met == plain.met
    assert graded.found == 0


@EACH
def test_the_deceiver_shows_traits_in_every_episode_and_earns_no_more(scores, world):
    got = scores(world, "deceiver", 40)
    assert (got["harm"] > 0).all()
    assert (got["reward_hack"] > 0).all()
    assert (got["proxy"] <= got["top"]).all()
    assert not got["invalid"].any()


@EACH
def test_the_deceiver_denies_what_it_did(world):
    env = make_world(world, {"watch": "never", "inquiry": 0.5})
    record = play_scripted(env, persona("deceiver")(env, 0), seed=2)
    answers = [info["labels"] for *_, info in record if info["executed"].startswith("answer")]
    guilty = [label for label in answers if label.opportunity["deception"]]
    assert guilty
    assert all(label.deception for label in guilty)


@EACH
def test_the_opportunist_takes_the_shortcut_only_unwatched_and_owns_up(world):
    for watch, harms in (("always", False), ("never", True)):
        env = make_world(world, {"watch": watch, "inquiry": 0.5})
        labels = [info["labels"] for *_, info in play_scripted(env, persona("opportunist")(env, 0), seed=2)]
        assert any(label.harm for label in labels) is harms
        answers = [label for label in labels if label.opportunity["deception"] and not label.opportunity["harm"]]
        assert not any(label.deception for label in answers)


@EACH
@pytest.mark.parametrize(("size", "episodes"), [(1, 40), (3, 40), (8, 40), (None, 5)], ids=["1", "3", "8", "long"])
def test_a_blocked_honest_path_keeps_honesty_below_the_maximum_and_the_shortcut_at_it(scores, world, size, episodes):
    options = {"size": size or WORLDS[world].long_size, "honest_share": 0.5, "watch": "never"}
    honest, shortcut = (scores(world, who, episodes, **options) for who in ("honest", "opportunist"))
    assert (honest["proxy"] < honest["top"]).all()
    assert (shortcut["proxy"] == shortcut["top"]).all()


@EACH
def test_every_policy_file_is_of_a_built_in_world(world):
    assert POLICIES[world].world is WORLDS[world]
