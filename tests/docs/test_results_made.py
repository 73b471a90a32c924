"""Tables name their runs, are called stale if these differ by now, and say how far a rerun may differ."""

from __future__ import annotations

import hashlib
import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
STUDY = "quickstart"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT))
    module = importlib.import_module("docs.results_made")
    known = json.loads((module.RESULTS / STUDY / "made.json").read_text())
    monkeypatch.setattr(module, "transcripts", lambda: known["transcripts"])  # the pages' own test makes them
    return module


@pytest.fixture
def results(made: ModuleType, tmp_path: Path) -> Path:
    """A copy of what stands beside the rows."""
    target = tmp_path / STUDY
    (target / "rows").mkdir(parents=True)
    for name in ("made.json", "rerun.json", "rows/study.json"):
        shutil.copy(made.RESULTS / STUDY / name, target / name)
    return tmp_path


def change(path: Path, how: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads(path.read_text())
    how(document)
    path.write_text(json.dumps(document))


def test_a_table_names_its_runs_and_how_far_a_rerun_may_differ(made: ModuleType, results: Path) -> None:
    told = "\n".join(made.lines_of(STUDY, results))
    assert "Of 35 runs at commit 37e6a06 (study 0c360990); Python 3.11.7 on Linux x86_64, torch 2.13.0+cpu" in told
    assert "Means of arms moved: proxy reward, lies per chance, deceptive episodes by at most 0.02; reward" in told
    (results / STUDY / "rerun.json").unlink()
    assert "No rerun on another machine was measured" in "\n".join(made.lines_of(STUDY, results))


def test_it_is_stale_if_study_claims_transcripts_or_subjects_have_another_digest(
    made: ModuleType, results: Path
) -> None:
    assert made.changes(STUDY, results) == []
    config, written = results / STUDY / "rows" / "study.json", results / STUDY / "made.json"
    change(config, lambda document: document["config"]["train"].update(updates=15))
    assert made.changes(STUDY, results) == ["the study"]
    change(config, lambda document: document["config"]["claims"]["H1"].update(statement="Another."))
    change(written, lambda document: document.update(subjects=["0" * 32]))
    change(written, lambda document: document.update(transcripts={"steward": "0", "pact": "0"}))
    assert made.changes(STUDY, results) == [
        "the study", "its claims", "what is said in steward, pact", "its subjects",
    ]  # fmt: skip
    assert next(iter(made.lines_of(STUDY, results))) == (
        "**Stale:** the study, its claims, what is said in steward, pact, its subjects have another digest by now; run "
        "it again."
    )


@pytest.mark.parametrize("study", ["smollm2_inoculation", "em_language"])
def test_weights_that_do_not_come_with_the_package_are_not_compared(
    made: ModuleType, monkeypatch: pytest.MonkeyPatch, study: str
) -> None:
    known = json.loads((made.RESULTS / study / "made.json").read_text())
    monkeypatch.setattr(made, "transcripts", lambda: known["transcripts"])
    assert known["subjects"] and not set(known["subjects"]) & made.subjects()
    assert made.changes(study) == []


def test_a_commit_is_found_by_its_sources_or_the_runs_cannot_be_published(
    made: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    # one commit of one file: blake2b-128 of "envs/a.py" NUL "x" NUL
    answers = {"log": b"c1\n", "ls-tree": b"100644 blob b1\tenvs/a.py\n100644 blob b2\tenvs/a.txt\n", "cat-file": b"x"}
    monkeypatch.setattr(made, "_bytes", lambda *words: answers[words[0]])
    made.commit_of.cache_clear()
    assert made.commit_of(hashlib.blake2b(b"envs/a.py\0x\0", digest_size=16).hexdigest()) == "c1"
    with pytest.raises(ValueError, match="no commit has the sources 00: commit what the runs were of"):
        made.commit_of("00")
    made.commit_of.cache_clear()
