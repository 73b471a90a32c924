"""Text from outside is made valid once, at the border: half a character in it is shown as U+FFFD, and ends nothing.

Promised: a lone surrogate in anything that a world or a plug-in says (observations, messages, events, commands, names,
prompts, states, prints) becomes U+FFFD, and a metric counts them. One arm's bad message fails that arm alone. A file of
another program that holds one is read. Text that was valid is never changed.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.episode import Context
from envs.store import read_episodes
from envs.text import message_of, valid, valid_tree
from launch.config.loading import parse_study
from launch.report.build import build as build_report
from launch.storage import jsonl
from launch.study import StudyResult, run_study

TINY = {"hidden": 32, "layers": 1, "heads": 2, "kv_heads": 1, "vocabulary": 400, "episodes": 12, "steps": 2}
WORLD = {"hostile_text:Broken": {}}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> StudyResult:
    """A study of two updates in which every plug-in returns halves of characters, and one arm fails with them."""
    plugins = {"interventions": ["hostile_text:Mumbles"], "reward": {"use": "hostile_text:Pays"}}
    document: dict[str, Any] = {
        "name": "hostile",
        "seeds": 1,
        "model": {"organism": TINY},
        "train": {"worlds": WORLD, "updates": 2, "groups": 2, "group_size": 4, "max_tokens": 8, "checkpoint_every": 1},
        "eval": {
            "worlds": WORLD,
            "episodes": 4,
            "access_episodes": 1,
            "best_of": 2,
            "monitors": ["hostile_text:Suspects"],
        },
        "arms": {
            "complains": {"role": "reference", "interventions": ["hostile_text:Complains"]},
            "mumbles": {"role": "treatment", **plugins},
        },
        "output": str(tmp_path_factory.mktemp("studies")),
    }
    return run_study(parse_study(document, "test"))


def run_of(study: StudyResult) -> Path:
    return study.directory / "runs" / "mumbles" / "seed-0"


def test_an_arm_that_fails_with_a_broken_message_fails_alone_and_its_message_is_told(finished: StudyResult) -> None:
    assert finished.finished == ["mumbles/seed-0"]
    (failed,) = finished.failed
    assert "Complains.cost() raised RuntimeError: I will not \ufffd" in failed.message


def test_a_study_of_broken_texts_ends_in_its_report(finished: StudyResult) -> None:
    page = build_report(finished.directory).read_text(encoding="utf-8")
    assert "bro\ufffdken" in page


def test_every_file_of_the_run_is_utf_8_without_halves(finished: StudyResult) -> None:
    for path in (p for p in run_of(finished).rglob("*") if p.suffix in (".json", ".jsonl", ".txt", ".log")):
        text = path.read_text(encoding="utf-8")
        for line in text.split("\n") if path.suffix == ".jsonl" else [text] * (path.suffix == ".json"):
            json.dumps(json.loads(line or "0"), ensure_ascii=False).encode("utf-8")
    result = json.loads((run_of(finished) / "result.json").read_text(encoding="utf-8"))
    assert result["interventions"] == [{"ke\ufffdy": ["val\ufffdue"]}]


def test_what_was_replaced_is_counted_in_the_metrics(finished: StudyResult) -> None:
    rows = [json.loads(line) for line in (run_of(finished) / "metrics.jsonl").read_text("utf-8").split("\n") if line]
    assert len(rows) == 2 and all(row["replaced_characters"] > 0 for row in rows)
    assert all(row["readings/mumbles/read\ufffding"] == 2.0 for row in rows)
    summary = json.loads((run_of(finished) / "result.json").read_text(encoding="utf-8"))["summary"]
    assert summary["replaced_characters"] > 0


def test_episodes_hold_the_replacement_wherever_a_world_spoke(finished: StudyResult) -> None:
    episodes = [e for path in run_of(finished).glob("episodes/*.parquet") for e in read_episodes(path)]
    turns = [turn for episode in episodes for turn in episode.turns]
    assert {e.world for e in episodes} == {"bro\ufffdken"} and turns
    assert {event.name for turn in turns for event in turn.events} == {"ev\ufffdent"}
    assert {turn.observation for turn in turns} == {"say \ufffd a word .", "turn \ufffd ."}
    errors = {e.error for e in episodes if e.error}
    assert errors and all("no map of \ufffd" in error for error in errors)


def test_a_file_of_another_program_with_halves_in_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'{"note": "\\ud800 and \\ud83d\\ude00"}\n{"note": "\xed\xa0\x80"}\n')
    first, second = jsonl.read(tmp_path / "rows.jsonl")
    assert first["note"] == "\ufffd and \U0001f600" and "\ufffd" in second["note"]


@given(st.text())
def test_valid_text_is_never_changed(text: str) -> None:
    assert valid(text) == text


@given(st.text(st.characters(exclude_categories=()), max_size=20))
def test_whatever_a_string_holds_it_can_be_written_afterwards(text: str) -> None:
    counted: Counter[str] = Counter()
    made = valid(text, counted, "here")
    made.encode("utf-8")
    assert counted["here"] == made.count("\ufffd") - text.count("\ufffd") >= 0
    assert valid(made) == made and len(made) <= len(text)


def test_whole_documents_and_messages_of_exceptions_are_made_valid() -> None:
    assert valid_tree({"\ud800": [("\udfff", 1, None)]}) == {"\ufffd": [("\ufffd", 1, None)]}
    assert Context("\ud800", "\udfff") == Context("\ufffd", "\ufffd")

    class Mute(Exception):
        def __str__(self) -> str:
            raise KeyError

    assert message_of(OSError("\ud800")) == "\ufffd" and "str() raised KeyError" in message_of(Mute())
