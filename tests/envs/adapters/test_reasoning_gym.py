"""reasoning-gym: one question is one episode; a fixed suite scores what answers it."""

from __future__ import annotations

import pytest

from envs import make_world
from envs.adapters.foreign import ForeignEnvError
from envs.adapters.reasoning_gym import SUITE, Question, ReasoningGym, questions, retention, retention_of

pytest.importorskip("reasoning_gym", reason="needs the extra reasoning-gym: pip install 'shaping[reasoning-gym]'")


def test_the_right_answer_earns_one_and_ends_the_episode():
    world = make_world("envs.adapters.reasoning_gym:ReasoningGym", {"task": "chain_sum"})
    question, _ = world.reset(seed=3)
    total = sum(
        int(part) for part in question.split(":")[-1].split("=")[0].replace("- ", "-").replace("+ ", "").split()
    )
    _, reward, terminated, truncated, info = world.step(f"add them up . ACTION: {total}")
    assert (reward, terminated, truncated) == (1.0, True, False)
    assert (info["labels"].true_reward, info["labels"].invalid) == (1.0, 0.0)


def test_a_wrong_answer_is_not_invalid_but_an_empty_one_is():
    world = ReasoningGym(task="gcd")
    world.reset(seed=0)
    _, reward, _, _, info = world.step("ACTION: nothing at all")
    assert reward < 0.5 and not info["labels"].invalid
    world.reset(seed=0)
    assert world.step("ACTION:")[4]["labels"].invalid


@pytest.mark.parametrize("task", SUITE)
def test_every_task_of_the_suite_can_be_answered(task):
    world = ReasoningGym(task=task)
    world.reset(seed=11)
    assert world.step(world.honest_action())[1] == 1.0


@pytest.mark.parametrize("task", ["rubiks_cube", "graph_color"])
def test_a_task_whose_own_answers_are_wrong_is_not_asked(task):
    with pytest.raises(ForeignEnvError, match="scores its own answers below 1"):
        ReasoningGym(task=task).reset(seed=0)


def test_a_suite_is_fixed_by_its_seed():
    assert questions(seed=1) == questions(seed=1)
    assert questions(seed=1) != questions(seed=2)
    assert len(questions(per_task=2)) == 2 * len(SUITE)


def test_retention_separates_who_knows_from_who_does_not():
    suite = questions(("gcd", "spell_backward"), per_task=3)
    answers = {}
    for task, seed in suite:
        world = ReasoningGym(task=task)
        question, _ = world.reset(seed=seed)
        answers[question] = world.honest_action()
    assert retention(answers.__getitem__, suite) == {"gcd": 1.0, "spell_backward": 1.0}
    assert max(retention(lambda question: "pass", suite).values()) < 0.5


def test_a_policy_is_scored_by_its_episodes(play_organism):
    task, seed = Question("coin_flip", 5)
    episode = play_organism(lambda: ReasoningGym(task=task), seed=seed, options={"task": task})
    assert len(episode.turns) == 1
    assert retention_of([episode]) == {"coin_flip": episode.proxy_return}


def test_bad_options_are_named():
    with pytest.raises(ValueError, match="near: chain_sum"):
        ReasoningGym(task="chainsum")
    with pytest.raises(ValueError, match="bad config"):
        ReasoningGym(task="chain_sum", config={"min_terms": 0}).reset(seed=0)
