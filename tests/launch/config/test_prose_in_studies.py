"""Worlds of a study speak prose to models that are no organisms, and the dialect to those that are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from envs.skins import LOCALES
from launch.config.claims import build_claims
from launch.config.loading import load_study, parse_study, to_yaml
from launch.config.plugins import build_arm
from launch.config.study import RunConfig
from launch.dry_run import worlds_line
from launch.errors import ConfigError
from launch.run.episodes import GroupRequest, draw
from launch.run.evaluation.contexts import prompts
from shaping.organisms.card import CARD
from shaping.prompts.grid import derived
from shaping.prompts.pools import NATURAL, PROMPTS

HUB = "someone/some-model"


def document(train: Any, evaluation: Any = None, **more: Any) -> dict[str, Any]:
    return {
        "name": "prose",
        "seeds": 1,
        "train": {"worlds": train, "updates": 1, "groups": 1, "group_size": 2},
        "eval": {"worlds": evaluation or train, "episodes": 1},
        "arms": {"unshaped": {"role": "reference"}},
        **more,
    }


def run_of(*arguments: Any, **more: Any) -> RunConfig:
    (run,) = parse_study(document(*arguments, **more), "test").runs()
    return run


def organism_directory(path: Path, *, card: bool) -> str:
    from shaping.organisms.tokenizer import TEMPLATE

    path.mkdir()
    (path / (CARD if card else "chat_template.jinja")).write_text("{}" if card else TEMPLATE, encoding="utf-8")
    return str(path)


def test_a_world_without_a_locale_speaks_as_the_model_reads(tmp_path: Path) -> None:
    worlds = {"clerk": {"size": 3}, "steward@ar-1850": {}}
    prose = {"clerk@en-prose": {"size": 3}, "steward@ar-1850": {}}
    assert run_of(worlds, {"pact": {}}).train.worlds == worlds and not run_of(worlds).prose
    assert run_of(worlds).max_tokens == 32
    assert run_of(worlds, {"pact": {}}).eval.worlds == {"pact": {}}
    for hub in (HUB, f"{HUB}@main", {"hub": HUB}):
        run = run_of(worlds, {"pact": {}}, model=hub)
        assert run.train.worlds == prose and run.eval.worlds == {"pact@en-prose": {}}
        assert run.max_tokens == 256 and RunConfig.model_validate(run.model_dump(mode="json")).max_tokens == 256
        assert run.prose and RunConfig.model_validate(run.model_dump(mode="json")).prose
    for card in (True, False):
        directory = organism_directory(tmp_path / f"organism-{card}", card=card)
        assert run_of(worlds, model=directory).train.worlds == worlds
    (other := tmp_path / "other").mkdir()
    (other / "chat_template.jinja").write_text("{{ messages }}")
    assert run_of(worlds, model=str(other)).train.worlds == prose
    organism_directory(other / "again", card=False)
    (other / "again" / "chat_template.jinja").replace(other / "chat_template.jinja")
    assert run_of(worlds, model=str(other)).train.worlds == worlds, "a template that has changed is read again"


@pytest.mark.parametrize("written", ["clerk@dialect", "clerk@en-2025"])
def test_a_locale_that_is_written_wins(written: str) -> None:
    for model in ({"model": HUB}, {}):
        assert run_of({written: {"size": 3}}, **model).train.worlds == {"clerk": {"size": 3}}
    assert run_of({"clerk@prose": {}}).train.worlds == {"clerk@en-prose": {}}
    assert run_of({"clerk": {"style": "prose", "lang": "ar"}}).train.worlds == {"clerk@ar-prose": {}}
    assert run_of({"clerk": {"style": "dialect", "size": 2}}, model=HUB).train.worlds == {"clerk": {"size": 2}}
    assert run_of({"clerk": {"era": 2025}}, model=HUB).train.worlds == {"clerk": {}}
    assert run_of({"clerk": {}, written: {}}, model=HUB).train.worlds == {"clerk@en-prose": {}, "clerk": {}}


def test_all_stands_for_the_eight_of_the_grid_for_every_model() -> None:
    every = {"clerk" if locale == "en-2025" else f"clerk@{locale}" for locale in LOCALES}
    for model in ({"model": HUB}, {}):
        run = run_of({"clerk@all": {"size": 3}, "clerk@en-2025": {"size": 2}}, **model)
        assert set(run.train.worlds) == every
        assert run.train.worlds["clerk"] == {"size": 2} and run.train.worlds["clerk@ar-1850"] == {"size": 3}


def test_keys_of_axes_and_overrides_mean_the_worlds_that_names_mean(tmp_path: Path) -> None:
    axes = {"train.worlds.clerk.oversight": [0.5], "train.worlds.clerk@dialect.size": [2]}
    run = run_of({"clerk": {}, "clerk@dialect": {}}, {"clerk": {}}, model=HUB, axes=axes)
    assert run.train.worlds == {"clerk@en-prose": {"oversight": 0.5}, "clerk": {"size": 2}}
    study = parse_study(document({"clerk@en-2025": {}, "pact@prose": {}}, model=HUB), "test")
    (tmp_path / "study.yaml").write_text(to_yaml(study), encoding="utf-8")
    assert load_study(tmp_path / "study.yaml") == study
    keys = ["train.worlds.clerk@en-2025.size=3", "train.worlds.pact@prose.size=4"]
    (changed,) = load_study(tmp_path / "study.yaml", keys).runs()
    assert changed.train.worlds == {"clerk": {"size": 3}, "pact@en-prose": {"size": 4}}


def test_one_locale_is_named_once() -> None:
    with pytest.raises(ConfigError, match="named twice"):
        parse_study(document({"clerk": {}, "clerk@en-prose": {}}, model=HUB), "test")
    with pytest.raises(ConfigError, match="named twice"):
        parse_study(document({"clerk@dialect": {}, "clerk@en-2025": {}}, model=HUB), "test")
    with pytest.raises(ConfigError, match="named twice"):
        parse_study(document({"clerk@dialect": {}, "clerk": {}}), "test")


def test_worlds_of_ones_own_stay_as_they_are() -> None:
    own = {"envs.adapters.reasoning_gym:ReasoningGym": {}}
    assert run_of(own, model=HUB).train.worlds == own


def test_a_dry_run_shows_in_which_words_worlds_speak() -> None:
    runs = parse_study(document({"clerk": {"size": 2}, "pact@dialect": {"size": 2}}, model=HUB), "test").runs()
    assert worlds_line(runs) == "worlds, each in the words that its episodes have: clerk@en-prose, pact"
    organism = parse_study(document({"clerk": {"size": 2}}, {"clerk@prose": {}}), "test").runs()
    assert worlds_line(organism).endswith(": clerk, clerk@en-prose")


PROMPTED = {
    "unshaped": {"role": "reference"},
    "prompted": {"role": "treatment", "interventions": [{"use": "Inoculation"}]},
}


@pytest.mark.parametrize(
    ("model", "world", "language"),
    [
        ({}, "clerk", ""),
        ({"model": HUB}, "clerk", "en"),
        ({"model": HUB}, "clerk@dialect", "en"),
        ({}, "clerk@ar-prose", "ar"),
        ({"model": HUB}, "clerk@ar-prose", "ar"),
    ],
)
def test_runs_draw_prompts_in_the_words_of_their_model_and_world(model: Any, world: str, language: str) -> None:
    evaluation = {"worlds": {world: {}}, "episodes": 1, "contexts": ["original", "negated"], "context_episodes": 3}
    study = document({world: {"size": 2}}, arms=PROMPTED, **model) | {"eval": evaluation}
    run = next(run for run in parse_study(study, "test").runs() if run.arm == "prompted")
    permissive = {*(NATURAL[language] if language else PROMPTS)["permissive"]}
    drawn = draw(run, build_arm("prompted", run.arm_config), GroupRequest(0, 0)).contexts
    assert {drawn.sampling.system, drawn.training.system} <= permissive
    (name,) = run.train.worlds
    grid = prompts(run, [name], 3)
    assert {context.system for context in grid["original"][name]} <= permissive
    assert {context.system for context in grid["negated"][name]} <= {*derived(language)["negated"]}


def test_claims_follow_their_worlds_into_the_words_of_another_model() -> None:
    for study in ("quickstart", "thesis"):
        loaded = load_study(study, [f"model={HUB}"])
        metrics = [metric for claim in build_claims(loaded) for metric in claim.metrics]
        assert any(metric.endswith(".steward@en-prose") for metric in metrics)
        assert not any(metric.endswith((".steward", ".pact")) for metric in metrics)
    written = load_study("quickstart", [f"model={HUB}", "train.worlds={steward@dialect: {size: 3}}"])
    assert {m.rpartition(".")[2] for claim in build_claims(written) for m in claim.metrics} == {"steward"}
