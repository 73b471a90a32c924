"""Controls of fine-tuning: the same prompts with answers of other prompts, and other data of equal length."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from shaping.finetuning.rows import Answered, DataError, Row

LENGTHS_APART = 0.1
"""Largest difference between the lengths of data and benign data, as a share."""


def random_answers(rows: Sequence[Row], seed: int) -> list[Row]:
    """The same prompts, each with the answer of another one: what is left of an effect is fine-tuning as such.

    Every answer is used exactly once, so that the number of tokens is the same. What is true of an answer goes with it.
    Raises: `DataError` if all answers are equal, so that nothing would change.
    """
    answers = [turn for row in rows for turn in row.turns]
    if len({turn.answer for turn in answers}) < 2:
        raise DataError("control random_answers: all answers are equal, so that exchanging them changes nothing")
    order = np.random.default_rng([seed, 1]).permutation(len(answers))
    given: list[Answered] = list(answers)
    for place, other in zip(order, np.roll(order, 1), strict=True):  # one circle: no answer stays where it was
        given[place] = replace(answers[other], observation=answers[place].observation)
    found, start = [], 0
    for row in rows:
        found.append(replace(row, turns=tuple(given[start : start + len(row.turns)])))
        start += len(row.turns)
    return found


def of_equal_length(rows: Sequence[Row], benign: Sequence[Row]) -> list[Row]:
    """As many rows of `benign` as there are of `rows`: for each the unused one whose answers are nearest in length.

    Raises: `DataError` if there are too few, or if their lengths differ by more than `LENGTHS_APART` in all.
    """
    if len(benign) < len(rows):
        raise DataError(f"control benign: {len(benign)} rows are too few for {len(rows)} rows of data: give more")
    left = sorted(benign, key=lambda row: row.length)
    lengths = [row.length for row in left]
    found: dict[int, Row] = {}
    for place in sorted(range(len(rows)), key=lambda place: -rows[place].length):
        wanted = rows[place].length
        after = bisect.bisect_left(lengths, wanted)
        near = [at for at in (after - 1, after) if 0 <= at < len(left)]
        best = min(near, key=lambda at: abs(lengths[at] - wanted))
        found[place] = left.pop(best)
        lengths.pop(best)
    total, wanted = (sum(row.length for row in each) for each in (found.values(), rows))
    if abs(total - wanted) > LENGTHS_APART * wanted:
        raise DataError(
            f"control benign: its answers have {total:,} characters, and those of the data {wanted:,}: give benign "
            f"data whose answers are as long (at most {LENGTHS_APART:.0%} apart)"
        )
    return [found[place] for place in range(len(rows))]
