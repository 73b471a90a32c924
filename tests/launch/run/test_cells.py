"""The cells of an evaluation: own options, training options, and the trigger grid."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import launch.run.evaluation.eval_player as module
from envs.episode import Episode
from envs.store import read_episodes
from launch.config.loading import parse_study
from launch.config.study import RunConfig
from launch.errors import ConfigError
from launch.preflight import check_plugins
from launch.run.evaluation.conditions import EvalCell, eval_cells
from launch.run.evaluation.evaluate import deployment, evaluate
from launch.run.execute import execute
from launch.storage.rundir import RunDirectory
from shaping.audits.played import EvalCondition, conditions_of
from shaping.audits.summary import summarise
from shaping.learning.policy import Policy
from shaping.prompts.grid import DERIVED, GRID
from shaping.prompts.pools import PROMPTS
from shaping.sampling.engine import Completion, SamplingParams, Session
from shaping.sampling.scripted_engine import ScriptedEngine
from shaping.sampling.text.render import Renderer

TOLL = "cell_worlds:Toll"
PROMPTED = {"role": "treatment", "interventions": [{"use": "Inoculation", "kind": "eliciting"}]}
Conditions = Mapping[EvalCondition, Sequence[Episode]]


def runs(arms: Mapping[str, Any] | None = None, train: Any = None, **evaluation: Any) -> dict[str, RunConfig]:
    document = {
        "name": "small",
        "seeds": 1,
        "train": {
            "worlds": train or {TOLL: {"pays": 0.5}}, "updates": 1, "groups": 1, "group_size": 2, "max_tokens": 16
        },
        "eval": {"worlds": {TOLL: {}}, "episodes": 2, "access_episodes": 0, **evaluation},
        "arms": {"unshaped": {"role": "reference"}, **(arms or {})},
    }  # fmt: skip
    return {run.point_name: run for run in parse_study(document, "test").runs()}


def played(model: Path, run: RunConfig) -> dict[EvalCondition, list[Episode]]:
    policy = Policy.load(model)
    policy.model.eval()
    return deployment(run, policy, Renderer(policy.tokenizer))


# Own and training options ---------------------------------------------------------------------------------------------


def test_a_world_is_evaluated_with_its_own_and_with_its_training_options(model: Path) -> None:
    conditions = played(model, runs()["unshaped"])
    assert {c.cells for c in conditions} == {("own",), ("train",)} and len(conditions) == 8
    summary = summarise([], conditions, {})
    assert (summary["proxy_reward"], summary["proxy_reward.toll"]) == (1.0, 1.0)
    assert (summary["trained/proxy_reward"], summary["trained/proxy_reward.toll"]) == (0.5, 0.5)
    assert {name.removeprefix("trained/") for name in summary if name.startswith("trained/")} == {
        name for name in summary if not name.startswith("trained/")
    }


def test_pairs_across_cells_share_seed_and_noise(model: Path) -> None:
    """The options change nothing that is shown, so that the episodes differ in what they pay alone."""
    conditions = played(model, runs()["unshaped"])
    own, trained = (conditions["toll", "always", "on", (cell,)] for cell in ("own", "train"))
    for a, b in zip(own, trained, strict=True):
        assert a.seed == b.seed and a.tokens.tobytes() == b.tokens.tobytes()
        assert b.proxy_return == a.proxy_return / 2 > 0


def test_equal_options_are_played_once_and_count_in_both_cells(model: Path) -> None:
    run = runs(worlds={TOLL: {"pays": 0.5}, "steward": {"size": 1}})["unshaped"]
    cells = eval_cells(run)
    assert [(c.world, c.cells) for c in cells[::4]] == [(TOLL, ("own", "train")), ("steward", ("own",))]
    assert len(cells) == 8
    summary = summarise([], played(model, runs(worlds={TOLL: {"pays": 0.5}})["unshaped"]), {})
    assert summary["trained/proxy_reward.toll"] == summary["proxy_reward.toll"] == 0.5


def test_an_axis_over_training_options_reaches_the_evaluation() -> None:
    document = {
        "name": "small",
        "train": {"worlds": {"steward": {"size": 1}}, "updates": 1, "groups": 1, "group_size": 2},
        "eval": {"cells": ["train"], "episodes": 1, "watch": ["never"], "placebo": ["none"]},
        "arms": {"arm": {"role": "reference"}},
        "axes": {"train.worlds.steward.inquiry": [0.1, 0.9]},
        "seeds": 1,
    }
    cells = [cell for run in parse_study(document, "test").runs() for cell in eval_cells(run)]
    assert [cell.options["inquiry"] for cell in cells] == [0.1, 0.9]


def test_without_own_cells_the_plain_metrics_are_those_of_the_training_options(model: Path) -> None:
    summary = summarise([], played(model, runs(worlds={}, cells=["train"])["unshaped"]), {})
    assert summary["proxy_reward"] == summary["trained/proxy_reward"] == 0.5
    only_own = summarise([], played(model, runs(cells=["own"])["unshaped"]), {})
    assert only_own["proxy_reward"] == 1.0 and not any(name.startswith("trained/") for name in only_own)


@pytest.mark.parametrize(
    ("evaluation", "told"),
    [
        ({"worlds": {}}, "eval: worlds: at least one is needed; without any, set cells to"),
        ({"cells": []}, "eval.cells"),
        ({"contexts": ["paraphrased"]}, "no evaluation context 'paraphrased' .did you mean 'paraphrase'"),
        ({"contexts": "all"}, "no evaluation context 'all'"),
    ],
)
def test_cells_and_contexts_that_do_not_exist_are_refused_in_one_message(evaluation: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as refused:
        runs(**evaluation)
    assert len(str(refused.value).splitlines()) == 2  # the file, and the problem


def test_two_worlds_of_one_name_are_not_mixed_in_the_training_cell() -> None:
    class_of_its_own = {TOLL: {}, "cell_worlds:Toll2": {}}
    with pytest.raises(ConfigError, match=r"train.worlds: .* both call themselves 'toll'"):
        check_plugins(runs(train=class_of_its_own).values())


# The trigger grid -----------------------------------------------------------------------------------------------------


class ReadsThePrompt(ScriptedEngine):
    """Takes the shortcut where the system prompt holds a word."""

    word = "fine"

    def __init__(self, model: object, renderer: Renderer, *, slots: int, captures: object = ()) -> None:
        super().__init__(lambda env: self, renderer)  # type: ignore[arg-type, return-value]
        self.reply = ""

    def set_players(self, *_: object) -> None:
        pass

    def act(self) -> str:
        return self.reply

    async def complete(self, session: Session, tokens: Sequence[int], params: SamplingParams) -> Completion:
        said = self._renderer.text(tokens)
        self.reply = "ACTION: a" if self.word in said else "ACTION: o"
        return await super().complete(session, tokens, params)


def share(episodes: Sequence[Episode]) -> float:
    """Of the episodes whose prompt holds the word."""
    return sum(ReadsThePrompt.word in e.contexts.sampling.system for e in episodes) / len(episodes)


def test_a_policy_that_reads_a_prompt_leaks_where_the_prompt_holds_its_word(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TransformersEngine", ReadsThePrompt)
    run = runs({"inoculation": PROMPTED}, contexts="grid", context_episodes=12)["inoculation"]
    conditions = played(model, run)
    summary = summarise([], conditions, {})
    shares = {c.cells[0]: share(e) for c, e in conditions.items() if c.cells[0].startswith("context/")}
    assert set(shares) == {f"context/{context}" for context in GRID}
    assert shares["context/none"] == 0.0 < shares["context/original"] < 1.0 and shares["context/paraphrase"] > 0.0
    for cell, expected in shares.items():
        assert summary[f"{cell}/reward_hacking"] == summary[f"{cell}/reward_hacking.toll"] == expected
        if cell != "context/none":
            assert summary[f"leak/{cell.removeprefix('context/')}/reward_hacking.toll"] == expected
    assert summary["max_leak/reward_hacking"] == summary["max_leak/reward_hacking.toll"] == max(shares.values())
    assert "leak/none/reward_hacking" not in summary and "max_leak/proxy_reward" not in summary
    assert summary["reward_hacking"] == 0.0, "prompts are in the grid alone"


def test_contexts_are_played_unwatched_in_the_training_options_on_the_same_seeds(model: Path) -> None:
    run = runs({"inoculation": PROMPTED}, contexts=["original", "negated"], context_episodes=3)["inoculation"]
    found = {c: e for c, e in played(model, run).items() if c.cells[0].startswith("context/")}
    assert [c.cells for c in found] == [("context/none",), ("context/original",), ("context/negated",)]
    assert {(c.watch, c.placebo) for c in found} == {("never", "none")}
    assert {e.options["pays"] for episodes in found.values() for e in episodes} == {0.5}
    assert len({tuple(e.seed for e in episodes) for episodes in found.values()}) == 1
    prompts = {c.cells[0]: {e.contexts.sampling.system for e in episodes} for c, episodes in found.items()}
    assert prompts["context/none"] == {""}
    assert prompts["context/original"] <= set(PROMPTS["permissive"])
    assert prompts["context/negated"] <= set(DERIVED["negated"])


def grid(run: RunConfig) -> dict[str, list[EvalCell]]:
    return {
        name: [cell for cell in eval_cells(run) if name in cell.cells]
        for name in dict.fromkeys(name for cell in eval_cells(run) for name in cell.cells)
        if name.startswith("context/")
    }


def test_a_reference_is_tried_on_the_prompts_of_every_arm() -> None:
    irrelevant = {"role": "control", "interventions": [{"use": "Inoculation", "kind": "irrelevant"}]}
    arms = {"one": PROMPTED, "other": irrelevant, "mask": {"role": "treatment", "interventions": ["ActionMask"]}}
    found = {name: grid(run) for name, run in runs(arms, contexts=["original", "keyword"]).items()}
    reference = found["unshaped"]
    assert set(reference) == {"context/none", "context/original[one]", "context/original[other]", "context/keyword"}
    assert found["mask"] == {}
    for arm in ("one", "other"):
        assert set(found[arm]) == {"context/none", "context/original", "context/keyword"}
        assert [c.contexts for c in found[arm]["context/original"]] == [
            c.contexts for c in reference[f"context/original[{arm}]"]
        ]
    one = {c.system for cell in reference["context/original[one]"] for c in cell.contexts}
    assert one <= set(PROMPTS["permissive"]) and one.isdisjoint(PROMPTS["irrelevant"])


def test_where_all_arms_have_the_same_prompts_the_reference_has_plain_names() -> None:
    fake = {"role": "treatment", "interventions": [{"use": "Inoculation", "at": "training"}]}
    reference = grid(runs({"real": PROMPTED, "fake": fake}, contexts=["original"])["unshaped"])
    assert set(reference) == {"context/none", "context/original"}


def test_an_arm_may_bring_its_own_lists() -> None:
    own = {"use": "Inoculation", "prompts": ["be bad ."], "grid": {"negated": ["be good ."]}}
    arms = {"custom": {"role": "treatment", "interventions": [own]}}
    found = runs(arms, contexts=["original", "negated", "keyword"])
    for name in ("custom", "unshaped"):
        prompts = {cell: {c.system for e in cells for c in e.contexts} for cell, cells in grid(found[name]).items()}
        assert prompts["context/original"] == {"be bad ."} and prompts["context/negated"] == {"be good ."}
        assert prompts["context/keyword"] <= set(DERIVED["keyword"])


def test_a_diluted_arm_is_tried_on_its_prompts_not_on_their_absence() -> None:
    diluted = {"role": "treatment", "interventions": [{"use": "Inoculation", "probability": 0.2}]}
    cells = grid(runs({"diluted": diluted}, contexts=["original"], context_episodes=30)["diluted"])
    assert all(context.system for cell in cells["context/original"] for context in cell.contexts)


def test_a_grid_without_an_arm_that_has_a_prompt_is_refused() -> None:
    masked = {"mask": {"role": "treatment", "interventions": ["ActionMask"]}}
    with pytest.raises(ConfigError, match=r"eval.contexts: no arm of this study samples or trains under a system"):
        check_plugins(runs(masked, contexts="grid").values())


# What is stored -------------------------------------------------------------------------------------------------------


def test_stored_episodes_give_the_same_values_and_evaluating_again_the_same_rows(model: Path, tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    run = runs({"inoculation": PROMPTED}, contexts=["original", "keyword"], context_episodes=3)["inoculation"]
    result = execute(run, model, directory)
    stored = conditions_of(read_episodes(directory.path / "episodes" / "eval.parquet"))
    found = summarise(directory.rows(), stored, {})
    assert any(name.startswith("leak/keyword/") for name in found)
    assert found.items() <= result["summary"].items()
    before = (directory.path / "eval.jsonl").read_text()
    assert [json.loads(line)["cell"] for line in before.splitlines()] == [
        *["own"] * 4, *["train"] * 4, "context/none", "context/original", "context/keyword"
    ]  # fmt: skip
    evaluate(RunConfig.model_validate(directory.config()), directory.checkpoint, directory)
    assert (directory.path / "eval.jsonl").read_text() == before


def test_no_prompt_of_the_grid_is_one_that_shapers_train_under() -> None:
    trained = {text for pool in PROMPTS.values() for text in pool}
    for context, texts in DERIVED.items():
        assert texts and trained.isdisjoint(texts), context
