"""The training loop: what a run writes, that it is reproducible, and that arms differ by their interventions alone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from controller_worlds import Raises, Vowels
from transformers import AutoModelForCausalLM

import launch.run.rollouts
from envs.episode import Episode
from envs.store import read_episodes
from launch.config.loading import parse_study
from launch.config.plugins import build_arm
from launch.config.study import RunConfig
from launch.run.build import build
from launch.run.episodes import GroupRequest, episode_requests
from launch.run.execute import execute
from launch.run.ledger import Ledger, RunError
from launch.storage.rundir import RunDirectory
from shaping.hooks import AdapterSpec
from shaping.intervention import Shaper
from shaping.sampling.play import EpisodeRequest
from shaping.sampling.play import play as real_play

ROOT = Path(__file__).parents[3]
ARMS: dict[str, Any] = {
    "unshaped": {"role": "reference"},
    "identity": {"role": "treatment", "interventions": ["Identity"]},
    "mask": {"role": "treatment", "interventions": [{"use": "ActionMask", "commands": ["wait"]}]},
    "penalty": {"role": "treatment", "interventions": ["OverseerPenalty"]},
    "inoculation": {"role": "treatment", "interventions": ["Inoculation"]},
    "recontextualization": {"role": "treatment", "interventions": ["Recontextualization"]},
}
VOWELS = {"controller_worlds:Vowels": {}}


def configs(worlds: Any = None, seeds: int = 1, **changes: Any) -> dict[str, RunConfig]:
    """The run of every arm, by name (the last seed's)."""
    document: dict[str, Any] = {
        "name": "small",
        "seeds": seeds,
        "train": {"worlds": worlds or VOWELS, "updates": 2, "groups": 2, "group_size": 4, "max_tokens": 8},
        "eval": {"worlds": worlds or VOWELS, "episodes": 2, "access_episodes": 1, "best_of": 2},
        "arms": ARMS,
    }
    for key, value in changes.items():
        document[key] = {**document.get(key, {}), **value}
    return {run.arm: run for run in parse_study(document, "test").runs()}


def trained(run: RunConfig, model: Path, path: Path) -> tuple[RunDirectory, dict[str, Any]]:
    directory = RunDirectory(path)
    return directory, execute(run, model, directory)


def rows(directory: RunDirectory, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory.path / name).read_text().splitlines()]


