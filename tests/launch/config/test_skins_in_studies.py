"""A study names languages and eras in the names of its worlds, with incentives of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from envs.skins import LOCALES
from launch.check import check_plugin
from launch.config.loading import load_study, parse_study, to_yaml
from launch.config.plugins import build_arm, build_world
from launch.config.study import RunConfig
from launch.errors import ConfigError, UserError
from launch.preflight import check_plugins
from launch.run.evaluation.access import trajectory_access
from launch.run.evaluation.evaluate import deployment
from launch.run.models.trained import PolicyHere
from shaping.learning.policy import Policy
from shaping.organisms.config import OrganismConfig
from shaping.organisms.organism import ensure
from shaping.sampling.text.render import Renderer

EVERY = {"clerk" if locale == "en-2025" else f"clerk@{locale}" for locale in LOCALES}


def document(train: Any, evaluation: Any, **more: Any) -> dict[str, Any]:
    return {
        "name": "locales",
        "seeds": 1,
        "train": {"worlds": train, "updates": 1, "groups": 1, "group_size": 2, "max_tokens": 24},
        "eval": {"worlds": evaluation, "episodes": 1, "access_episodes": 1, "best_of": 2, "watch": ["always"]},
        "arms": {
            "unshaped": {"role": "reference"},
            "mask": {"role": "treatment", "interventions": [{"use": "ActionMask", "mode": "replace"}]},
        },
        **more,
    }


def run_of(*arguments: Any, arm: str = "unshaped", **more: Any) -> RunConfig:
    return {run.arm: run for run in parse_study(document(*arguments, **more), "test").runs()}[arm]


class TestNames:
    def test_all_stands_for_the_eight_cells_and_a_cell_adds_to_its_options(self) -> None:
        worlds = run_of({"clerk@all": {"size": 4, "oversight": 0.9}, "clerk@ar-1850": {"oversight": 0}}, {"clerk": {}})
        assert set(worlds.train.worlds) == EVERY
        assert worlds.train.worlds["clerk@ar-1850"] == {"size": 4, "oversight": 0}
        assert worlds.train.worlds["clerk"] == worlds.train.worlds["clerk@en-1950"] == {"size": 4, "oversight": 0.9}

    def test_one_can_train_in_one_cell_and_probe_all(self) -> None:
        run = run_of({"clerk@ar-1850": {"size": 3}}, {"clerk@all": {"size": 3}})
        assert list(run.train.worlds) == ["clerk@ar-1850"]
        assert set(run.eval.worlds) == EVERY
        check_plugins([run])

    def test_a_cell_that_the_options_say_is_put_into_the_name_that_episodes_and_reports_use(self) -> None:
        run = run_of({"clerk": {"lang": "ar", "era": 1850, "size": 3}}, {"steward": {"era": 1950}})
        assert run.train.worlds == {"clerk@ar-1850": {"size": 3}}
        assert run.eval.worlds == {"steward@en-1950": {}}
        swept = parse_study(document({"clerk": {}}, {"clerk": {}}, axes={"train.worlds.clerk.lang": ["en", "ar"]}), "t")
        assert {name for run in swept.runs() for name in run.train.worlds} == {"clerk", "clerk@ar-2025"}

    def test_the_default_cell_may_be_named_in_a_key_as_in_a_world(self) -> None:
        axes = {"train.worlds.clerk@en-2025.oversight": [0.5]}
        assert run_of({"clerk@en-2025": {}}, {"clerk": {}}, axes=axes).train.worlds == {"clerk": {"oversight": 0.5}}

    def test_the_resolved_file_reads_back_as_the_same_study(self, tmp_path: Path) -> None:
        study = parse_study(document({"clerk@en-2025": {}}, {"clerk@all": {"size": 3}}), "test")
        (tmp_path / "again.yaml").write_text(to_yaml(study), encoding="utf-8")
        assert load_study(tmp_path / "again.yaml") == study
        assert list(study.train.worlds) == ["clerk"]

    def test_an_axis_and_an_override_may_set_all_cells_at_once(self, tmp_path: Path) -> None:
        axes = {"train.worlds.clerk@all.oversight": [0.1, 0.2], "eval.worlds.clerk@ar-2090.size": [2]}
        study = parse_study(document({"clerk@all": {}}, {"clerk@ar-2090": {}}, axes=axes), "test")
        for run in study.runs():
            assert {options["oversight"] for options in run.train.worlds.values()} == {run.sweep_point["oversight"]}
            assert run.eval.worlds == {"clerk@ar-2090": {"size": 2}}
        (tmp_path / "study.yaml").write_text(to_yaml(study), encoding="utf-8")
        changed = load_study(tmp_path / "study.yaml", ["train.worlds.clerk@all.penalty=3"])
        assert {options["penalty"] for options in changed.train.worlds.values()} == {3}
        assert set(changed.train.worlds) == EVERY

    @pytest.mark.parametrize(
        ("worlds", "message"),
        [
            ({"clerk@ar-1851": {}}, "did you mean 'ar-1850'"),
            ({"clerk@latin": {}}, "unknown skin 'latin'"),
            ({"clerk": {}, "clerk@en-2025": {}}, "named twice"),
            ({"clerk": {"lang": "ar"}, "clerk@ar-2025": {}}, "named twice"),
        ],
    )
    def test_wrong_names_are_refused_when_the_study_is_read(self, worlds: Any, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            parse_study(document(worlds, {"clerk": {}}), "test")

    def test_worlds_that_cannot_be_built_name_the_place(self) -> None:
        with pytest.raises(UserError, match=r"eval\.worlds: .*its options say 'en'"):
            build_world("clerk@ar-1850", {"lang": "en"}, "eval.worlds")
        with pytest.raises(UserError, match=r"clark.*clerk"):
            build_world("clark@ar-1850", {})
        with pytest.raises(ConfigError, match="has no skins"):
            build_world("envs.adapters.reasoning_gym:ReasoningGym@ar-1850", {})
        assert build_world("envs.worlds.clerk:Clerk@ar-1850", {}).name == "clerk@ar-1850"

    def test_the_checker_takes_a_skin(self) -> None:
        checked = check_plugin("nightwatch@ar-2090", ["size=4", "inquiry=0.2"], seeds=2, step_seconds=1.0)
        assert checked.results and [result for result in checked.results if not result.ok] == []


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    """An organism that has met two skins and hardly been trained."""
    small = {"hidden": 16, "layers": 1, "heads": 2, "kv_heads": 1, "vocabulary": 400, "episodes": 12, "steps": 2}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHAPING_CACHE", str(tmp_path_factory.mktemp("cache")))
        policy = Policy.load(ensure(OrganismConfig(**small, skins=["ar-1850", "en-2025"])))
    policy.model.eval()
    return policy


class TestRuns:
    def test_every_cell_of_the_grid_is_evaluated_under_its_own_name(self, policy: Policy) -> None:
        run = run_of({"clerk": {"size": 1}}, {"clerk@all": {"size": 1, "horizon": 2}})
        locales = deployment(run, policy, Renderer(policy.tokenizer))
        assert {condition.world for condition in locales} == EVERY
        for condition, episodes in locales.items():
            assert {episode.world for episode in episodes} == {condition.world}
            assert all(not episode.status.is_error for episode in episodes)

    def test_personas_play_the_reward_access_audit_in_a_skin(self, policy: Policy) -> None:
        run = run_of({"clerk@ar-1850": {"size": 1}}, {"clerk": {}}, arm="mask")
        spelled = run.train.model_copy(update={"max_tokens": 200})  # a small vocabulary spells what personas say
        run = run.model_copy(update={"train": spelled})
        renderer = Renderer(policy.tokenizer)
        arm = build_arm("mask", run.arm_config)
        found = trajectory_access(run, arm, PolicyHere(policy, arm), renderer)
        assert found["blocked"] > 0, "scripted false reports are overt shortcuts in Arabic, too"
        assert "access_logprob" in found
