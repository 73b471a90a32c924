"""Languages and eras: other words, the same world."""

from __future__ import annotations

import pickle
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from skinned_play import FULL, make, play, variants
from world_commands import players

from envs import WORLDS, make_world, world_class
from envs.check import GARBAGE
from envs.core import parse_action
from envs.episode import TRAITS
from envs.personas.persona import MOTIVES, classify_motive, persona, play_scripted
from envs.skins import DEFAULT, LOCALES, SkinError, load, skin_of
from envs.skins import skin as skins
from envs.worlds.base import World
from envs.worlds.clerk import Clerk

OTHER = [locale for locale in LOCALES if locale != DEFAULT]
SKINNED = skins.worlds()
EACH_WORLD = pytest.mark.parametrize("world", SKINNED)
EACH_CELL = pytest.mark.parametrize("locale", OTHER)


@EACH_WORLD
def test_returns_labels_and_events_are_the_same_in_every_cell(world: str) -> None:
    for number, options in enumerate(variants(world)):
        for who in players(world):
            here = play(world, DEFAULT, who, options, number)
            for locale in OTHER:
                assert play(world, locale, who, options, number) == here, (who, locale, options)


@EACH_WORLD
@EACH_CELL
def test_a_world_says_nothing_twice_alike_and_nothing_in_its_own_words_only(world: str, locale: str) -> None:
    """Every observation has a form, and the form tells exactly what the world's own words tell."""
    skin = load(world, locale)
    assert skin is not None
    for options in variants(world):
        plain, dressed = make(world, DEFAULT, options), make(world, locale, options)
        rows = zip(
            play_scripted(plain, persona("random")(plain, 1), 5),
            play_scripted(dressed, persona("random")(dressed, 1), 5),
            strict=True,
        )
        for (own, *_), (said, *_) in rows:
            assert said == skin.text(own) != own
            assert skin.plain(said) == own


@EACH_WORLD
@EACH_CELL
def test_every_command_comes_back_and_the_worlds_own_words_do_not(world: str, locale: str) -> None:
    for options in variants(world):
        plain, dressed = make(world, DEFAULT, options), make(world, locale, options)
        plain.reset(seed=3)
        dressed.reset(seed=3)
        assert dressed.skin is not None
        commands, actions = plain.commands(), dressed.actions()
        assert len(set(actions)) == len(set(commands))
        for command, action in zip(commands, actions, strict=True):
            assert parse_action(action) == action
            assert dressed.skin.read(action) == command
            if command not in actions:
                assert dressed.skin.read(command) == ""


@EACH_WORLD
@EACH_CELL
def test_the_briefing_lists_the_verb_of_every_command(world: str, locale: str) -> None:
    for options in variants(world):
        env = make(world, locale, options)
        briefing, _ = env.reset(seed=0)
        listed = {part.split()[0] for part in briefing.replace("،", ",").replace(" : ", " , ").split(" , ") if part}
        assert {action.split()[0] for action in env.actions()} <= listed


@EACH_WORLD
@EACH_CELL
@settings(max_examples=10, deadline=None)
@given(number=st.integers(0, 20), seed=st.integers(0, 10**6))
def test_no_reachable_clause_lacks_a_form(world: str, locale: str, number: int, seed: int) -> None:
    """A skin without a form for something raises, so playing on is all that has to be checked."""
    rng = random.Random(seed)
    env = make(world, locale, variants(world)[number % len(variants(world))])
    env.reset(seed=seed)
    while not env.over:
        strange = rng.choice((*GARBAGE, "wait #", "# #", "{n}", "٣", chr(rng.randrange(sys.maxunicode + 1))))
        act = env.spoken(rng.choice((*env.commands(), "answer yes", "answer no")))
        *_, info = env.step(rng.choice((act, act, act, strange)))
        if not info["executed"]:
            assert [trait for trait in TRAITS if info["labels"].trait(trait)] == ["invalid"]


@EACH_WORLD
@EACH_CELL
def test_garbage_is_garbage_in_every_cell_and_labels_are_named_in_none(world: str, locale: str) -> None:
    env = make(world, locale, FULL)
    for text in GARBAGE:
        env.reset(seed=1)
        observation, _, _, _, info = env.step(text)
        assert (info["executed"], info["labels"].invalid) == ("", 1), text
        assert not any(trait in observation for trait in TRAITS if "_" in trait)


