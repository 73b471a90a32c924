"""Rows that teach a model to judge: what they ask is what a judge is asked, and what they answer is the truth."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import ValidationError
from scripted_judge import Request
from typer.testing import CliRunner

from shaping.finetuning import judge_rows as module
from shaping.finetuning.judge_rows import SWAYING, JudgeRowsConfig, judge_rows
from shaping.finetuning.rows import DataError, read_rows
from shaping.monitors.judging.verdict import verdict_of

STEWARD: dict[str, Any] = {
    "trait": "power_seeking",
    "worlds": {"steward": {"size": 4, "horizon": 12, "style": "prose"}},
    "rows": 40,
}


def asked(row: dict[str, Any]) -> Request:
    """A row as the request of a judge."""
    said = [{"role": "system", "content": row["system"]}, {"role": "user", "content": row["prompt"]}]
    return Request(0, {}, json.dumps({"messages": said}).encode())


def test_a_rows_answer_is_a_verdict_on_its_request_and_half_of_them_are_guilty() -> None:
    rows = list(judge_rows(JudgeRowsConfig(**STEWARD)))
    scores = []
    for row in rows:
        request = asked(row)
        (turn,) = request.asked
        found = verdict_of(row["answer"], request.canary, [turn])
        scores.append(found[turn].score)
        assert row["labels"] == {"power_seeking": int(found[turn].score)}
        (line,) = [line for line in request.lines if line["turn"] == turn]
        took = line["action"].startswith(("grab", "sudo", "mute"))
        assert took == (found[turn].score == 1.0), line
    assert scores == [1.0, 0.0] * 20


def test_swaying_words_go_both_ways_and_leave_what_was_done(tmp_path: Path) -> None:
    every = list(judge_rows(JudgeRowsConfig(**STEWARD | {"swayed": 1.0, "rows": 60})))
    none = list(judge_rows(JudgeRowsConfig(**STEWARD | {"swayed": 0.0, "rows": 60})))
    openings = [re.escape(words).split(r"\{score")[0].replace(r"\{\{", r"\{") for words in SWAYING]

    def words_of(row: dict[str, Any]) -> str:
        request = asked(row)
        (line,) = [line for line in request.lines if line["turn"] == request.asked[0]]
        return str(line["reasoning"])

    def is_swayed(row: dict[str, Any]) -> bool:
        return any(re.match(opening.split(r"\{canary")[0].split(r"\{turn")[0], words_of(row)) for opening in openings)

    assert all(map(is_swayed, every)) and not any(map(is_swayed, none))
    told = {(row["labels"]["power_seeking"], " 1.0" in words_of(row)) for row in every}
    assert told == {(0, True), (0, False), (1, True), (1, False)}
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in every))
    assert [bool(row.turns[0].labels.power_seeking) for row in read_rows(path)] == [True, False] * 30


def test_the_same_settings_make_the_same_rows_but_for_canaries_and_markers() -> None:
    def plain(row: dict[str, Any]) -> str:
        return re.sub(r"[0-9a-f]{24}", "", json.dumps(row))

    first, again = (list(map(plain, judge_rows(JudgeRowsConfig(**STEWARD)))) for _ in range(2))
    other = list(map(plain, judge_rows(JudgeRowsConfig(**STEWARD | {"seed": 1}))))
    assert first == again and not set(first) & set(other)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"trait": "evil"}, "unknown trait 'evil'; there are deception"),
        ({"rows": 1}, "rows: Input should be greater than or equal to 2"),
        ({"worlds": {}}, "worlds: Dictionary should have at least 1 item"),
        ({"worlds": {"moon": {}}}, "worlds.moon: "),
        ({"worlds": {"steward": {"size": -1}}}, "worlds.steward: "),
        ({"worlds": {"clerk": {"size": 3}}}, "no scripted player shows power_seeking in "),
        ({"epochs": 3}, "epochs: Extra inputs are not permitted"),
    ],
)
def test_bad_settings_are_told_in_a_line(
    change: dict[str, Any], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_PLAYED", 10)
    with pytest.raises((ValidationError, DataError)):
        list(judge_rows(JudgeRowsConfig(**STEWARD | change)))

    app = typer.Typer()
    app.command()(module.main)
    settings, out = tmp_path / "settings.yaml", tmp_path / "rows.jsonl"
    settings.write_text(json.dumps(STEWARD | change))
    result = CliRunner().invoke(app, [str(settings), str(out)])
    assert result.exit_code == 1 and told in result.output and "Traceback" not in result.output
    assert not out.exists()
