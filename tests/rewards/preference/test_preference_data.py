"""Examples of preferences: files, what is refused in them, and the split by situation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rewards.preference.data import (
    Examples,
    Labelled,
    Message,
    Pair,
    PreferenceError,
    checked,
    read_jsonl,
    write_jsonl,
)


def said(text: str) -> tuple[Message, ...]:
    return (Message("user", "and ?"), Message("assistant", text))


def written(path: Path, *lines: Any) -> Path:
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


def test_a_file_reads_back_as_it_was_written(tmp_path: Path) -> None:
    examples = Examples(
        (Pair("s1", said("yes"), said("no"), "clerk", 2.0),),
        (Labelled("s2", said("maybe ✓"), True), Labelled("s2", said("never"), False, "steward")),
    )
    write_jsonl(tmp_path / "x.jsonl", examples)
    assert read_jsonl(tmp_path / "x.jsonl") == examples
    assert examples.worlds == ["clerk", "steward"] and examples.situations == ["s1", "s2"]


def test_texts_answer_the_prompt_which_names_the_situation(tmp_path: Path) -> None:
    path = written(tmp_path / "x.jsonl", {"prompt": "how ?", "better": "so", "worse": "or so"})
    (pair,) = read_jsonl(path).pairs
    assert pair.situation == "how ?" and pair.better == (Message("user", "how ?"), Message("assistant", "so"))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ({"prompt": "q", "better": "a", "worse": "a"}, "both answers are the same"),
        ({"prompt": "q", "better": " ", "worse": "a"}, "better: the answer is empty"),
        ({"prompt": "q", "better": "b", "worse": [{"role": "user", "content": "u"}]}, "worse: the answer is empty"),
        ({"prompt": "q", "better": "a"}, "line 1: give `better` and `worse`, or `answer` and `good`"),
        ({"prompt": "q", "better": "a", "worse": "b", "good": True}, "give `better` and `worse`, or"),
        ({"better": "a", "worse": "b"}, "give a prompt, or the name of the situation"),
        ({"prompt": "q", "better": "a", "worst": "b"}, "worst: Extra inputs are not permitted"),
        ({"prompt": "q", "better": [{"role": "system", "content": "s"}], "worse": "b"}, "line 1: better"),
        ("{", "no JSON in UTF-8"),
        ("[" * 100_000, "no JSON in UTF-8"),
        ({"prompt": "q", "answer": "a", "good": True}, "all 1 answers are good: give answers of both classes"),
    ],
)
def test_a_line_that_teaches_nothing_is_refused_by_its_place(tmp_path: Path, line: Any, says: str) -> None:
    path = written(tmp_path / "x.jsonl", line)
    with pytest.raises(PreferenceError) as refused:
        read_jsonl(path)
    assert says in str(refused.value) and str(path) in str(refused.value)


def test_a_file_that_is_empty_or_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PreferenceError, match="no examples"):
        read_jsonl(written(tmp_path / "x.jsonl"))
    with pytest.raises(PreferenceError, match="cannot be read: No such file"):
        read_jsonl(tmp_path / "none.jsonl")


def test_no_situation_is_on_both_sides_of_the_split_and_each_stays_on_its_side() -> None:
    pairs = tuple(Pair(f"s{n // 3}", said(f"yes {n}"), said(f"no {n}")) for n in range(600))
    training, held_out = Examples(pairs).split(0.25, seed=3)
    assert len(training) + len(held_out) == 600
    assert not set(training.situations) & set(held_out.situations)
    assert abs(len(held_out.situations) / 200 - 0.25) < 4 * (0.25 * 0.75 / 200) ** 0.5
    fewer, _ = Examples(pairs[:300]).split(0.25, seed=3)
    assert set(fewer.situations) == set(training.situations) & {f"s{n}" for n in range(100)}
    with pytest.raises(PreferenceError, match=r"1 situation.s. cannot be split"):
        Examples(pairs[:3]).split(0.5)


def test_a_pair_is_a_good_answer_and_a_bad_one() -> None:
    pair, label = Pair("s", said("yes"), said("no"), "w"), Labelled("t", said("so"), False)
    assert Examples((pair,), (label,)).as_labels() == [
        Labelled("s", said("yes"), True, "w"),
        Labelled("s", said("no"), False, "w"),
        label,
    ]
    assert checked(Examples((pair,), (label,)), "x").first(1) == Examples((pair,))
