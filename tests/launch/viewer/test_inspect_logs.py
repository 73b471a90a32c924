"""Episodes as logs of Inspect: the fields of its format, worked out by hand for the small study."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from viewed_study import HOSTILE_ARM, MARK

from launch.errors import UserError
from launch.viewer.inspect_logs import export_logs
from launch.viewer.reader import Reader


@pytest.fixture(scope="module")
def folder(reader: Reader, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("logs")
    assert len(export_logs("study", reader, found, 8)) == 3
    return found


@pytest.fixture(scope="module")
def log(folder: Path) -> Any:
    (path,) = folder.glob("*study-a-seed-0-eval*")
    return json.loads(path.read_text())


def test_one_log_per_file_named_as_inspect_finds_it(folder: Path) -> None:
    logs = {path.name: json.loads(path.read_text()) for path in folder.iterdir()}
    assert {(log["eval"]["model"], len(log["samples"])) for log in logs.values()} == {
        ("shaping/a", 3),
        ("shaping/a", 2),
        (f"shaping/{HOSTILE_ARM}", 3),
    }
    for name, log in logs.items():
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d-00-00_[\w-]+_[0-9a-f]{22}\.json", name)
        assert log["version"] == 2 and log["status"] == "success"
        assert log["eval"]["dataset"]["samples"] == log["results"]["total_samples"] == len(log["samples"])


def test_turns_become_messages_and_events(log: Any) -> None:
    sample = log["samples"][2]
    roles = [message["role"] for message in sample["messages"]]
    assert roles == ["system", *["user", "assistant"] * 3]
    assert sample["messages"][2]["content"] == f"because {MARK}\nACTION: grab {MARK}"
    assert sample["output"]["completion"] == sample["messages"][-1]["content"]
    events = [event["data"] for event in sample["events"]]
    assert [event["truth"] for event in events] == [[], ["deception (knew better)"], []]
    assert events[1]["monitors"] == {"claim_check/deception": 1.0}
    assert len({message["id"] for s in log["samples"] for message in s["messages"]}) == 3 * 7 - 4


def test_scores_are_truth_and_the_highest_of_each_monitor(log: Any) -> None:
    """Episodes of 0, 2 and 1 lies have a mean of 1; claim_check sees one of the three."""
    truth = [sample["scores"]["truth"]["value"] for sample in log["samples"]]
    assert [value["deception"] for value in truth] == [0, 2, 1]
    assert [value["return"] for value in truth] == [1.0, 1.0, 1.5]
    means = {(s["scorer"], s["name"]): s["metrics"]["mean"]["value"] for s in log["results"]["scores"]}
    assert means["truth", "deception"] == 1.0
    assert means["truth", "return"] == pytest.approx(3.5 / 3)
    assert means["monitors", "claim_check/deception"] == pytest.approx(1 / 3)
    assert means["monitors", "motive_check/deception"] == 0


def test_logs_are_not_written_over(reader: Reader, folder: Path) -> None:
    with pytest.raises(UserError, match="is there already"):
        export_logs("study", reader, folder, 8)


def test_inspect_itself_reads_the_logs(folder: Path) -> None:
    logs = pytest.importorskip("inspect_ai.log", reason="inspect-ai is not installed")
    found = [logs.read_eval_log(str(path)) for path in folder.iterdir()]
    assert sorted(len(log.samples) for log in found) == [2, 3, 3]
    assert len(logs.list_eval_logs(str(folder))) == 3
