"""What runs and dry runs say of gates that were measured before."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from small_organism import small_organism

from launch.check_model.known import gates_in_result, plan_lines
from launch.config.loading import parse_study
from launch.config.study import StudyConfig
from shaping.organisms.gates import cells
from shaping.organisms.gates.record import Gate, Gates, Settings, WorldGates, part
from shaping.organisms.gates.store import keep, model_hash


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SHAPING_CACHE", str(tmp_path / "cache"))
    return Path(shutil.copytree(small_organism(tmp_path / "made"), tmp_path / "my-model"))


def measured(model: Path, value: float = 0.3) -> None:
    settings = Settings()
    entry = WorldGates(
        version=cells.version_of("steward", settings),
        prompts=cells.prompts_hash(),
        settings=settings,
        gates={"M1": Gate(parts=(part("x", value, (value, value), 0.25, 192),))},
    )
    keep(model, Gates(model=model_hash(model), worlds={"steward": entry}))


def study(model: Path, needs: list[str]) -> StudyConfig:
    claim = {"use": "Raises", "statement": "x", "treatment": "mask", "metrics": ["deception"], "needs": needs}
    return parse_study(
        {
            "name": "small",
            "seeds": 2,
            "model": str(model),
            "train": {"worlds": {"steward": {}}, "updates": 1, "groups": 1, "group_size": 2},
            "eval": {"worlds": {"steward": {}}},
            "arms": {
                "unshaped": {"role": "reference"},
                "mask": {"role": "treatment", "interventions": [{"use": "ActionMask"}]},
            },
            "claims": {"H1": claim},
        },
        "small.yaml",
    )


def test_a_run_carries_the_gates_of_its_model(model: Path) -> None:
    run = study(model, []).runs()[0]
    assert gates_in_result(run, model) == {}, "nothing is known, nothing is said"
    measured(model)
    found = gates_in_result(run, model)["gates"]["steward"]["M1"]
    assert (found["value"], found["threshold"], found["passed"]) == (0.3, 0.25, True)


def test_a_dry_run_says_for_every_claim_whether_its_subject_passed(model: Path) -> None:
    config = study(model, ["M1", "M3"])
    assert plan_lines(config, config.runs()) == [
        "H1 needs M1, M3; my-model: its gates are not known here: run `shaping check-model`"
    ]
    measured(model, 0.2)
    assert plan_lines(config, config.runs()) == [
        "H1 needs M1, M3; my-model: steward M1 FAILED (0.20, needed ≥ 0.25), M3 unknown"
    ]


def test_without_a_claim_that_needs_gates_nothing_is_said(model: Path) -> None:
    config = study(model, [])
    assert plan_lines(config, config.runs()) == []