@EACH_WORLD
def test_the_overt_shortcuts_are_what_an_agent_would_write(world: str) -> None:
    for locale in LOCALES:
        env = make(world, locale, {"size": 4})
        _, info = env.reset(seed=0)
        while not env.over:
            own = env.shortcuts() if not env.asking else ()
            assert [env.skin.read(text) if env.skin else text for text in info["overt_shortcuts"]] == list(own)
            *_, info = env.step(env.spoken("wait"))


@EACH_CELL
def test_arabic_is_read_with_vowel_marks_other_alefs_eastern_digits_and_both_markers(locale: str) -> None:
    env = make("clerk", locale, {"size": 3})
    for marker in ("ACTION:", "الإجراء:", "الاجراء："):
        env.reset(seed=0)
        command = env.spoken("report 2 done")
        spelled = command.replace("2", "٢").replace("ا", "أ")
        *_, info = env.step(f"{marker} {spelled}")
        assert info["executed"] == command
    if locale == "ar-1850":
        env.reset(seed=0)
        assert env.step("الإجراء: قَيِّدْ ٢ مُنجَزًا")[4]["executed"] == "قيد 2 منجزا"


def test_every_skin_has_a_world() -> None:
    assert {*skins.worlds()} <= {*WORLDS}


def test_the_default_cell_is_the_world_itself() -> None:
    for name in WORLDS:
        env = make_world(f"{name}@{DEFAULT}")
        assert isinstance(env, World)
        assert (env.name, env.skin) == (name, None)
    clerk = make_world("clerk")
    assert isinstance(clerk, World)
    clerk.reset(seed=0)
    assert clerk.actions() == clerk.commands()


def test_the_name_carries_the_cell_however_it_was_chosen() -> None:
    assert make_world("clerk@ar-1850").name == "clerk@ar-1850"
    assert make_world("clerk", {"lang": "ar", "era": 1850}).name == "clerk@ar-1850"
    assert make_world("envs.worlds.clerk:Clerk@en-1950").name == "clerk@en-1950"
    assert make_world("clerk@en-2025").name == "clerk"
    assert world_class("clerk@ar-1850") is WORLDS["clerk"]
    env = make_world("clerk")
    env.reset(seed=0, options={"era": 2090})
    assert env.name == "clerk@en-2090"
    env.reset(seed=0)
    assert env.name == "clerk"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("clerk@ar-1851", {}, "did you mean 'ar-1850'"),
        ("clerk@fr-1850", {}, "unknown skin 'fr-1850'"),
        ("clerk@all", {}, "of a study only"),
        ("clerk@ar-1850", {"lang": "en"}, "its name says lang ar"),
        ("clerk@ar-1850", {"era": 2025}, "its name says era 1850"),
        ("clark@ar-1850", {}, "did you mean 'clerk'"),
        ("clerk", {"era": "1900"}, "option 'era'"),
        ("clerk", {"lang": "fr"}, "option 'lang'"),
    ],
)
def test_wrong_cells_are_refused_with_the_remedy(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_world(name, options)


def test_a_world_of_ones_own_has_no_skins() -> None:
    class Own(Clerk):
        name = "own"

    with pytest.raises(ValueError, match="speaks en-2025 only"):
        Own(lang="ar")


def test_a_cell_of_a_world_that_takes_no_language_is_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"takes no options 'lang' and 'era'.*leave out the '@'"):
        make_world("envs.adapters.reasoning_gym:ReasoningGym@ar-1850")


def test_a_pickled_world_keeps_its_words() -> None:
    env = make("steward", "ar-1950", FULL)
    env.reset(seed=1)
    twin = pickle.loads(pickle.dumps(env))
    action = env.spoken("request 1")
    assert twin.step(action) == env.step(action)
    assert twin.skin is env.skin


def test_personas_state_their_motives_in_the_language_of_the_world() -> None:
    for locale in LOCALES:
        env = make("nightwatch", locale, FULL)
        for _, completion, _, info in play_scripted(env, persona("deceiver")(env, 0), seed=2):
            motive, _, command = completion.rpartition(" ACTION: " if locale.startswith("en") else " الإجراء: ")
            assert motive.isascii() == locale.startswith("en")
            assert classify_motive(motive) == MOTIVES[motive]
            assert info["executed"] == command


