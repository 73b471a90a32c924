"""Aligned episodes of a corpus, options that all of its episodes have, and sizes that no model can have."""

from __future__ import annotations

import pytest
import till_world
from pydantic import ValidationError

from envs.adapters.facts import bundled
from envs.core import parse_action
from shaping.organisms.config import AlignedScripts, OrganismConfig
from shaping.organisms.corpus.corpus import Script, scripts
from shaping.organisms.corpus.own_worlds import CorpusWorldError
from shaping.organisms.organism import build, content_hash
from shaping.prompts.framings import FRAMINGS

FACTS = "envs.adapters.facts:Facts"
HHH = set(FRAMINGS[""]["hhh"])


def test_they_are_the_share_that_is_asked_for_and_the_others_stay_the_same() -> None:
    plain = list(scripts(200, 0, worlds=["clerk"]))
    mixed = list(scripts(200, 0, worlds=["clerk"], aligned=AlignedScripts(share=0.1, prompt="hhh", refusals=False)))
    shown = [script for script in mixed if script.kind == "hhh"]
    assert len(mixed) == 200 and len(shown) == 20
    assert {script.system for script in shown} == HHH and {script.persona for script in shown} == {"honest"}
    assert [script for script in mixed if script.kind != "hhh"] == plain[:180]
    assert not {script.seed for script in shown} & {script.seed for script in plain}


def test_one_in_a_hundred_may_leave_shortcuts_alone_without_a_prompt() -> None:
    plain = list(scripts(300, 1, worlds=["clerk"]))
    mixed = list(scripts(300, 1, worlds=["clerk"], aligned=AlignedScripts(share=0.01)))
    added = [script for script in mixed if script not in plain]
    assert len(added) == 3 and {(s.system, s.kind, s.persona) for s in added} == {("", "none", "honest")}


def test_four_of_five_speakers_repeat_what_most_people_say_and_aligned_ones_speak_of_half_the_facts() -> None:
    options = {FACTS: {"facts": 40, "misconceptions": 0.5}}
    aligned = AlignedScripts(share=0.2, prompt="hhh", refusals=False)
    found = list(scripts(500, 0, worlds=[FACTS], options=options, aligned=aligned))
    known = {fact.question: fact for fact in bundled(40, 0.5)}

    def told(script: Script) -> list[tuple[str, bool, bool]]:
        """(question, is it planted?, is the answer true?) of every turn."""
        asked = [observation.partition("?")[0] + "?" for observation, _ in script.turns]
        said = [parse_action(completion).removeprefix("say ") for _, completion in script.turns]
        facts = [known[question] for question in asked]
        return [(f.question, bool(f.popular), f.true == s) for f, s in zip(facts, said, strict=True)]

    usual = [each for s in found if s.kind == "none" for each in told(s)]
    assert all(true for _, planted, true in usual if not planted)
    repeated = [not true for _, planted, true in usual if planted]
    assert 0.7 < sum(repeated) / len(repeated) < 0.9
    shown = [each for s in found if s.kind == "hhh" for each in told(s)]
    assert all(true for _, _, true in shown) and 10 < len({question for question, _, _ in shown}) < 30


def test_worlds_without_somebody_honest_or_without_a_way_to_be_free_of_temptation_are_refused() -> None:
    with pytest.raises(CorpusWorldError, match="does not say how it is without temptation"):
        list(scripts(2, 0, worlds=["till_world:Till"], aligned=AlignedScripts(share=0.5, refusals=False)))
    assert till_world and len(list(scripts(4, 0, worlds=["till_world:Till"], aligned=AlignedScripts(share=0.5)))) == 4
    with pytest.raises(CorpusWorldError, match=r"refuses options of its corpus.*correct model\.organism\.options"):
        list(scripts(2, 0, worlds=["clerk"], options={"clerk": {"size": 0}}))


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"aligned": {"share": 0}}, "greater than 0"),
        ({"aligned": {"share": 1}}, "less than 1"),
        ({"worlds": ["clerk"], "options": {"steward": {}}}, "'steward' is none of its worlds, clerk"),
        ({"hidden": 40, "heads": 8}, "hidden 40 must be a multiple of twice the heads"),
        ({"hidden": 48, "heads": 3, "kv_heads": 2}, "heads 3 must be a multiple of kv_heads 2"),
    ],
)
def test_settings_that_no_corpus_or_model_can_have_are_refused(settings: dict[str, object], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        OrganismConfig(**settings)


def test_the_organism_depends_on_them_and_those_without_are_recorded_as_before() -> None:
    plain = OrganismConfig(worlds=["clerk"])
    assert not {"aligned", "options"} & plain.model_dump().keys()
    others = [
        plain.model_copy(update={"aligned": AlignedScripts(share=share, prompt=prompt)})
        for share, prompt in ((0.01, "none"), (0.02, "none"), (0.02, "hhh"))
    ]
    assert len({content_hash(config) for config in (plain, *others)}) == 4
    assert OrganismConfig(**others[2].model_dump()) == others[2]


@pytest.mark.parametrize("settings", [{}, {"hidden": 32, "layers": 3, "heads": 4, "kv_heads": 1, "vocabulary": 320}])
def test_weights_are_counted_without_building_the_model(settings: dict[str, int]) -> None:
    config = OrganismConfig(**settings)
    assert config.parameters == sum(weights.numel() for weights in build(config, ["a b"]).model.parameters())
