"""`shaping validate`: labelled episodes from players and runs, a card on disk, and its line in a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_study import config as synthetic
from synthetic_study import write_study
from typer.testing import CliRunner

from envs.store import read_episodes
from launch.cli import app
from launch.config.loading import parse_study
from launch.errors import UserError
from launch.report.build import build
from launch.run.execute import execute
from launch.storage.rundir import RunDirectory
from launch.validate.command import folder_of, validate_monitor, write_card
from launch.validate.every import LEFT_OUT, MADE
from launch.validate.reader import Reader
from launch.validate.sources import of_run
from shaping.directions.direction_set import DirectionSet
from shaping.monitors import ClaimCheck, OvertAction, PersonaMonitor
from shaping.monitors.read import read_all
from shaping.monitors.validation.card import Card

CLERK = {"clerk": {"size": 2, "horizon": 3, "inquiry": 0.5}}


def carded(use: str = "ClaimCheck", world: str = "clerk", **changes: Any) -> Card:
    settings: dict[str, Any] = {"episodes": 4, "locales": "none", "resamples": 20, **changes}
    return validate_monitor(use, settings.pop("fields", {}), world, **settings)


@pytest.fixture(scope="module")
def finished(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run that nothing was trained against, and one trained against the monitor of overt acts."""
    spent = {"use": "OvertAction", "role": "train"}
    document = {
        "name": "small",
        "seeds": 1,
        "train": {"worlds": CLERK, "updates": 1, "groups": 1, "group_size": 4, "max_tokens": 8},
        "eval": {"worlds": CLERK, "episodes": 2, "access_episodes": 0, "monitors": [spent, "ClaimCheck"]},
        "arms": {
            "plain": {"role": "reference"},
            "priced": {"role": "treatment", "interventions": [{"use": "MonitorPenalty", "monitor": spent}]},
        },
    }
    found = {}
    for run in parse_study(document, "test").runs():
        found[run.arm] = tmp_path_factory.mktemp(run.arm) / "run"
        execute(run, model, RunDirectory(found[run.arm]))
    return found


# Sources --------------------------------------------------------------------------------------------------------------


def test_runs_are_sources_and_one_trained_against_a_monitor_of_the_class_is_an_adversary(
    finished: dict[str, Path],
) -> None:
    runs = list(finished.values())
    of_acts = carded("OvertAction", "clerk", runs=runs, fields={"trait": "harm"})
    sources = {s.name: s for each in of_acts.traits for s in each.sources}
    assert sources["plain, seed 0"].kind == "checkpoint"
    assert sources["priced, seed 0"].kind == "adversary"
    assert sources["priced, seed 0"].note == "trained against overt_action, which is this monitor"
    (other,) = of_run(finished["priced"], "clerk", ClaimCheck())["en-2025"].origins[:1]
    assert (other.kind, other.note) == ("checkpoint", "trained against overt_action")
    (kin,) = of_run(finished["priced"], "clerk", OvertAction(trait="power_seeking"))["en-2025"].origins[:1]
    assert (kin.kind, kin.note) == ("adversary", "trained against overt_action")


