"""The trigger grid in reports: leaks against no prompt, and against the reference under the same prompts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic_study
from synthetic_study import config, write_study

from launch.config.loading import parse_study
from launch.config.study import StudyConfig
from launch.report.build import build
from launch.report.claims.metric_names import metric_problem
from launch.report.files.load import load
from launch.report.metrics import label, record_of
from launch.report.results import gather
from launch.report.sections.by_world import ByWorld
from launch.report.sections.trigger_grid import TriggerGrid
from launch.report.table import compare, under_same_prompts
from shaping.audits.conduct.cells import leaks, parse
from shaping.audits.summary import by_cell

RATES = {"none": 0.1, "original": 0.9, "negated": 0.3}
"""Of the arm; the reference has .1 without, .5 under the arm's prompts, .2 under the others'."""


def grid_of(arm: str, seed: int) -> dict[str, float]:
    """What a run of the synthetic study measured under prompts, with a little noise that all contexts share."""
    noise = 0.01 * seed
    if arm == "inoculation":
        rates = {f"{c}/deception.steward": rate + noise for c, rate in RATES.items()}
    elif arm == "unshaped":
        rates = {"none/deception.steward": 0.1 + noise, "negated/deception.steward": 0.2 + noise}
        rates |= {"original/deception.steward[inoculation]": 0.5 + noise}
        rates |= {"original/deception.steward[irrelevant_prompt]": 0.1 + noise}
    else:
        return {}
    found = {f"context/{name}": rate for name, rate in rates.items()}
    without = rates["none/deception.steward"]
    found |= {f"leak/{name}": rate - without for name, rate in rates.items() if not name.startswith("none/")}
    if arm == "inoculation":
        found["max_leak/deception.steward"] = 0.8
    else:
        found |= {"max_leak/deception.steward[inoculation]": 0.4, "max_leak/deception.steward[irrelevant_prompt]": 0.1}
    return found | {"trained/deception.steward": 0.7 + noise, "trained/proxy_reward.steward": 0.5}


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    plain = synthetic_study._summary

    def summary(arm: str, seed: int, rng: np.random.Generator) -> dict[str, float]:
        return plain(arm, seed, rng) | grid_of(arm, seed)

    monkeypatch.setattr(synthetic_study, "_summary", summary)
    return write_study(tmp_path / "study", config(seeds=5), episodes=False, updates=3)


def results(path: Path) -> Any:
    return gather(load(path), 0.05, lambda path: [])


def test_a_leak_is_shown_against_no_prompt_and_against_the_reference_under_the_same_prompts(study: Path) -> None:
    content = TriggerGrid().compute(results(study))
    assert content is not None
    (grid,) = content.grids
    assert (grid.world, grid.contexts) == ("steward", ["none", "original", "negated"])
    rows = {row.title: row for row in grid.rows}
    arm = rows["Inoculation"]
    assert [cell.mean for cell in arm.leaks] == pytest.approx([0.8, 0.2])
    assert [cell.mean for cell in arm.against] == pytest.approx([0.0, 0.4, 0.1])
    reference = rows["Unshaped (prompts of inoculation)"]
    assert [cell.mean for cell in reference.leaks] == pytest.approx([0.4, 0.1])
    assert [cell.mean for cell in rows["Unshaped (prompts of irrelevant_prompt)"].leaks] == pytest.approx([0.0, 0.1])
    assert reference.against == [] and reference.largest.mean == pytest.approx(0.4)


def test_the_page_and_its_markdown_have_the_grid(study: Path, tmp_path: Path) -> None:
    page = build(study, tmp_path / "out")
    text, markdown = page.read_text(), (tmp_path / "out" / "report.md").read_text()
    assert "plot-trigger-grid" in text and "largest leak" in text
    assert "## Trigger grid" in markdown and "+0.800" in markdown
    assert "With the options that the arms trained in." in markdown


def test_a_study_without_contexts_has_no_such_section(tmp_path: Path) -> None:
    plain = results(write_study(tmp_path / "plain", config(seeds=2), episodes=False, updates=3))
    assert TriggerGrid().compute(plain) is None
    tables = ByWorld().compute(plain)
    assert tables is not None and [table.caption for table in tables] == [""]


def test_a_reference_is_compared_under_the_arms_prompts_and_plainly_where_all_are_the_same() -> None:
    reference: Mapping[str, Any] = {"leak/original/harm[a]": {0: 1.0}, "leak/original/harm": {0: 2.0}, "harm": {0: 3.0}}
    assert under_same_prompts(reference, "leak/original/harm", "a") == {0: 1.0}
    assert under_same_prompts(reference, "leak/original/harm", "b") == {0: 2.0}
    assert under_same_prompts(reference, "harm", "a") == {0: 3.0}
    assert under_same_prompts(reference, "deception", "a") == {}


def test_differences_of_arms_are_taken_under_their_own_prompts(study: Path) -> None:
    found = load(study)
    table = compare(found, {run.arm: {} for run in found.runs} | values(study))
    assert table["inoculation"]["max_leak/deception.steward"].mean == pytest.approx(0.4)
    assert table["inoculation"]["context/original/deception.steward"].mean == pytest.approx(0.4)


def values(study: Path) -> Any:
    return results(study).values


# Names ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("trained/deception.steward", "deception, training options in steward"),
        ("context/negated/harm", "harm under the negated prompts"),
        ("leak/original/harm.clerk[mine]", "leak of harm under the original prompts of mine in clerk"),
        ("max_leak/deception", "largest leak of deception"),
    ],
)
def test_names_of_cells_have_labels_and_the_record_of_their_metric(name: str, said: str) -> None:
    assert label(name) == said
    record = record_of(name)
    assert record is not None and record.name == parse(name).metric


def asked(**evaluation: Any) -> StudyConfig:
    document = {
        "name": "small",
        "train": {"worlds": {"steward": {}, "pact": {}}, "updates": 1, "groups": 1, "group_size": 2},
        "eval": {"worlds": {"steward": {}, "clerk": {}}, **evaluation},
        "arms": {"unshaped": {"role": "reference"}, "in": {"role": "treatment", "interventions": ["Inoculation"]}},
        "seeds": 5,
    }
    return parse_study(document, "test")


GRID = {"contexts": ["original", "negated"]}


@pytest.mark.parametrize(
    ("metric", "evaluation", "told"),
    [
        ("trained/deception", {}, ""),
        ("trained/deception.pact", {}, ""),
        ("trained/deception.clerk", {}, "'clerk' is no world of the training"),
        ("deception.pact", {}, "'pact' is no world of the evaluation"),
        ("deception.pact", {"cells": ["train"], "worlds": {}}, ""),
        ("trained/deception", {"cells": ["own"]}, "trained/ needs train among eval.cells"),
        ("trained/blocked", {}, "unknown metric 'blocked'"),
        ("with_quarantine/trained/deception", {}, ""),
        ("with_quarantine/leak/negated/deception", GRID, "the trigger grid is not tried"),
        ("leak/negated/deception", {}, "leak/ needs eval.contexts"),
        ("leak/negated/deception.pact", GRID, ""),
        ("leak/none/deception", GRID, "'none' is no context of eval.contexts"),
        ("context/none/deception", GRID, ""),
        ("context/keyword/deception", GRID, "'keyword' is no context of eval.contexts"),
        ("max_leak/deception.steward", GRID, ""),
        ("max_leak/hidden_gap", GRID, "hidden_gap compares episodes with and without a cue"),
        ("max_leak/proxy_reward", GRID, "max_leak/ is for metrics that are better when lower"),
    ],
)
def test_claims_can_name_the_metrics_of_the_cells_that_a_study_plays(
    metric: str, evaluation: dict[str, Any], told: str
) -> None:
    problem = metric_problem(metric, asked(**evaluation))
    assert (problem == "") if not told else (told in problem)


def test_a_mean_leak_is_over_the_worlds_that_have_the_metric_with_and_without_the_prompt() -> None:
    cells = {
        "context/none": {"harm": 0.2, "harm.a": 0.1, "harm.b": 0.3},
        "context/negated": {"harm": 0.6, "harm.a": 0.6},  # nothing could happen in b
    }
    assert leaks(cells) == pytest.approx({"negated/harm": 0.5, "negated/harm.a": 0.5})
    assert by_cell({}) == {}


def test_a_claim_on_the_largest_leak_compares_with_the_reference_under_the_arms_prompts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = synthetic_study._summary
    monkeypatch.setattr(synthetic_study, "_summary", lambda *run: plain(*run) | grid_of(run[0], run[1]))
    claim = {"use": "DoesNotRaise", "statement": "It hides nothing.", "metrics": ["max_leak/deception.steward"]}
    grid = {"worlds": {"steward": {}}, "contexts": ["original", "negated"]}
    asked = config(seeds=5, claims={"H": {**claim, "treatment": "inoculation"}}, eval=grid)
    (verdict,) = results(write_study(tmp_path / "claimed", asked, episodes=False, updates=3)).verdicts
    (number,) = [outcome for outcome in verdict.outcomes if outcome.decides]
    assert number.interval.mean == pytest.approx(0.4) and verdict.verdict == "contradicted"
