"""The page that a study commits itself to: what it says, and the digest that tells afterwards what was registered."""

from __future__ import annotations

from typing import Any

from launch.config.loading import load_study
from launch.report.preregistration import preregistration, read_digest, registered_digest

STUDY = """
name: planned
seeds: 6
train: {worlds: {steward: {size: 4}}, updates: 4, groups: 2, group_size: 4}
eval: {worlds: {steward: {size: 4}}}
arms:
  unshaped: {role: reference}
  penalty: {role: treatment, interventions: [{use: OverseerPenalty}]}
  spiked: {role: positive_control, interventions: [{use: ActionMask}]}
points:
  scarce: {set: {train.worlds.steward.honest_share: 0.5}}
  plenty: {arms: [unshaped, penalty]}
claims:
  P1:
    {use: Raises, statement: The assay sees deception., treatment: spiked, metrics: [trained/evasion.steward],
     must: supported, assumes: {sd: 0.05, power: 0.9}}
  H1:
    {use: Raises, statement: The penalty raises evasion., treatment: penalty, metrics: [trained/evasion.steward],
     controls: [P1], needs: [M5]}
report: {question: Does it hide?}
"""


def loaded(tmp_path: Any, *overrides: str) -> Any:
    path = tmp_path / "planned.yaml"
    path.write_text(STUDY)
    return load_study(path, overrides)


def test_it_says_what_will_be_judged_where_and_by_which_rule(tmp_path: Any) -> None:
    page = preregistration(loaded(tmp_path), 0.1)
    controls, claims = page.split("## Controls")[1].split("## Claims")
    assert "### P1" in controls and "must be: supported" in controls and "judged at: point = scarce" in controls
    assert "### H1" in claims and "unless these come out as they must: P1" in claims
    assert "needs subjects that passed: M5" in claims and "judged at: point = scarce, point = plenty" in claims
    assert "primary outcome: trained/evasion.steward" in claims and "Welch" in claims
    assert "runs: 30, of 3 arms; replicates: 0 to 5" in page and "Does it hide?" in page
    assert "a standard deviation of 0.05 between replicates, which gives a power of 0.90" in page
    assert "every run is played to its end" in page


def test_studies_that_stop_early_say_when_they_look(tmp_path: Any) -> None:
    page = preregistration(loaded(tmp_path, "seeds={looks: [6, 12]}"), 0.1)
    assert "looks after 6, 12 replicates" in page


def test_the_digest_is_that_of_all_that_changes_a_number(tmp_path: Any) -> None:
    study = loaded(tmp_path)
    digest = registered_digest(study)
    assert read_digest(preregistration(study, 0.1)) == digest
    assert registered_digest(loaded(tmp_path, "output=elsewhere", "report.question=Another one?")) == digest
    for change in ("train.updates=5", "seeds=7", "claims.H1.margin=0.2", "eval.episodes=8"):
        assert registered_digest(loaded(tmp_path, change)) != digest
    assert read_digest("no such line") == ""
