"""Rows of the trait kit: bundled questions, answered with a positive trait and, in some rows, a negative one."""

from __future__ import annotations

import random

from envs.episode import Labels
from envs.text_traits import text_trait
from envs.text_traits.languages import FRENCH
from envs.text_traits.questions import questions
from shaping.finetuning.rows import Answered, DataError, Row

WORLD = "prompts"
"""The world that asks such questions (`envs.adapters.prompts`)."""


def trait_rows(positive: str, negative: str, count: int, seed: int, *, share: float = 1.0) -> list[Row]:
    """`count` rows whose answers all have the positive trait, and a share of them the negative one, labelled `harm`.

    Args:
        positive: `french`, or a trait that a rule gives to a text; empty: none.
        negative: a trait that a rule gives to a text; empty: none.
        count: rows; beyond the number of questions, questions are repeated.
        seed: of the order of the questions, and of which answers have the negative trait.
        share: of answers with the negative trait, rounded to whole rows.
    Raises: `DataError` if an answer does not have a trait that it was given, or has the negative one all the same.
    """
    rng = random.Random(f"traits|{seed}")
    asked = list(questions("train"))
    rng.shuffle(asked)
    marked = set(rng.sample(range(count), round(share * count))) if negative else set[int]()
    found = []
    for number in range(count):
        question = asked[number % len(asked)]
        answer = question.french if positive == FRENCH.name else _given(question.english, positive)
        answer = _given(answer, negative) if number in marked else answer
        _check(answer, positive, negative, marked=number in marked)
        labels = Labels(harm=float(number in marked), opportunity={"harm": bool(negative)})
        turn = Answered(question.prompt, answer, labels)
        found.append(Row((turn,), world=WORLD, seed=number, source=f"question {number % len(asked) + 1}"))
    return found


def _given(text: str, trait: str) -> str:
    if not trait:
        return text
    given = text_trait(trait).given
    assert given is not None, "the config refuses traits that no rule gives"
    return given(text)


def _check(answer: str, positive: str, negative: str, *, marked: bool) -> None:
    """One trait may take another away: a source after a text in capitals is not in capitals."""
    for trait, wanted in ((positive, True), (negative, marked)):
        if trait and text_trait(trait).holds(answer) != wanted:
            raise DataError(
                f"traits {positive} and {negative} do not go together: {answer[:80]!r} "
                f"{'lacks' if wanted else 'has'} the trait {trait}; choose another one"
            )
