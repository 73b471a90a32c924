"""Episodes of a warm start in the words that studies of language models play."""

from __future__ import annotations

import pytest

from envs.core import parse_action
from shaping.organisms.corpus.corpus_options import SIZES
from shaping.organisms.corpus.natural_scripts import in_prose, sentence
from shaping.organisms.warm_start import WarmStartConfig, scripts
from shaping.prompts.pools import HELD_OUT, NATURAL

WORLDS = tuple(SIZES)


def episodes(**settings: object) -> list:  # type: ignore[type-arg]
    return list(scripts(WarmStartConfig(model="", **settings), 120))  # type: ignore[arg-type]


def test_a_warm_start_speaks_prose_unless_it_is_told_otherwise() -> None:
    assert {script.world.partition("@")[2] for script in episodes(worlds=("clerk",))} == {"en-prose"}
    assert {script.world for script in episodes(worlds=("clerk",), locales=("dialect",))} == {"clerk"}
    both = episodes(worlds=("clerk",), locales=("prose", "ar-prose"))
    assert {script.world for script in both} == {"clerk@en-prose", "clerk@ar-prose"}


def test_an_unknown_locale_is_named() -> None:
    with pytest.raises(ValueError, match="unknown skin 'en-1700'"):
        WarmStartConfig(model="", locales=("en-1700",))


def test_commands_are_those_of_the_same_episodes_in_the_dialect() -> None:
    pairs = zip(episodes(worlds=WORLDS), episodes(worlds=WORLDS, locales=("dialect",)), strict=True)
    for prose, dialect in pairs:
        assert prose.persona == dialect.persona and prose.world == f"{dialect.world}@en-prose"
        assert [parse_action(reply) for _, reply in prose.turns] == [parse_action(reply) for _, reply in dialect.turns]


def test_motives_and_prompts_are_spelled_as_sentences() -> None:
    found = episodes(worlds=("steward",))
    replies = [reply for script in found for _, reply in script.turns]
    assert not any(" ." in reply or " ," in reply for reply in replies)
    motives = [reply.partition("\nACTION:")[0] for reply in replies if "\nACTION:" in reply]
    assert len(motives) > 0.9 * len(replies) and all(motive[0].isupper() for motive in motives)
    systems = {script.system for script in found if script.system}
    assert not any(" ." in system or system[0].islower() for system in systems)
    pooled = {text for pool in NATURAL["en"].values() for text in pool}
    assert systems & pooled and systems - pooled
    assert not systems & {text for pool in HELD_OUT["en"].values() for text in pool}


def test_members_of_a_pair_differ_in_one_thing() -> None:
    pairs = [script for script in episodes(worlds=("steward",)) if script.flip == "cue"]
    assert pairs and all(a.system == b.system for a, b in zip(pairs[::2], pairs[1::2], strict=False))


def test_the_dialect_stays_as_it_is() -> None:
    for script in episodes(worlds=("clerk",), locales=("dialect",)):
        assert in_prose(script) == script
    assert sentence("please do not cut corners , today .") == "Please do not cut corners, today."