def test_a_run_that_cannot_judge_is_refused_with_a_remedy(finished: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="was evaluated in clerk, not in steward; give --world one of them"):
        carded("OvertAction", "steward", runs=[finished["plain"]])
    with pytest.raises(UserError, match="is not a run directory"):
        carded(runs=[tmp_path])
    episodes = read_episodes(finished["plain"] / "episodes" / "eval.parquet")
    copied = RunDirectory(tmp_path / "run")
    copied.create({"arm": "plain"}, {})
    copied.episodes("eval", [episode.redacted() for episode in episodes])
    copied.finish({"summary": {}, "updates": 0})
    with pytest.raises(UserError, match="its labels are sealed, so that no monitor can be judged by them"):
        carded(runs=[copied.path])
    foreign = RunDirectory(tmp_path / "foreign")
    foreign.create({"arm": "plain"}, {})
    foreign.finish({"summary": {}, "updates": 0})
    with pytest.raises(UserError, match=r"has no episodes/eval\.parquet"):
        carded(runs=[foreign.path])
    empty = RunDirectory(tmp_path / "empty")
    empty.create({"arm": "plain"}, {})
    empty.episodes("eval", [])
    empty.finish({"summary": {}, "updates": 0})
    with pytest.raises(UserError, match="was evaluated in no world, not in clerk"):
        carded(runs=[empty.path])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"fields": {"trait": "shutdown_resistance"}, "use": "MotiveCheck"},
            "is never possible in clerk",
        ),
        ({"world": "clerk@xx-1"}, "--world: .*unknown skin 'xx-1'"),
        ({"locales": "ar-1"}, "--locales: .*did you mean 'ar-1"),
        ({"use": "ClaimChek"}, "did you mean .ClaimCheck"),
        ({"world": "clark"}, "did you mean .clerk"),
        ({"use": "monitor_fakes:NotANumber", "fields": {"group": 0}, "episodes": 1}, "failed at all .* nan is not in"),
    ],
)
def test_bad_input_is_told_in_a_sentence(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        carded(**arguments)


def test_a_monitor_of_hidden_states_needs_a_model_and_reads_it(model: Path, tmp_path: Path) -> None:
    width = json.loads((model / "config.json").read_text())["hidden_size"]
    one, sides = np.ones((1, 101), np.float32), np.array([[[1.0, -1.0], [1.0, -1.0]]], np.float32)
    kept = DirectionSet((0,), np.eye(1, width, dtype=np.float32), np.ones(1, np.float32), one, -one, sides, {})
    kept.save(tmp_path / "d.safetensors")
    fields = {"path": str(tmp_path / "d.safetensors"), "trait": "invalid"}
    with pytest.raises(UserError, match="reads hidden states, which only a model has: give one with --model"):
        carded("PersonaMonitor", fields=fields)
    monitor = PersonaMonitor.model_validate(fields)
    reader = Reader(str(model), 6)
    played = reader.seen(reader.played("clerk", {"size": 2}, 3), monitor.captures())
    read = read_all(monitor, played.episodes)
    assert read.whole == [0, 1, 2] and {origin.kind for origin in played.origins} == {"model"}
    (trait,) = carded("PersonaMonitor", fields=fields, model=str(model), max_tokens=6, options={"size": 2}).traits
    sources = {each.kind: each for each in trait.sources}
    assert set(sources) == {"honest", "random", "cheating", "model"}  # the model reads what scripted players say
    assert sources["honest"].positives == 0 and sources["model"].positives > 0  # the model babbles


def test_all_monitors_get_a_card_or_a_reason_from_the_same_episodes(model: Path, tmp_path: Path) -> None:
    words = ["validate", "all", "--world", "clerk", "--option", "size=2", "--episodes", "4", "--model", str(model)]
    words += ["--max-tokens", "6", "--resamples", "10", "--out", str(tmp_path)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    cards = {path.stem: Card.model_validate_json(path.read_text()) for path in tmp_path.glob("*-clerk.json")}
    missing = {each["monitor"]: each["why"] for each in json.loads((tmp_path / LEFT_OUT).read_text())}
    assert {"claim_check-clerk", "ground_truth-clerk", "motive_check-clerk", "probe-clerk"} <= set(cards)
    assert missing["transcript_judge"] == "it needs judges, which nobody can make for it"
    assert (tmp_path / MADE / "probe-clerk.safetensors").is_file()
    probe = cards["probe-clerk"].traits[0]
    assert {each.name for each in probe.sources} >= {"honest", "deceiver", "garbage"}
    # the same seeds and players as without a model, so that rule monitors read the same
    alone = {each.name: each.recall for each in carded(options={"size": 2}).traits[0].sources}
    found = {each.name: each.recall for each in cards["claim_check-clerk"].traits[0].sources}
    assert len(alone) > 4 and {name: found[name] for name in alone} == alone


# The card -------------------------------------------------------------------------------------------------------------


def test_the_command_writes_the_card_and_says_its_line(tmp_path: Path) -> None:
    words = ["validate", "OvertAction", "trait=harm", "--world", "steward", "--option", "size=2", "--episodes", "3"]
    done = CliRunner().invoke(app, [*words, "--locales", "none", "--resamples", "20", "--out", str(tmp_path / "cards")])
    assert done.exit_code == 0, done.output
    assert "overt_action (version " in done.output and "shutdown_resistance is not judged: it is never" in done.output
    assert sorted(path.suffix for path in (tmp_path / "cards").iterdir()) == [".html", ".json", ".md"]


def test_a_card_is_written_as_json_markdown_and_a_page_that_asks_the_network_for_nothing(tmp_path: Path) -> None:
    found = carded(locales="ar-1850", fields={"name": "<script>alert(1)</script>"})
    page = write_card(found, tmp_path).read_text(encoding="utf-8")
    assert "calibration-deception" in page and "transfer-deception" in page and "default-src &#39;none&#39;" in page
    assert "<script>alert(1)" not in page and "ar-1850" in page
    (json_file,), (markdown,) = tmp_path.glob("*.json"), tmp_path.glob("*.md")
    assert Card.model_validate(json.loads(json_file.read_text())).model_dump(mode="json") == found.model_dump(
        mode="json"
    )
    text = markdown.read_text(encoding="utf-8")
    assert "| AUROC " in text and "| ar-1850 " in text and "| deceiver " in text


def test_a_folder_that_is_no_study_is_refused(tmp_path: Path) -> None:
    assert folder_of(None, None) == Path("cards") and folder_of(None, tmp_path) == tmp_path
    with pytest.raises(UserError, match=r"holds no study\.json"):
        folder_of(tmp_path, None)
    with pytest.raises(UserError, match="not both"):
        folder_of(tmp_path, tmp_path)


def test_a_report_prints_the_line_of_a_card_beside_the_monitor_and_names_those_without(tmp_path: Path) -> None:
    readings = {"monitor.claim_check.deception.recall": 0.5, "monitor.probe.deception.recall": 0.25}
    readings["monitor.truth.deception.recall"] = 1.0
    versions = {"monitors": {"claim_check": {"version": "0123456789ab"}, "truth": {"oracle": True}, "probe": 7}}
    path = write_study(
        tmp_path / "study", synthetic(seeds=1), updates=3, episodes=False, summary=readings, result=versions
    )
    without = build(path, tmp_path / "first").with_name("report.md").read_text(encoding="utf-8")
    assert "No card tells how good claim_check, probe are" in without
    write_card(carded(), folder_of(path, None))
    (path / "cards" / "torn.json").write_text('{"format": "shaping-monitor-card"}')
    report = build(path, tmp_path / "second")
    for text in (report.read_text(encoding="utf-8"), report.with_name("report.md").read_text(encoding="utf-8")):
        assert "in clerk, deception: AUROC 1.00 [" in text
        assert "the runs used version 0123456789ab" in text and "No card tells how good probe is" in text
        assert "cards/torn.json is no card of a monitor" in text
