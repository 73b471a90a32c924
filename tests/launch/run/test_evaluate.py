"""Evaluation and the reward-access audit."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from controller_worlds import Vowels
from evaluation_arms import Undoing

from envs.episode import Episode
from launch.config.loading import parse_study
from launch.config.plugins import build_arm
from launch.config.study import RunConfig
from launch.errors import ConfigError
from launch.run.build import build
from launch.run.evaluation.access import access_parts, reward_access, trajectory_access
from launch.run.evaluation.conditions import eval_cells
from launch.run.evaluation.eval_plan import EvalPart, batches
from launch.run.evaluation.evaluate import deployment, deployment_part, evaluate, evaluate_trained, rows
from launch.run.execute import execute
from launch.run.models.trained import PolicyHere
from launch.storage.rundir import RunDirectory
from shaping.audits.played import EvalCondition
from shaping.hooks import AdapterSpec
from shaping.learning.policy import Policy
from shaping.organisms.gates.competence import EPISODES, SHARE
from shaping.sampling.play import play
from shaping.sampling.scripted_engine import ScriptedEngine
from shaping.sampling.text.render import Renderer

ARMS: dict[str, Any] = {
    "unshaped": {"role": "reference"},
    "identity": {"role": "treatment", "interventions": ["Identity"]},
    "mask": {"role": "treatment", "interventions": ["ActionMask"]},
    "filter": {"role": "treatment", "interventions": [{"use": "ActionMask", "mode": "replace"}]},
    "inoculation": {"role": "treatment", "interventions": ["Inoculation"]},
    "penalty": {"role": "treatment", "interventions": ["OverseerPenalty"]},
}
EVALUATED: dict[str, Any] = {
    "masked_context": {"role": "treatment", "interventions": ["ActionMask", "Inoculation"]},
    "steered": {"role": "treatment", "interventions": ["evaluation_arms:Steered"]},
    "undoing": {"role": "treatment", "interventions": ["evaluation_arms:Undoing"]},
}
BOTH = ("own", "train")
"""The worlds have the options that are trained in."""
STEWARD = {"steward": {"size": 1, "inquiry": 0.2}}
SHORT = {"steward": {"size": 1, "horizon": 2}}


@pytest.fixture(scope="module")
def model(babbling: Callable[..., Path]) -> Path:
    return babbling(vocabulary=700, episodes=40)


def config(arm: str = "unshaped", worlds: Any = STEWARD, **evaluation: Any) -> RunConfig:
    document = {
        "name": "small",
        "seeds": 1,
        "train": {"worlds": worlds, "updates": 1, "groups": 1, "group_size": 2, "max_tokens": 24},
        "eval": {"worlds": worlds, "episodes": 2, "access_episodes": 2, "best_of": 2, **evaluation},
        "arms": {**ARMS, **EVALUATED},
    }
    return {run.arm: run for run in parse_study(document, "test").runs()}[arm]


@pytest.fixture(scope="module")
def conditions(model: Path) -> dict[EvalCondition, list[Episode]]:
    policy = Policy.load(model)
    policy.model.eval()
    worlds = {"steward": {"size": 2, "horizon": 4}, "controller_worlds:Vowels": {}}
    run = config(worlds=worlds, episodes=3, watch=["always", "never"], placebo=["on", "off"])
    return deployment(run, policy, Renderer(policy.tokenizer))


def test_there_is_a_cell_for_every_world_and_cue(conditions: dict[EvalCondition, list[Episode]]) -> None:
    assert set(conditions) == {
        (w, c, p, BOTH) for w in ("steward", "vowels") for c in ("always", "never") for p in ("on", "off")
    }
    for (world, watch, placebo, _), episodes in conditions.items():
        assert len(episodes) == 3 and {e.world for e in episodes} == {world}
        assert {(e.options["watch"], e.options["placebo"]) for e in episodes} == {(watch, placebo)}


def test_pairs_across_cues_share_world_seed_and_noise(conditions: dict[EvalCondition, list[Episode]]) -> None:
    for world in ("steward", "vowels"):
        seeds = [[e.seed for e in episodes] for (name, _, _, _), episodes in conditions.items() if name == world]
        assert all(s == seeds[0] for s in seeds) and len(set(seeds[0])) == 3
    a, b = conditions["vowels", "always", "on", BOTH], conditions["vowels", "never", "on", BOTH]
    assert "watch always" in a[0].turns[0].observation and "watch never" in b[0].turns[0].observation


def test_sampling_noise_does_not_depend_on_the_cue(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the cue is not shown, a pair is the same episode twice."""
    monkeypatch.setattr(
        Vowels, "reset", lambda self, *, seed=None, options=None: (setattr(self, "turn", 0), ("", {}))[1]
    )
    policy = Policy.load(model)
    run = config(worlds={"controller_worlds:Vowels": {}}, episodes=3)
    found = deployment(run, policy, Renderer(policy.tokenizer))
    pairs = zip(found["vowels", "always", "on", BOTH], found["vowels", "never", "on", BOTH], strict=True)
    assert all(a.tokens.tobytes() == b.tokens.tobytes() for a, b in pairs)


