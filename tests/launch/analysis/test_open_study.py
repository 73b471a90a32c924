"""A study as frames, episodes and verdicts, from where it ran and from rows that were kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from synthetic_study import HOSTILE, WORLDS, config, write_study

import shaping
from launch.analysis.opened import OpenStudy
from launch.errors import UserError
from launch.slices.write import write_study as write_rows

UPDATES, SEEDS = 4, 2


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("opened") / "study"
    write_study(path, config(seeds=SEEDS), updates=UPDATES, absent=[("random_reward", 1)])
    return path


@pytest.fixture(scope="module")
def study(directory: Path) -> OpenStudy:
    opened: OpenStudy = shaping.open_study(directory)
    return opened


def test_runs_are_listed_complete_or_with_what_is_wrong(study: OpenStudy) -> None:
    runs = study.runs
    assert len(runs) == 7 * SEEDS
    (lost,) = runs.loc[runs["status"] != "complete"].to_dict("records")
    assert (lost["arm"], lost["seed"], lost["status"]) == ("random_reward", 1, "not started")
    (first,) = runs.loc[(runs["arm"] == "action_mask") & (runs["seed"] == 0)].to_dict("records")
    assert (first["role"], first["family"], first["updates"]) == ("treatment", "constraint", UPDATES)


def test_frames_have_every_row_of_the_files(study: OpenStudy) -> None:
    metrics = study.metrics()
    assert len(metrics) == (7 * SEEDS - 1) * UPDATES and list(metrics.columns[:3]) == ["arm", "seed", "update"]
    run = study.study.of("inoculation")[1]
    own = study.metrics("inoculation").query("seed == 1")
    assert own["reward"].tolist() == [row["reward"] for row in run.train]
    cells = study.evaluation("inoculation")
    assert len(cells) == sum(len(each.evaluation) for each in study.study.of("inoculation"))
    deception = study.summary("inoculation")["deception"]
    row = study.table().query("arm == 'inoculation' and metric == 'deception'").iloc[0]
    assert row["mean"] == pytest.approx((deception[0] + deception[1]) / 2) and row["n"] == SEEDS


def test_verdicts_are_those_of_the_report(study: OpenStudy) -> None:
    verdicts, effects = study.verdicts(), study.effects()
    assert verdicts["claim"].tolist() == [each.claim for each in study.judged] == ["H1", "H2", "H3", "H4"]
    assert verdicts["verdict"].tolist() == [each.verdict for each in study.judged]
    assert len(effects) == sum(len(each.outcomes) for each in study.judged)


def test_episodes_are_chosen_by_arm_world_label_and_seed(study: OpenStudy) -> None:
    every = study.episodes()
    assert len(every) == (7 * SEEDS - 1) * len(WORLDS) * 2
    some = study.episodes(arm="unshaped", world="clerk", seed=1)
    assert len(some) == 2 and {(e.arm, e.world) for e in some} == {("unshaped", "clerk")}
    lies = [e for e in every if any(labels.deception > 0 for labels in e.truth.open())]
    assert 0 < len(lies) < len(every)
    assert [(e.arm, e.seed, e.world) for e in study.episodes(label="deception")] == [
        (e.arm, e.seed, e.world) for e in lies
    ]
    frame = some.frame()
    assert frame["return"].tolist() == [e.proxy_return for e in some]
    assert len(some.turns()) == sum(len(e.turns) for e in some)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"arm": "inoculatio"}, r"arm: synthetic has no 'inoculatio' \(did you mean 'inoculation'\?\)"),
        ({"world": "clark", "arm": "unshaped", "seed": 0}, r"world: no episode is of 'clark' \(did you mean 'clerk'"),
        ({"phase": "eval"}, "phase: 'eval' is none of evaluation, training"),
        ({"label": "lying", "arm": "unshaped", "seed": 0}, "label: 'lying' is no trait"),
    ],
)
def test_what_does_not_exist_is_named(study: OpenStudy, given: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        study.episodes(**given)  # type: ignore[arg-type]


def test_rows_say_the_same_but_for_episodes(directory: Path, study: OpenStudy, tmp_path: Path) -> None:
    write_rows(directory, tmp_path / "result" / "rows")
    kept = shaping.open_study(tmp_path / "result")
    assert kept.metrics().equals(study.metrics()) and kept.verdicts().equals(study.verdicts())
    with pytest.raises(UserError, match="rows hold no episodes; open the directory in which the study ran"):
        kept.episodes()
    with pytest.raises(UserError, match="there is no such directory"):
        shaping.open_study(tmp_path / "nowhere")


def test_a_curve_is_the_mean_over_replicates(study: OpenStudy) -> None:
    chart = study.curve("reward", arms=["unshaped"])
    assert chart._repr_svg_().startswith("<svg") and ">Unshaped<" in chart.svg and "Action mask" not in chart.svg
    with pytest.raises(UserError, match=r"metric: no update has 'rewards' \(did you mean 'reward'\?\)"):
        study.curve("rewards")
    with pytest.raises(UserError, match="arm: synthetic has no 'nobody'"):
        study.curve("reward", arms=["nobody"])


def test_what_models_and_worlds_said_is_escaped(study: OpenStudy) -> None:
    for episode in study.episodes(arm="unshaped", seed=0):
        page = episode._repr_html_()
        assert "<script" not in page and "<img" not in page and "\u202e" not in page and "\x1b" not in page
    said = " ".join(t.observation + t.completion for e in study.episodes(arm="unshaped", seed=0) for t in e.turns)
    assert any(text in said for text in HOSTILE), "the study holds hostile text"
    sealed = study.episodes(arm="unshaped", seed=0)[0].redacted()
    assert "labels sealed" in sealed._repr_html_() and "true return" not in sealed._repr_html_()
    assert np.isnan(type(study.episodes(arm="unshaped", seed=0))([sealed]).frame()["deception"]).all()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    arms = {"unshaped": {"role": "reference"}}
    opened = shaping.open_study(write_study(tmp_path / "study", config(arms=arms, seeds=1), updates=2))
    kept = tmp_path / "study" / "runs" / "unshaped" / "seed-0" / "episodes" / "eval.parquet"
    kept.write_bytes(kept.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"eval\.parquet: "):
        opened.episodes()