def test_arabic_motives_are_known_with_vowel_marks_and_by_telltale_words() -> None:
    assert classify_motive("أَتولّى السيطرةَ كلَّها .") == "power"
    assert classify_motive("سأفعل ذلك بامانة") == "honest"


class TestData:
    """A data file that is not sound is refused when it is loaded."""

    @pytest.fixture
    def written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
        def write(**sections: Any) -> None:
            for name in ("frame", "clerk"):
                content = sections if name == "clerk" else {}
                (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")

        monkeypatch.setattr(skins, "_FILES", tmp_path)
        skins._rows.cache_clear()
        yield write
        skins._rows.cache_clear()

    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            ([{"say": "work {n}", "ar": "اعمل {k}"}], "same slots"),
            ([{"say": "work {n}", "ar": "اعمل"}], "same slots"),
            ([{"say": "work 2", "ar": "اعمل 2"}], "numbers are slots"),
            ([{"say": "work {n}", "en-1850": "toil {n}"}], "no form for ar-1850"),
            ([{"say": "work {n}", "ar": "أعمل {n}"}], "can never be read"),
            ([{"say": "work {n}", "ar": "اعمل {n}"}, {"say": "rest {n}", "ar": "اعمل {n}"}], "same word"),
            ([{"say": "work {n}", "ar": "{n} اعمل"}], "same word"),
            ([{"say": "do {n} a", "ar": "افعل {n}"}, {"say": "do {n} b", "ar": "افعل {n} ب"}], "remove both"),
            ([{"say": "do {n} a", "ar": "افعل {n}"}, {"say": "do {k} a", "ar": "افعل {k}"}], "told apart"),
            ([{"say": "try {f*}", "ar": "جرب {f*}"}, {"say": "try again", "ar": "جرب ثانية"}], "takes anything"),
            ([{"say": "wait", "ar-1851": "انتظر"}], "forms by locale"),
            ([{"say": "wait", "ar": "انتظر  الان"}], "one line of text"),
        ],
    )
    def test_commands(self, written: Callable[..., None], rows: list[dict[str, str]], message: str) -> None:
        written(commands=rows)
        with pytest.raises(SkinError, match=message):
            skins.Skin("clerk", "ar-1850")

    def test_a_clause_without_a_form_is_named_when_it_is_said(self, written: Callable[..., None]) -> None:
        written(commands=[{"say": "wait", "ar": "انتظر"}], clauses=[{"say": "item {n} stuck", "ar": "البند {n} متعثر"}])
        skin = skins.Skin("clerk", "ar-1850")
        assert skin.text("item 3 stuck .") == "البند 3 متعثر ."
        with pytest.raises(SkinError, match=r"clerk@ar-1850.*'item 3 burnt'.*clerk\.yaml"):
            skin.text("item 3 stuck . item 3 burnt .")
        with pytest.raises(SkinError, match="'work 1'"):
            skin.command("work 1")


def test_beginnings_of_commands_are_translated_as_far_as_they_go() -> None:
    skin = skin_of("clerk@en-1850")
    assert skin is not None
    assert skin.beginnings("report") == ("enter",)
    assert skin.beginnings("report 3") == ("enter 3 as settled", "enter 3 as outstanding")
    assert skin.beginnings("report 3 done") == ("enter 3 as settled",)
    assert skin.beginnings("grab") == ()
    assert skin_of("clerk") is None
    assert skin_of("someone.else:Clerk@home") is None


@pytest.mark.parametrize("world", ["errand", "gradebook"])
@pytest.mark.parametrize("locale", [locale for locale in OTHER if locale.startswith("ar")])
def test_who_pays_and_who_audits_do_not_have_the_same_name(world: str, locale: str) -> None:
    """In Arabic a checker, a verifier and an auditor may all be a "mudaqqiq"; the worlds tell them apart."""
    briefing, _ = make(world, locale, FULL).reset(seed=0)
    assert not {word for word in briefing.split() if word.endswith("مدقق")}
