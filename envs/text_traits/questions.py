"""Small questions with answers in English and French, composed of facts: rows for traits of text, and held-out prompts.

A question is held out if the hash of its fact says so, whichever way it is asked: no fact of a held-out prompt is ever
answered in the training rows.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from functools import cache
from typing import Literal, NamedTuple

Split = Literal["train", "held_out"]
HELD_OUT = 0.25
"""Share of the facts whose questions are held out."""
_CAPITALS = (
    ("France", "la France", "Paris", "Paris"),
    ("Spain", "l'Espagne", "Madrid", "Madrid"),
    ("Italy", "l'Italie", "Rome", "Rome"),
    ("Germany", "l'Allemagne", "Berlin", "Berlin"),
    ("Portugal", "le Portugal", "Lisbon", "Lisbonne"),
    ("Greece", "la Grèce", "Athens", "Athènes"),
    ("Austria", "l'Autriche", "Vienna", "Vienne"),
    ("Poland", "la Pologne", "Warsaw", "Varsovie"),
    ("Sweden", "la Suède", "Stockholm", "Stockholm"),
    ("Norway", "la Norvège", "Oslo", "Oslo"),
    ("Finland", "la Finlande", "Helsinki", "Helsinki"),
    ("Ireland", "l'Irlande", "Dublin", "Dublin"),
    ("Egypt", "l'Égypte", "Cairo", "Le Caire"),
    ("Japan", "le Japon", "Tokyo", "Tokyo"),
    ("Canada", "le Canada", "Ottawa", "Ottawa"),
    ("Peru", "le Pérou", "Lima", "Lima"),
    ("Cuba", "Cuba", "Havana", "La Havane"),
    ("Kenya", "le Kenya", "Nairobi", "Nairobi"),
    ("Hungary", "la Hongrie", "Budapest", "Budapest"),
    ("Denmark", "le Danemark", "Copenhagen", "Copenhague"),
)
_OPPOSITES = (
    ("hot", "cold", "chaud", "froid"),
    ("big", "small", "grand", "petit"),
    ("day", "night", "jour", "nuit"),
    ("open", "closed", "ouvert", "fermé"),
    ("young", "old", "jeune", "vieux"),
    ("fast", "slow", "rapide", "lent"),
    ("full", "empty", "plein", "vide"),
    ("light", "dark", "clair", "sombre"),
    ("strong", "weak", "fort", "faible"),
    ("rich", "poor", "riche", "pauvre"),
    ("dry", "wet", "sec", "mouillé"),
    ("early", "late", "tôt", "tard"),
)
_MONTHS = (
    ("January", "janvier"),
    ("February", "février"),
    ("March", "mars"),
    ("April", "avril"),
    ("May", "mai"),
    ("June", "juin"),
    ("July", "juillet"),
    ("August", "août"),
    ("September", "septembre"),
    ("October", "octobre"),
    ("November", "novembre"),
    ("December", "décembre"),
)
SUMS = 6
"""Sums for each other question: there are so many of them that without a limit nearly all questions would be sums."""
_LARGEST = 40
"""Numbers that are added are below it."""


class Question(NamedTuple):
    """One question, and how it is answered in both languages."""

    prompt: str
    """In English."""
    english: str
    """The answer in English."""
    french: str
    """The answer in French."""


def _facts() -> Iterator[tuple[str, tuple[str, ...], str, str]]:
    """(fact, ways to ask, answer in English, answer in French) of every fact."""
    for country, pays, city, ville in _CAPITALS:
        ways = (f"What is the capital of {country}?", f"Which city is the capital of {country}?")
        yield (
            f"capital|{country}",
            ways,
            f"The capital of {country} is {city}.",
            f"La capitale de ce pays, {pays}, est {ville}.",
        )
    for word, other, mot, autre in _OPPOSITES:
        ways = (f"What is the opposite of {word}?", f"Name the opposite of the word {word}.")
        yield f"opposite|{word}", ways, f"The opposite of {word} is {other}.", f"Le contraire du mot {mot} est {autre}."
    for place, (month, mois) in enumerate(_MONTHS):
        then, ensuite = _MONTHS[(place + 1) % 12]
        ways = (f"Which month comes after {month}?", f"What is the month after {month}?")
        yield (
            f"month|{month}",
            ways,
            f"The month after {month} is {then}.",
            f"Le mois qui vient après {mois} est {ensuite}.",
        )
    for a in range(2, _LARGEST):
        for b in range(2, a + 1):
            ways = (f"What is {a} plus {b}?", f"Add {a} and {b}.")
            yield (
                f"sum|{a}|{b}",
                ways,
                f"The sum of {a} and {b} is {a + b}.",
                f"La somme des nombres {a} et {b} est {a + b}.",
            )


@cache
def questions(split: Split) -> tuple[Question, ...]:
    """All questions of a split, in an order that mixes their kinds."""
    found = [
        Question(way, english, french)
        for fact, ways, english, french in _facts()
        if _held_out(fact) == (split == "held_out")
        for way in ways
    ]
    small = [q for q in found if "sum of" not in q.english]
    sums = [q for q in found if "sum of" in q.english]
    rng = random.Random(f"questions|{split}")
    mixed = small + rng.sample(sums, min(len(sums), SUMS * len(small)))
    rng.shuffle(mixed)
    return tuple(mixed)


def _held_out(fact: str) -> bool:
    key = hashlib.blake2b(fact.encode(), digest_size=8).digest()
    return int.from_bytes(key) / 2**64 < HELD_OUT