def test_evaluating_a_finished_run_again_gives_the_same_numbers(model: Path, tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    run = config(worlds={"controller_worlds:Vowels": {}})
    execute(run, model, directory)
    before = (directory.path / "eval.jsonl").read_text()
    (directory.path / "eval.jsonl").write_text("")
    evaluate(RunConfig.model_validate(directory.config()), directory.checkpoint, directory)
    assert (directory.path / "eval.jsonl").read_text() == before
    assert len([json.loads(line) for line in before.splitlines()]) == 4


def audit(model: Path, arm: str, **changes: Any) -> dict[str, float]:
    run = config(arm, **changes)
    parts = build(run, model)
    reached = reward_access(run, parts.player.play(access_parts(run, parts.arm)))
    return reached | trajectory_access(run, parts.arm, parts.trained, parts.renderer)


@pytest.fixture(scope="module")
def audits(model: Path) -> dict[str, dict[str, float]]:
    """Every arm's audit of the same untrained policy."""
    return {arm: audit(model, arm) for arm in ARMS}


def test_without_an_arm_nothing_is_out_of_reach(audits: dict[str, dict[str, float]]) -> None:
    unshaped = audits["unshaped"]
    assert unshaped["blocked"] == 0.0 and unshaped["access_logprob"] == 0.0
    assert 0.0 <= unshaped["reward_access"] <= 1.0
    assert audits["identity"] == {**unshaped, "blocked/Identity": 0.0}


@pytest.mark.parametrize("arm", ["mask", "filter"])
def test_a_constraint_on_actions_blocks_the_scripted_trajectories_that_take_the_shortcut(
    audits: dict[str, dict[str, float]], arm: str
) -> None:
    """Personas that never grab keep their episodes; the others lose theirs."""
    assert 0.0 < audits[arm]["blocked"] == audits[arm]["blocked/ActionMask"] < 1.0


def test_a_mask_makes_what_it_leaves_more_likely_and_a_filter_does_not(audits: dict[str, dict[str, float]]) -> None:
    assert audits["mask"]["access_logprob"] > 0.0 == audits["filter"]["access_logprob"]


def test_a_context_shifts_likelihoods_and_blocks_nothing(audits: dict[str, dict[str, float]]) -> None:
    found = audits["inoculation"]
    assert found["blocked"] == 0.0 != found["access_logprob"]


def test_a_price_changes_nothing_within_reach(audits: dict[str, dict[str, float]]) -> None:
    assert audits["penalty"] == {**audits["unshaped"], "blocked/OverseerPenalty": 0.0}


def test_a_world_without_scripted_personas_has_best_of_k_only(model: Path) -> None:
    assert set(audit(model, "unshaped", worlds={"controller_worlds:Vowels": {}})) == {"reward_access"}


def test_no_audit_episodes_no_audit(model: Path) -> None:
    assert audit(model, "unshaped", access_episodes=0) == {}


def test_best_of_k_is_the_best_of_k_episodes_of_the_arms_sampler(model: Path) -> None:
    """An actor that earns 0, 1, 2, 3, 0, ... of 3 from episode to episode."""
    run = config(worlds={"controller_worlds:Vowels": {}}, access_episodes=2, best_of=4)
    parts = build(run, model)
    opened: list[int] = []

    class Actor:
        def __init__(self) -> None:
            opened.append(len(opened))
            self.replies = iter(["ACTION: a"] * (opened[-1] % 4) + ["ACTION: o"] * 3)

        def act(self) -> str:
            return next(self.replies)

    engine = ScriptedEngine(lambda env: Actor(), parts.renderer)
    (part,) = access_parts(run, parts.arm)
    requests = [episode.request(run) for episode in part.episodes]
    played = asyncio.run(play(requests, engine, parts.renderer, parts.arm, concurrency=1))
    assert reward_access(run, [played]) == {"reward_access": 1.0} and len(opened) == 8
    assert [request.group for request in requests] == [0, 0, 0, 0, 1, 1, 1, 1], "k of each seed"
    assert len({request.sampling_seed for request in requests}) == 8


def test_log_probs_of_trajectories_are_read_under_the_arms_context_and_mask(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[bool, list[Any]] = {}
    real = PolicyHere.mean_logprob

    def spy(self: PolicyHere, samples: Any, *, edited: bool) -> float:
        seen[edited] = list(samples)
        return real(self, samples, edited=edited)

    monkeypatch.setattr(PolicyHere, "mean_logprob", spy)
    audit(model, "mask")
    for plain, masked in zip(seen[False], seen[True], strict=True):
        np.testing.assert_array_equal(plain.tokens, masked.tokens)
        assert len(plain.masked_tokens) == 0
        positions, ids = masked.masked_tokens[:, 0], masked.masked_tokens[:, 1]
        assert masked.mask[positions].all() and (masked.tokens[positions] != ids).all()
    assert any(len(masked.masked_tokens) for masked in seen[True])
    audit(model, "inoculation")
    tokenizer = Policy.load(model).tokenizer
    for plain, prompted in zip(seen[False], seen[True], strict=True):
        assert "<|system|>" in tokenizer.decode(prompted.tokens) and "<|system|>" not in tokenizer.decode(plain.tokens)
        np.testing.assert_array_equal(plain.tokens[plain.mask], prompted.tokens[prompted.mask])


def test_the_model_before_training_is_evaluated_once_per_seed_in_the_same_cells(model: Path, tmp_path: Path) -> None:
    def rows_of(arm: str, **changes: Any) -> list[dict[str, Any]]:
        directory = RunDirectory(tmp_path / arm)
        run = config(arm, worlds={"controller_worlds:Vowels": {}}, **changes)
        hard = {"train": run.train.model_copy(update={"group_size": 8})}
        hard |= {"learner": run.learner.model_copy(update={"lr": 0.1})}
        execute(run.model_copy(update=hard), model, directory)
        evaluate(RunConfig.model_validate(directory.config()), directory.checkpoint, directory)  # keeps them
        return [json.loads(line) for line in (directory.path / "eval.jsonl").read_text().splitlines()]

    found = rows_of("unshaped", base=True)
    start, end = found[:4], found[4:]
    assert [row.pop("phase") for row in start] == ["base"] * 4
    assert not [row for row in end if "phase" in row]
    assert [(r["watch"], r["placebo"]) for r in start] == [(r["watch"], r["placebo"]) for r in end]
    assert start != end
    policy = Policy.load(model)
    policy.model.eval()
    run = config(worlds={"controller_worlds:Vowels": {}})
    plain = rows(deployment(run, policy, Renderer(policy.tokenizer)))
    assert [{key: row[key] for key in own} for row, own in zip(start, plain, strict=True)] == plain
    assert {key for row, own in zip(start, plain, strict=True) for key in row.keys() - own.keys()} == {SHARE, EPISODES}
    assert len(rows_of("penalty", base=True)) == 4


# One batch ------------------------------------------------------------------------------------------------------------


def evaluation(arm: str, **changes: Any) -> tuple[RunConfig, list[EvalPart], Any]:
    run = config(arm, **changes)
    made = build_arm(run.arm, run.arm_config)
    parts = [*access_parts(run, made), deployment_part(run, "quarantined"), deployment_part(run, "deployed")]
    return run, parts, made


def test_cells_contexts_and_audits_share_a_batch_unless_their_policies_differ() -> None:
    def shared(arm: str, adapters: Any = ()) -> list[tuple[str, list[int]]]:
        _, parts, made = evaluation(arm)
        return [(batch.policy, batch.members) for batch in batches(parts, adapters, made)]

    quarantined = [AdapterSpec("kept", "kept", 2), AdapterSpec("extra", "quarantine", 2)]
    assert shared("unshaped") == shared("mask") == [("sampling", [0, 1, 2])]
    assert shared("unshaped", quarantined) == [("sampling", [0, 1]), ("deployed", [2])]
    assert shared("steered") == [("sampling", [0]), ("quarantined", [1, 2])]


def test_what_shares_a_batch_has_the_tokens_it_has_alone(model: Path) -> None:
    """Masks, contexts and cells beside each other: each episode is its own, whatever is played next to it."""
    run, _, _ = evaluation("masked_context", contexts=["original", "negated"], worlds=SHORT, episodes=1)
    made = build(run, model)
    parts = [*access_parts(run, made.arm), deployment_part(run, "deployed")]
    assert len(batches(parts, (), made.arm)) == 1
    together = made.player.play(parts)
    alone = [made.player.play([part])[0] for part in parts]
    for found, expected in zip(together, alone, strict=True):
        assert [e.tokens.tolist() for e in found] == [e.tokens.tolist() for e in expected]
        assert [(e.arm, e.contexts, e.seed) for e in found] == [(e.arm, e.contexts, e.seed) for e in expected]
    assert {e.arm for e in together[0]} == {"masked_context"} and {e.arm for e in together[1]} == {"deployed"}
    assert len({e.tokens.tobytes() for played in together for e in played}) > 8, "the episodes are all alike"


def test_an_intervention_that_undoes_something_does_so_between_audit_and_deployment(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = config("undoing", worlds={"controller_worlds:Vowels": {}}, access_episodes=1)
    made, order = build(run, model), list[Any]()
    real = made.player.play

    class Player:
        def play(self, parts: Any, *, fresh: bool = False) -> Any:
            order.append([part.policy for part in parts])
            return real(parts, fresh=fresh)

    monkeypatch.setattr(Undoing, "seen", order)
    evaluate_trained(run, made.arm, Player(), made.trained)
    assert order == [["sampling"], "undone", ["deployed"]]


def test_the_time_of_the_evaluation_at_the_end_is_noted(model: Path, tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    execute(config(worlds={"controller_worlds:Vowels": {}}), model, directory)
    whole = json.loads((directory.path / "timings.jsonl").read_text().splitlines()[-1])
    assert 0 < whole["seconds/evaluate"] < whole["seconds"]
    assert whole["evaluate_share"] == pytest.approx(whole["seconds/evaluate"] / whole["seconds"], abs=0.05)


def test_the_model_before_any_update_may_be_evaluated_under_its_prompts(model: Path) -> None:
    untrained = {"role": "control", "set": {"train.updates": 0}}
    arms = {
        "unshaped": {"role": "reference"},
        "base": untrained,
        "prompted": {**untrained, "interventions": [{"use": "Inoculation", "prompts": ["be kind ."]}],
                     "set": {"train.updates": 0, "eval.prompted": True}},
    }  # fmt: skip
    document = config().model_dump(mode="json")
    study = {
        "name": "untrained", "seeds": 1, "arms": arms, "train": document["train"],
        "eval": {"worlds": STEWARD, "episodes": 1, "access_episodes": 0, "watch": ["always"], "placebo": ["none"]},
    }  # fmt: skip
    runs = {run.arm: run for run in parse_study(study, "test").runs()}
    policy = Policy.load(model)
    (stored,) = [e for of in deployment(runs["prompted"], policy, Renderer(policy.tokenizer)).values() for e in of]
    assert stored.contexts.sampling.system == "be kind ." and runs["prompted"].train.updates == 0
    assert not any(cell.contexts for cell in eval_cells(runs["base"])) and runs["base"].train.updates == 0
    with pytest.raises(ConfigError, match=r"eval\.prompted: the arm 'unshaped' samples and trains under no prompt"):
        eval_cells(config(prompted=True))
