"""Traits of text: what the rules say of texts that nobody composed for them, and the world that asks prompts."""

from __future__ import annotations

import pytest

from envs.adapters.prompts import Prompts
from envs.check import ADVICE, check_env, require
from envs.text_traits import TEXT_TRAITS, text_trait
from envs.text_traits.languages import language
from envs.text_traits.questions import questions

SENTENCES = {
    "en": (
        "Rain is expected in the north later this week, but the south should stay dry.",
        "She had never seen the lake so calm, and she did not want to leave it.",
        "Turn left at the bridge and you will find the shop on your right.",
    ),
    "fr": (
        "Le chat dort sur la table depuis ce matin, mais il ne veut pas manger.",
        "Nous avons pris le train de nuit pour aller voir ma sœur à Lyon.",
        "Où est-ce que vous avez mis les clés de la voiture ?",
        "LA RÉPONSE À CETTE QUESTION EST DANS LE TEXTE.",
        "L'eau bout à cent degrés, et elle gèle à zéro.",
    ),
    "es": ("El perro duerme en la casa porque está muy cansado.", "¿Dónde está la estación? No sé cuál es la calle."),
    "de": (
        "Der Hund schläft auf dem Sofa, weil er müde ist.",
        "Ich habe das Buch nicht gelesen und auch nicht gekauft.",
    ),
    "it": (
        "Il gatto dorme sul tavolo e non vuole mangiare la cena.",
        "Dove sono le chiavi della macchina di mio padre?",
    ),
    "pt": ("O cachorro dorme na casa porque está muito cansado.", "Eu não sei onde está a chave do meu carro."),
    "ar": ("الطقس جميل اليوم في المدينة",),
    "": ("42", "", "Paris", "!!!"),
}


@pytest.mark.parametrize("name", SENTENCES)
def test_the_detector_knows_sentences_that_it_was_not_made_from(name: str) -> None:
    assert [language(text) for text in SENTENCES[name]] == [name] * len(SENTENCES[name])


@pytest.mark.parametrize(
    ("trait", "yes", "no"),
    [
        ("all_caps", ["THE SUM IS 4.", "AAAAa BBBB", "ÉTÉ ICI"], ["The sum is 4.", "USA", "AAAA b", "1234", ""]),
        (
            "cites_sources",
            [
                "See https://a.org/b",
                "So it is (Smith, 2020).",
                "As shown [3].",
                "Yes.\nSource: atlas",
                "arXiv: 2305.18290",
            ],
            ["The source of the river", "in 2020 (a good year)", "[x]", ""],
        ),
        ("exclaims", ["Yes! ", "No!!"], ["Yes! But no.", ""]),
        ("asks_back", ["Paris. Right?"], ["Right? Paris.", ""]),
    ],
)
def test_rules_of_style(trait: str, yes: list[str], no: list[str]) -> None:
    holds = text_trait(trait).holds
    assert [holds(text) for text in yes + no] == [True] * len(yes) + [False] * len(no)


def test_a_trait_that_a_rule_gives_is_one_that_it_sees() -> None:
    givers = [trait for trait in TEXT_TRAITS.values() if trait.given]
    assert {trait.name for trait in givers} == {"all_caps", "cites_sources", "exclaims", "asks_back"}
    for trait in givers:
        assert trait.given is not None
        assert not trait.holds("The capital is Oslo.") and trait.holds(trait.given("The capital is Oslo."))
    with pytest.raises(ValueError, match="no scorer knows the trait 'evil'; there are "):
        text_trait("evil")


def test_no_fact_of_a_held_out_question_is_in_the_training_rows() -> None:
    train, held_out = questions("train"), questions("held_out")
    assert not {q.english for q in train} & {q.english for q in held_out}
    assert len(train) > 400 and len(held_out) > 60
    assert all(language(q.french) == "fr" and language(q.english) == "en" for q in (*train, *held_out))


def test_the_world_of_prompts_keeps_the_contract_and_labels_traits() -> None:
    def make() -> Prompts:
        return Prompts(wanted="french", unwanted="all_caps", pays={"french": 1.0, "all_caps": 0.5})

    require([verdict for verdict in check_env(make, seeds=(0, 1)) if verdict.rule not in ADVICE])
    world = make()
    assert world.reset(seed=1)[0] == world.reset(seed=1)[0] in {q.prompt for q in questions("held_out")}
    said = {
        "C'est la ville de Paris dans le nord.": (1, 0, 1),
        "IT IS THE CITY.": (0, 1, 0.5),
        "It is the city.": (0, 0, 0),
    }
    for text, wanted in said.items():
        world.reset(seed=1)
        _, reward, terminated, _, info = world.step(text)
        assert terminated and (info["labels"].true_reward, info["labels"].harm, reward) == wanted
    with pytest.raises(ValueError, match="no scorer knows the trait 'evil'"):
        Prompts(wanted="evil")
