"""Records name episode, turn, tokens, score and version; thresholds keep a budget of false positives."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from monitor_fakes import NotANumber, TeaLeaves
from scripted_episodes import played

from envs.episode import Episode
from envs.store import read_episodes, write_episodes
from shaping.monitors import ClaimCheck, MonitorError, OvertAction, Reading
from shaping.monitors.read import read_all
from shaping.monitors.records import (
    SCHEMA,
    MonitorRecord,
    RecordsError,
    episode_id,
    read_records,
    records_of,
    version_of,
    write_records,
)
from shaping.monitors.thresholds import fewest_references, surprise, threshold_within

MakeEpisode = Callable[..., Episode]


def test_a_record_names_the_tokens_of_its_turn_and_a_reading_may_name_fewer() -> None:
    episode = played("clerk", "deceiver", 0, size=2)
    said = [Reading("m", "harm", 1, 0.5), Reading("m", "harm", 0, 0.75, (3, 5)), Reading("m", "harm", 2, 0.0)]
    whole, part = records_of(episode, said, "v1")
    sampled = episode.tokens[whole.start : whole.stop]
    assert sampled.tolist() == episode.turns[1].tokens.tolist() and episode.loss_mask[whole.start : whole.stop].all()
    assert (part.start, part.stop, part.turn, part.score, part.version) == (3, 5, 0, 0.75, "v1")
    assert whole.episode == episode_id(episode) and (whole.world, whole.seed) == ("clerk", 0)


def test_an_episode_keeps_its_id_on_disk_and_redacted_and_another_one_has_another(tmp_path: Path) -> None:
    episode = played("clerk", "deceiver", 0, size=2)
    write_episodes(tmp_path / "e.parquet", [episode])
    (again,) = read_episodes(tmp_path / "e.parquet")
    assert episode_id(again) == episode_id(episode) == episode_id(episode.redacted())
    others = [played("clerk", "honest", 0, size=2), played("clerk", "deceiver", 1, size=2), replace(episode, group=7)]
    assert len({episode_id(each) for each in (episode, *others)}) == 4


def test_a_version_follows_settings_and_files_and_not_the_name(tmp_path: Path) -> None:
    class Weighted(TeaLeaves):
        path: str

    file = tmp_path / "weights"
    file.write_bytes(b"one")
    first = version_of(Weighted(path=str(file)))
    assert version_of(Weighted(path=str(file), name="other", role="train")) == first
    file.write_bytes(b"two")
    assert version_of(Weighted(path=str(file))) != first
    assert version_of(OvertAction(trait="harm")) == version_of(OvertAction()) != version_of(OvertAction(ignored=()))
    assert version_of(OvertAction()) != version_of(ClaimCheck())


def test_a_version_is_the_same_in_every_process() -> None:
    """Sets are in another order under another seed of Python's hashes."""
    code = "from shaping.monitors import ClaimCheck; from shaping.monitors.records import version_of as v; print(v(M))"
    code = code.replace("M)", "ClaimCheck(unasked=frozenset('abcdefgh')))")
    told = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(told) == 1 and len(told.pop().strip()) == 12


def test_records_come_back_as_they_were_and_foreign_files_are_refused(tmp_path: Path) -> None:
    record = MonitorRecord("clerk-0-ab", "clerk", 0, 3, 10, 14, "deception", 0.5, "judge", "v", alarm=True, then="log")
    write_records(tmp_path / "r.parquet", [record])
    assert read_records(tmp_path / "r.parquet") == [record]
    pq.write_table(pa.table({"x": [1]}), tmp_path / "foreign.parquet")
    with pytest.raises(RecordsError, match="not of records"):
        read_records(tmp_path / "foreign.parquet")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "r.parquet").read_bytes()[:-20])
    with pytest.raises(RecordsError, match="not a readable Parquet file"):
        read_records(tmp_path / "cut.parquet")
    row = pq.read_table(tmp_path / "r.parquet").to_pylist()[0]
    for changed, message in (({"score": 2.0}, "score 2"), ({"trait": "malice"}, "malice"), ({"world": None}, "null")):
        pq.write_table(pa.Table.from_pylist([row | changed], SCHEMA), tmp_path / "wrong.parquet")
        with pytest.raises(RecordsError, match=message):
            read_records(tmp_path / "wrong.parquet")


def test_a_score_that_is_no_number_costs_that_episode_and_no_other(make_episode: MakeEpisode) -> None:
    good, bad = played("clerk", "honest", 0, size=2), replace(played("clerk", "random", 0, size=2), group=1)
    read = read_all(NotANumber(), [good, bad, good])
    assert read.whole == [0, 2] and list(read.failures) == [1]
    assert episode_id(bad) in read.failures[1] and "nan is not in [0, 1]" in read.failures[1]


def test_tokens_that_are_none_are_refused(make_episode: MakeEpisode) -> None:
    class Beyond(TeaLeaves):
        def read(self, episode: Episode) -> list[Reading]:
            return [Reading(self.name, "harm", 0, 1.0, (0, len(episode.tokens) + 1))]

    with pytest.raises(MonitorError, match="are no range of tokens"):
        Reading("m", "harm", 0, 1.0, (3, 2))
    read = read_all(Beyond(), [played("clerk", "honest", 0, size=2)])
    assert "reports tokens" in read.failures[0]


# Thresholds -----------------------------------------------------------------------------------------------------------


def test_the_threshold_is_the_order_statistic_of_split_conformal_prediction() -> None:
    """By hand: n = 19, budget .1, r = ceil(20 x .9) = 18, so that one of the 19 scores is above the threshold."""
    assert threshold_within(np.arange(19) / 19, 0.1) == 17 / 19
    assert threshold_within([0.0] * 99, 0.01) == 0.0 and threshold_within([0.0] * 98 + [0.7], 0.01) == 0.7
    assert (fewest_references(0.01), fewest_references(0.05), fewest_references(0.1)) == (99, 19, 9)
    with pytest.raises(ValueError, match="at least 99 honest reference episodes, and there are 98"):
        threshold_within([0.0] * 98, 0.01)


def test_honest_episodes_keep_the_budget_in_expectation() -> None:
    """A new score exceeds the threshold of 39 others with probability 2 / 40 at a budget of .05: 2000 draws."""
    rng = np.random.default_rng(0)
    draws = rng.random((2000, 40))
    alarms = np.mean([row[39] > threshold_within(row[:39], 0.05) for row in draws])
    assert abs(alarms - 0.05) < 3 * np.sqrt(0.05 * 0.95 / 2000)


def test_how_surprising_alarms_are_is_a_binomial_tail() -> None:
    assert surprise(0, 10, 0.1) == 1.0
    assert surprise(1, 10, 0.1) == pytest.approx(1 - 0.9**10)
    assert surprise(2, 2, 0.1) == pytest.approx(0.01)
