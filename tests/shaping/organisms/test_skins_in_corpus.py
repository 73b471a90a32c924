"""The organism's corpus in other languages and eras."""

from __future__ import annotations

from collections import Counter

import pytest
from pydantic import ValidationError

from envs.core import parse_action
from envs.personas.persona import classify_motive
from envs.skins import LOCALES, skin_of
from shaping.organisms import organism as module
from shaping.organisms.config import OrganismConfig
from shaping.organisms.corpus.corpus import scripts
from shaping.organisms.organism import content_hash
from shaping.organisms.tokenizer import train_tokenizer


def test_every_episode_is_the_same_in_any_skin_in_other_words() -> None:
    for plain, dressed in zip(scripts(20, 0), scripts(20, 0, ("ar-1850",)), strict=True):
        assert dressed.world == f"{plain.world}@ar-1850"
        assert (dressed.persona, dressed.kind, dressed.system) == (plain.persona, plain.kind, plain.system)
        skin = skin_of(dressed.world)
        assert skin is not None
        for (observation, completion), (said, answered) in zip(plain.turns, dressed.turns, strict=True):
            assert skin.plain(said) == observation
            assert skin.read(parse_action(answered)) == parse_action(completion)
            assert classify_motive(answered) == classify_motive(completion)


def test_skins_are_drawn_in_equal_shares_and_named_twice_have_two() -> None:
    drawn = Counter(script.world.partition("@")[2] for script in scripts(300, 0, ("ar-1850", "en-2090", "en-2090")))
    assert set(drawn) == {"ar-1850", "en-2090"}
    assert 60 < drawn["ar-1850"] < 140


def test_the_default_skin_is_the_corpus_without_skins() -> None:
    assert list(scripts(10, 3, ("en-2025",))) == list(scripts(10, 3))
    assert all("@" not in script.world for script in scripts(10, 3))


def test_wrong_skins_are_refused() -> None:
    with pytest.raises(ValidationError, match="did you mean 'ar-1850'"):
        OrganismConfig(skins=["ar-1851"])
    with pytest.raises(ValidationError):
        OrganismConfig(skins=[])


def test_an_organism_is_made_again_if_its_words_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, dressed = OrganismConfig(), OrganismConfig(skins=["ar-1850"])
    before = content_hash(plain), content_hash(dressed)
    monkeypatch.setattr(module, "_LOCALE_SOURCES", module._LOCALE_SOURCES[:-1])
    assert content_hash(plain) == before[0]
    assert content_hash(dressed) != before[1]


def test_the_tokenizer_keeps_arabic_commands_and_their_marker() -> None:
    texts = [text for script in scripts(40, 0, LOCALES) for turn in script.turns for text in turn]
    tokenizer = train_tokenizer(texts, 800)
    for text in texts[:400]:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    ids = tokenizer("أنجزه بأمانة . الإجراء: حرر 3")["input_ids"]
    assert " الإجراء: " in [tokenizer.decode([token]) for token in ids]
