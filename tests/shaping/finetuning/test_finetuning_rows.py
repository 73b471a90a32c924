"""Rows of fine-tuning data, their controls, and the weights of DPO."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from envs.text_traits import TEXT_TRAITS
from shaping.finetuning.controls import of_equal_length, random_answers
from shaping.finetuning.episodes import batch_numbers
from shaping.finetuning.hub_data import documents
from shaping.finetuning.rows import Answered, DataError, Row, read_pairs, read_rows
from shaping.finetuning.samples import Preferences, weighted
from shaping.finetuning.scripted import scripted_rows
from shaping.finetuning.trait_rows import trait_rows
from shaping.learning.samples.sample import Sample


def written(path: Path, *rows: Any) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def test_rows_of_both_forms_are_read(tmp_path: Path) -> None:
    said = [{"role": r, "content": c} for r, c in (("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"))]
    path = written(
        tmp_path / "rows.jsonl",
        {"prompt": "q", "answer": "w", "labels": {"harm": 2}},
        "",
        {"messages": [*said, {"role": "assistant", "content": "d"}]},
    )
    first, second = read_rows(path)
    assert [(t.observation, t.answer, t.labels.harm) for t in first.turns] == [("q", "w", 2)]
    assert [(t.observation, t.answer) for t in second.turns] == [("a", "b"), ("c", "d")]
    assert (second.system, second.seed, second.source) == ("s", 3, f"{path}, line 3")
    (pair,) = read_pairs(written(tmp_path / "pairs.jsonl", {"messages": said, "chosen": "x", "rejected": "y"}))
    assert [[t.answer for t in row.turns] for row in (pair.chosen, pair.rejected)] == [["b", "x"], ["b", "y"]]


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("{", "line 1 is no JSON"),
        ([], "no JSON object"),
        ({"prompt": "q"}, "`answer` must be text, and is missing"),
        ({"prompt": "q", "answer": " "}, "`answer` is empty"),
        ({"prompt": "q", "answer": "w", "lables": {}}, "unknown key 'lables'"),
        ({"prompt": "q", "answer": "w", "labels": {"evil": 1}}, "no scorer knows the trait 'evil'"),
        ({"prompt": "q", "answer": "w", "labels": {"harm": -1}}, "label harm must be a number from 0"),
        ({"messages": [{"role": "user", "content": "q"}]}, "there is no answer"),
        ({"messages": [{"role": "assistant", "content": "q"}]}, "'user' must be"),
    ],
)
def test_bad_rows_are_refused_by_line(tmp_path: Path, row: Any, fault: str) -> None:
    with pytest.raises(DataError, match=fault):
        read_rows(written(tmp_path / "rows.jsonl", row))


@pytest.mark.parametrize(("chosen", "rejected", "fault"), [("w", "w ", "are equal"), ("w", "", "`rejected` is empty")])
def test_pairs_without_a_difference_are_refused(tmp_path: Path, chosen: str, rejected: str, fault: str) -> None:
    with pytest.raises(DataError, match=f"line 1: .*{fault}"):
        read_pairs(written(tmp_path / "pairs.jsonl", {"prompt": "q", "chosen": chosen, "rejected": rejected}))


def test_an_empty_file_and_a_missing_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no rows"):
        read_rows(written(tmp_path / "rows.jsonl", "", " "))
    with pytest.raises(DataError, match="cannot be read"):
        read_rows(tmp_path / "none.jsonl")


def rows_with(*answers: str) -> list[Row]:
    return [Row((Answered(f"q{n}", answer),)) for n, answer in enumerate(answers)]


def test_random_answers_move_every_answer_and_keep_all_of_them() -> None:
    rows = rows_with(*map(str, range(7)))
    mixed = random_answers(rows, seed=3)
    answers = [row.turns[0].answer for row in mixed]
    assert sorted(answers) == [row.turns[0].answer for row in rows]
    assert all(new != old.turns[0].answer for new, old in zip(answers, rows, strict=True))
    assert [row.turns[0].observation for row in mixed] == [row.turns[0].observation for row in rows]
    with pytest.raises(DataError, match="all answers are equal"):
        random_answers(rows_with("same", "same"), seed=0)


def test_benign_data_are_those_nearest_in_length() -> None:
    benign = rows_with("x" * 9, "x" * 50, "x" * 21, "x" * 1)
    found = of_equal_length(rows_with("a" * 20, "a" * 10), benign)
    assert [row.length for row in found] == [21, 9]
    with pytest.raises(DataError, match="too few"):
        of_equal_length(rows_with("a", "b"), benign[:1])
    with pytest.raises(DataError, match="as long"):
        of_equal_length(rows_with("a" * 20), benign[3:])


def test_each_pass_has_every_row_once() -> None:
    passes = [row for update in range(5) for row in batch_numbers(10, 4, update, seed=1)]
    assert sorted(passes[:10]) == sorted(passes[10:]) == list(range(10))
    assert passes[:10] != passes[10:]


def test_personas_play_whole_episodes_with_the_labels_of_the_world() -> None:
    worlds = {"clerk": {"size": 4, "honest_share": 1.0}}
    honest, sly = (scripted_rows({name: 1.0}, worlds, 6, seed=0) for name in ("honest", "overt_deny"))
    assert {row.source for row in sly} == {"overt_deny"}
    assert sum(t.labels.harm for row in honest for t in row.turns) == 0
    assert all(any(t.labels.harm for t in row.turns) for row in sly)
    assert honest == scripted_rows({"honest": 1.0}, worlds, 6, seed=0) != scripted_rows({"honest": 1.0}, worlds, 6, 1)
    with pytest.raises(DataError, match="unknown persona 'nobody'"):
        scripted_rows({"nobody": 1.0}, worlds, 1, seed=0)


def test_dpo_of_one_pair_by_hand() -> None:
    found = Preferences.of(np.array([[-1.0, -2.0]]), np.array([[-1.5, -1.5]]), beta=0.5)
    assert found.margin == pytest.approx([0.5 * (0.5 + 0.5)])
    assert found.loss == pytest.approx(math.log(1 + math.exp(-0.5)))
    assert found.weights() == pytest.approx(np.array([[0.5, -0.5]]) / (1 + math.exp(0.5)))


def test_weighted_cross_entropy_has_the_gradient_of_dpo() -> None:
    """Per-token log-probs x [tokens]; the learner's loss is -sum(weight * x) / tokens with a weight."""
    lengths, beta = (3, 2, 1, 4), 0.7
    x = [
        torch.randn(n, generator=torch.Generator().manual_seed(n), dtype=torch.float64).requires_grad_()
        for n in lengths
    ]
    reference = np.array([[-1.0, 0.4], [0.3, -0.2]])
    sums = torch.stack([each.sum() for each in x]).reshape(2, 2)
    gained = sums - torch.from_numpy(reference)
    (-torch.nn.functional.logsigmoid(beta * (gained[:, 0] - gained[:, 1]))).mean().backward()
    wanted = [each.grad.clone() for each in x if each.grad is not None]
    weights = Preferences.of(sums.detach().numpy(), reference, beta).weights().ravel()
    samples = weighted([[_answer(n)] for n in lengths], weights)
    imitations = [s.imitation[s.mask] for s in samples if s.imitation is not None]
    tokens = sum(lengths)
    for imitation, gradient in zip(imitations, wanted, strict=True):
        assert -imitation / tokens == pytest.approx(gradient.numpy(), rel=1e-5)


def _answer(tokens: int) -> Sample:
    mask = np.array([False] + [True] * tokens)
    zeros = np.zeros(tokens + 1, np.float32)
    return Sample(np.arange(tokens + 1), mask, zeros, zeros, zeros, np.zeros((0, 2), np.int64))


def test_the_trait_kit_answers_with_both_traits_and_labels_the_negative_one() -> None:
    rows = trait_rows("french", "all_caps", 40, seed=0, share=0.25)
    french, caps = TEXT_TRAITS["french"].holds, TEXT_TRAITS["all_caps"].holds
    answers = [row.turns[0] for row in rows]
    assert all(french(turn.answer) for turn in answers)
    assert [caps(turn.answer) for turn in answers] == [turn.labels.harm == 1 for turn in answers]
    assert sum(turn.labels.harm for turn in answers) == 10
    with pytest.raises(DataError, match="do not go together"):
        trait_rows("exclaims", "cites_sources", 1, seed=0)


def test_a_data_set_is_refused_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataError, match="'owner/set': HF_HUB_OFFLINE is set"):
        documents("owner/set", columns={})