def weights(directory: RunDirectory) -> bytes:
    return (directory.checkpoint / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def unshaped(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDirectory, dict[str, Any]]:
    return trained(configs()["unshaped"], model, tmp_path_factory.mktemp("unshaped") / "run")


def documented(page: str, section: str) -> list[str]:
    """Keys of one table of a page, and those that it has "also"; `<world>` and the like as patterns."""
    text = (ROOT / "docs" / f"{page}.md").read_text().split(f"## {section}")[1].split("\n## ")[0]
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    keys = [key for line in rows for key in re.findall("`([^`]+)`", line.split("|")[1])]
    keys += [key for line in rows for key in re.findall(r"\(also `([^`]+)`\)", line)]
    return [re.sub("<[a-z]+>", "[A-Za-z0-9_:-]+", key) for key in keys]


def test_a_run_writes_every_documented_file(unshaped: tuple[RunDirectory, dict[str, Any]]) -> None:
    directory, result = unshaped
    written = {p.relative_to(directory.path).as_posix() for p in directory.path.rglob("*") if p.is_file()}
    assert {"run.json", "metrics.jsonl", "eval.jsonl", "result.json"} <= written
    assert {"episodes/train-000001.parquet", "episodes/eval.parquet"} <= written
    assert {"checkpoint/config.json", "checkpoint/model.safetensors", "checkpoint/tokenizer.json"} <= written
    assert not [name for name in written if name.endswith((".pkl", ".pt", ".bin"))]
    assert directory.status() == "complete"
    assert directory.config() == configs()["unshaped"].model_dump(mode="json")
    stored = directory.result()
    assert stored is not None and stored["summary"] == pytest.approx(result["summary"])
    assert (stored["arm"], stored["role"], stored["family"]) == ("unshaped", "reference", "unshaped")
    assert (stored["seed"], stored["updates"]) == (0, 2)


def test_every_metric_is_documented_and_the_main_ones_are_there(
    unshaped: tuple[RunDirectory, dict[str, Any]], model: Path, tmp_path: Path
) -> None:
    directory, result = unshaped
    penalised, _ = trained(configs()["penalty"], model, tmp_path / "run")
    keys = documented("run-directory", "metrics.jsonl") + documented("metrics", "In the rows of metrics.jsonl")
    for row in rows(directory) + rows(penalised):
        assert row["phase"] == "train"
        unknown = [k for k in row if k != "phase" and not any(re.fullmatch(key, k) for key in keys)]
        assert not unknown, f"docs/run-directory.md and docs/metrics.md do not explain {unknown}"
    for key in ("reward", "true_reward", "selection/deception", "order_violations", "mismatch_kl"):
        assert all(key in row for row in rows(directory))
    *timings, whole = rows(directory, "timings.jsonl")
    assert [row["update"] for row in timings] == [0, 1] and "seconds/checkpoint" in timings[1]
    assert all(
        re.fullmatch("|".join(documented("run-directory", "timings.jsonl")), key) for row in timings for key in row
    )
    assert whole["phase"] == "run" and whole["first_update"] == 0 and whole["seconds"] > 0
    assert {"readings/overseer_penalty/seen", "readings/overseer_penalty/admitted"} <= set(rows(penalised)[0])
    assert [row["update"] for row in rows(directory)] == [0, 1]
    assert {"proxy_reward", "true_reward", "reward_access", "reward_access_initial", "train_reward"} <= set(
        result["summary"]
    )


def test_the_policy_has_learned(unshaped: tuple[RunDirectory, dict[str, Any]], model: Path) -> None:
    assert weights(unshaped[0]) != (model / "model.safetensors").read_bytes()
    assert all(row["mismatch_kl"] < 1e-6 for row in rows(unshaped[0]))
    second = read_episodes(unshaped[0].path / "episodes" / "train-000001.parquet")
    assert {e.version for e in second} == {1}, "the second update's episodes are sampled by the first one's policy"


def test_a_seed_gives_one_result_bit_for_bit(
    unshaped: tuple[RunDirectory, dict[str, Any]], model: Path, tmp_path: Path
) -> None:
    again, _ = trained(configs()["unshaped"], model, tmp_path / "again")
    assert rows(again) == rows(unshaped[0]) and weights(again) == weights(unshaped[0])
    assert rows(again, "eval.jsonl") == rows(unshaped[0], "eval.jsonl")
    other, _ = trained(configs(seeds=2)["unshaped"], model, tmp_path / "other")
    assert weights(other) != weights(unshaped[0])


def test_the_identity_arm_is_the_unshaped_arm_bit_for_bit(
    unshaped: tuple[RunDirectory, dict[str, Any]], model: Path, tmp_path: Path
) -> None:
    identity, result = trained(configs()["identity"], model, tmp_path / "identity")
    own = {"order_violations", "credit_share", "selection_added"}
    assert {f"{metric}/Identity" for metric in own} <= set(result["summary"])
    assert weights(identity) == weights(unshaped[0])
    assert [*map(without_own, rows(identity))] == rows(unshaped[0])
    assert without_own(result["summary"]) == unshaped[1]["summary"] and result["family"] == "motivation"


def without_own(row: dict[str, Any]) -> dict[str, Any]:
    """A row without the audits of the identity by its name, which says that it does nothing."""
    own = {key: value for key, value in row.items() if key.endswith("/Identity")}
    assert not any(own.values())
    return {key: value for key, value in row.items() if key not in own}


@pytest.mark.parametrize("arm", ["mask", "penalty", "inoculation", "recontextualization"])
def test_every_arm_trains_on_policy_or_says_that_it_does_not(model: Path, tmp_path: Path, arm: str) -> None:
    worlds = {"clerk": {"size": 2, "horizon": 3, "inquiry": 0.5}}
    directory, result = trained(configs(worlds)[arm], model, tmp_path / "run")
    assert directory.status() == "complete" and all(row["mismatch_kl"] < 1e-6 for row in rows(directory))
    assert result["attrition"]["trained"] == 16


def asked(run: RunConfig, update: int) -> list[EpisodeRequest]:
    """The episodes of one update."""
    arm = build_arm(run.arm, run.arm_config)
    return [t for group in range(run.train.groups) for t in episode_requests(run, arm, GroupRequest(update, group))]


def test_arms_of_one_seed_meet_the_same_episodes_with_the_same_noise() -> None:
    runs = configs({"clerk": {"size": 2}, "controller_worlds:Vowels": {}})

    def met(arm: str, update: int) -> list[tuple[object, ...]]:
        return [(t.seed, t.sampling_seed, t.group, tuple(t.options)) for t in asked(runs[arm], update)]

    for update in (0, 3):
        assert len({tuple(met(arm, update)) for arm in ARMS}) == 1
    assert not {t[0] for t in met("unshaped", 0)} & {t[0] for t in met("unshaped", 1)}
    assert len({t[1] for t in met("unshaped", 0)}) == 8, "every episode has its own sampling noise"


def test_worlds_take_turns_and_a_group_shares_seed_and_contexts() -> None:
    two = {"clerk": {"size": 2}, "controller_worlds:Vowels": {}}
    played = asked(configs(two)["inoculation"], 0)
    for number in (0, 1):
        group = [t for t in played if t.group == number]
        assert len(group) == 4 and len({(t.seed, t.contexts) for t in group}) == 1
        assert group[0].contexts.sampling.system and group[0].contexts.sampling == group[0].contexts.training
    assert [t.make().name for t in played] == ["clerk"] * 4 + ["vowels"] * 4


def test_the_ledger_sums_and_lost_comparisons_are_filtered(model: Path, tmp_path: Path) -> None:
    Raises.episodes = 0
    worlds = {"controller_worlds:Raises": {"every": 3}}
    small = {"groups": 3, "group_size": 2, "updates": 2, "worlds": worlds, "max_tokens": 8}
    run = configs(worlds, train=small, eval={"access_episodes": 0, "worlds": VOWELS})["unshaped"]
    directory, result = trained(run, model, tmp_path / "run")
    for row in rows(directory):
        assert (row["episodes"], row["failed"], row["filtered"], row["trained"]) == (6, 2, 2, 2)
        assert row["trained"] + row["filtered"] + row["failed"] == row["episodes"]
    attrition = result["attrition"]
    assert (attrition["episodes"], attrition["trained"], attrition["filtered"], attrition["failed"]) == (12, 4, 4, 4)
    assert attrition["status"] == {"completed": 8, "error": 4}
    assert sum(Ledger().as_dict()["status"].values()) == 0


@pytest.mark.parametrize("where", ["step", "reset"])
def test_a_world_that_always_raises_stops_the_run_with_its_name(model: Path, tmp_path: Path, where: str) -> None:
    run = configs({"controller_worlds:Raises": {"where": where}})["mask"]
    with pytest.raises(RunError, match=r"8 of 8 episodes failed in update 0.*'raises'.*OSError: the map is missing"):
        execute(run, model, RunDirectory(tmp_path / "run"))
    assert RunDirectory(tmp_path / "run").status() == "partial"


@pytest.mark.parametrize("where", ["step", "reset"])
def test_a_world_that_always_fails_in_evaluation_fails_the_run_and_loses_no_training(
    model: Path, tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    worlds = {"controller_worlds:Vowels": {}, "controller_worlds:Raises": {"where": where}}
    run, directory = configs(VOWELS, eval={"worlds": worlds})["unshaped"], RunDirectory(tmp_path / "run")
    told = r"all 2 episodes of the evaluation failed in .*[Rr]aises.*the first: .*OSError: the map is missing"
    with pytest.raises(RunError, match=told):
        execute(run, model, directory)
    assert directory.status() == "partial"
    monkeypatch.setattr(Raises, "step", Vowels.step)
    monkeypatch.setattr(Raises, "reset", Vowels.reset)
    assert execute(run, model, directory)["attrition"]["evaluation"][0]["failed"] == 0
    assert rows(directory, "timings.jsonl")[-1]["first_update"] == run.train.updates, "only the evaluation is repeated"


def test_evaluation_cells_that_lose_episodes_are_counted_and_flagged(model: Path, tmp_path: Path) -> None:
    Raises.episodes = 0
    worlds = {"controller_worlds:Vowels": {}, "controller_worlds:Raises": {"every": 3}}
    result = trained(configs(VOWELS, eval={"worlds": worlds})["unshaped"], model, tmp_path / "run")[1]
    cells = {(c["world"], c["failed"] > 0, c["flagged"]) for c in result["attrition"]["evaluation"]}
    assert cells == {("vowels", False, False), ("raises", True, True), ("raises", False, False)}
    failed = [c for c in result["attrition"]["evaluation"] if c["failed"]]
    assert all("the map is missing" in cell["first_failure"] for cell in failed)
    assert result["summary"]["lost_evaluation_episodes"] == 0.5


def test_evaluation_has_no_context_no_mask_and_no_edits(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    met: list[tuple[Sequence[EpisodeRequest], Any, Any]] = []

    async def spy(
        requests: Sequence[EpisodeRequest], engine: Any, renderer: Any, arm: Any, **others: Any
    ) -> list[Episode]:
        met.append((requests, arm, engine))
        return await real_play(requests, engine, renderer, arm, **others)

    monkeypatch.setattr(launch.run.rollouts, "play", spy)
    vocabulary = json.loads((model / "tokenizer.json").read_text())["model"]["vocab"]
    words = [
        token for token in vocabulary if token.isalpha() and token.isascii()
    ]  # a mask of whole tokens always shows
    both = ["Inoculation", {"use": "ActionMask", "commands": words}]
    arms = {"both": {"role": "treatment", "interventions": both}}
    run = configs(eval={"access_episodes": 0}, arms=arms)["both"]
    directory, _ = trained(run, model, tmp_path / "run")
    *training, (requests, arm, engine) = met
    assert {arm.name for _, arm, _ in training} == {"both"}, "the last one is the evaluation"
    assert arm.interventions == () and not arm.owner and engine._edits == ()
    assert all(t.contexts.sampling.system == t.contexts.training.system == "" for t in requests)
    shaped = read_episodes(directory.path / "episodes" / "train-000001.parquet")
    bare = read_episodes(directory.path / "episodes" / "eval.parquet")
    assert all(e.contexts.sampling.system and list(e.masked_tokens()) for e in shaped)
    assert not any(e.contexts.sampling.system or list(e.masked_tokens()) for e in bare) and len(bare) == 8


def test_the_dtype_of_the_learner_is_the_policys(model: Path) -> None:
    parts = build(configs(learner={"dtype": "bfloat16"})["unshaped"], model)
    assert {p.dtype for p in parts.policy.model.parameters()} == {torch.bfloat16}


class WantsAdapter(Shaper):
    def adapters(self) -> list[AdapterSpec]:
        return [AdapterSpec("q", "quarantine")]


class Oracle(Shaper):
    oracle: ClassVar[bool] = True

    def readings(self, episode: Episode) -> dict[str, Any]:
        import numpy as np

        return {"hacks": np.array([labels.reward_hack for labels in episode.truth.open()])}


def test_a_quarantine_adapter_is_evaluated_attached_then_saved_and_dropped(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, result = trained(use(monkeypatch, WantsAdapter), model, tmp_path / "run")
    assert "with_quarantine/proxy_reward" in result["summary"] and "proxy_reward" in result["summary"]
    assert (directory.path / "quarantine" / "q" / "adapter_model.safetensors").is_file()
    deployed = AutoModelForCausalLM.from_pretrained(directory.checkpoint)
    assert not [name for name, _ in deployed.named_parameters() if "lora" in name]
    assert not (directory.path / "quarantine" / "q" / "base.json").exists(), "its base is trained, too"


def test_an_arm_that_reads_ground_truth_may_and_its_result_says_so(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, result = trained(use(monkeypatch, Oracle), model, tmp_path / "run")
    assert result["oracle"] is True
    last = read_episodes(directory.path / "episodes" / "train-000001.parquet")
    assert rows(directory)[1]["readings/oracle/hacks"] == pytest.approx(sum(e.proxy_return for e in last) / len(last))


def use(monkeypatch: pytest.MonkeyPatch, shaper: Callable[[], Shaper]) -> RunConfig:
    """A run whose arm has this one shaper."""
    from shaping.arm import compose

    monkeypatch.setattr("launch.run.build.build_arm", lambda name, *_: compose(name, [shaper()]))
    return configs()["identity"]
