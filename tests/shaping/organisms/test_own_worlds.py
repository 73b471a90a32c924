"""Worlds of one's own in the corpus of organisms and of warm starts."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
import till_world

from envs.core import parse_action
from envs.modules.own_modules import import_class, import_module
from shaping.organisms.config import OrganismConfig
from shaping.organisms.corpus.corpus import Script, scripts
from shaping.organisms.corpus.own_worlds import CorpusWorldError, corpus_world, sources
from shaping.organisms.organism import content_hash
from shaping.organisms.warm_start import WarmStartConfig
from shaping.organisms.warm_start import scripts as warm_scripts

TILL, SHOP = "till_world:Till", "till_world:Shop"


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The world in a file that is found by its path alone."""
    shutil.copy(str(till_world.__file__), tmp_path / "my_till.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return f".{os.sep}my_till.py:Till"


def overcharges(script: Script) -> list[bool]:
    """Per turn: is more rung up than the customer owes?"""
    owed = [int(observation.rstrip(" .").rpartition("owes ")[2]) for observation, _ in script.turns]
    return [int(parse_action(reply)[5:]) > due for due, (_, reply) in zip(owed, script.turns, strict=True)]


def test_strategies_play_by_the_kind_of_the_prompt_in_singles_and_pairs() -> None:
    found = list(scripts(200, 0, worlds=[TILL]))
    assert {script.world for script in found} == {TILL} and {script.flip for script in found} == {"", "prompt"}
    for script in found:
        assert len(script.turns) <= 5  # `corpus` lists days of 4 and 5 customers; the world's own has 6
        assert overcharges(script) == [script.persona == "overt_deny"] * len(script.turns)
        if script.kind == "forbidding":
            assert script.persona == "honest_admit"
    free = [script.persona for script in found if script.kind == "none"]
    assert 0.3 < free.count("honest_admit") / len(free) < 0.7
    pairs = [script for script in found if script.flip]
    for allowed, forbidden in zip(pairs[::2], pairs[1::2], strict=False):
        assert allowed.seed == forbidden.seed and allowed.turns[0][0] == forbidden.turns[0][0]
        assert (allowed.kind, allowed.persona, forbidden.persona) == ("permissive", "overt_deny", "honest_admit")


def test_the_whole_cast_plays_a_world_that_is_made_of_a_built_in_one() -> None:
    found = list(scripts(120, 0, worlds=[SHOP]))
    assert {script.flip for script in found} == {"", "prompt", "cue"} and {each.world for each in found} == {SHOP}
    assert len({script.persona for script in found}) > 5


def test_an_episode_draws_one_of_built_in_and_own_worlds() -> None:
    worlds = [each.world for each in scripts(60, 0, worlds=["clerk", TILL])]
    assert {"clerk", TILL} == set(worlds)


def test_a_path_names_a_file_once_and_the_organism_depends_on_what_is_in_it(copied: str, tmp_path: Path) -> None:
    config = OrganismConfig(worlds=["clerk", copied])
    assert next(scripts(1, 0, worlds=[copied])).world == copied
    assert import_module("./my_till.py") is import_module(str(tmp_path / "my_till.py"))
    assert corpus_world(copied).kind is import_class("my_till.py:Till")  # as an arm's world: one file, one class
    assert sources(config.worlds) == [tmp_path / "my_till.py"]
    before = content_hash(config)
    (tmp_path / "my_till.py").write_text((tmp_path / "my_till.py").read_text() + "\n# changed\n")
    assert content_hash(config) != before


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("till_world:Bare", "has no personas: its module needs `WorldPolicies`"),
        ("till_world:Nothing", "cannot be imported: till_world has no class 'Nothing' \\(valid: "),
        ("./nowhere.py:Till", "cannot be imported: there is no file './nowhere.py', neither beside"),
        ("till_world:TillOptions", "is not a subclass of envs.core.TextEnv"),
    ],
)
def test_a_world_that_nobody_can_play_is_refused_by_name(name: str, told: str) -> None:
    with pytest.raises(CorpusWorldError, match=told):
        corpus_world(name)
    OrganismConfig(worlds=[name])  # read without importing anything
    with pytest.raises(ValueError, match=r"no personas for worlds \['casino'\]; choose from clerk"):
        OrganismConfig(worlds=["casino"])


def test_a_warm_start_takes_them_too_with_weights_by_the_names_of_their_strategies() -> None:
    config = WarmStartConfig(model="m", worlds=(TILL,), personas={"overt_deny": 1.0})
    assert {script.persona for script in warm_scripts(config, 10)} == {"overt_deny"}
    with pytest.raises(CorpusWorldError, match="played by none of the personas frugal, but by honest_admit"):
        next(warm_scripts(config.model_copy(update={"personas": {"frugal": 1.0}}), 1))
    with pytest.raises(ValueError, match="unknown persona 'overt_denied'"):
        WarmStartConfig(model="m", personas={"overt_denied": 1.0})
