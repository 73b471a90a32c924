"""Audits of files: columns say what episodes say, and nothing else is needed of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scripted_episodes import groups

from envs.episode import Episode, RolloutStatus
from envs.store import SCHEMA, StoreError, write_episodes
from shaping.audits.columns import columns_of, stored_columns
from shaping.audits.intervals import mean_interval
from shaping.audits.logs import audit, normalised
from shaping.audits.metrics import metrics_of
from shaping.audits.played import Played, conditions_of
from shaping.audits.summary import summarise


@pytest.fixture(scope="module")
def episodes() -> list[Episode]:
    """Three worlds, four seeds, six personas each; half of them watched."""
    found = [episode for group in groups("steward", "clerk", "nightwatch", seeds=4) for episode in group]
    cues = [{"watch": "always" if i % 2 else "never", "placebo": "on" if i % 3 else "off"} for i in range(len(found))]
    return [replace(e, options={**e.options, **cue}) for e, cue in zip(found, cues, strict=True)]


def test_columns_of_a_file_are_those_of_its_episodes(episodes: list[Episode], tmp_path: Path) -> None:
    path = tmp_path / "e.parquet"
    write_episodes(path, episodes)
    read, sealed = stored_columns([path])
    made = columns_of(episodes)
    assert sealed == 0 and len(read) == len(episodes)
    for name in made.__dataclass_fields__:
        if name != "motives":
            np.testing.assert_array_equal(getattr(read, name), getattr(made, name), err_msg=name)
    turns = np.array([5, 0, int(read.turns.sum()) - 1])
    assert read.motives(turns) == made.motives(turns) and all(read.motives(turns))
    half = np.arange(len(episodes)) % 2 == 1
    assert read.select(half).motives(np.array([0])) == [episodes[1].turns[0].motive_text]


def test_every_metric_of_the_evaluation_is_the_same_from_a_file(episodes: list[Episode], tmp_path: Path) -> None:
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    failed = replace(episodes[0], status=RolloutStatus.ERROR)
    write_episodes(paths[0], [*episodes[:30], failed])
    write_episodes(paths[1], [*episodes[30:], replace(episodes[3], truth=episodes[3].truth.redacted())])
    columns, sealed = stored_columns(paths)
    found = audit(columns)
    assert sealed == 1 and not found.left_out
    expected = summarise([], conditions_of(episodes), {})
    measured = {f"{r.metric}.{r.world}" if r.world else r.metric: r.value for r in found.rows if r.cell == "own"}
    for name, value in expected.items():
        assert measured[name] == pytest.approx(value, rel=1e-12), name
    names = {metric.name for metric in metrics_of("evaluation")}
    assert {name.partition(".")[0] for name in expected} <= names and "verbalised" in expected
    rates = [r for r in found.rows if r.metric == "deception" and not r.world]
    assert len(rates) == 1 and rates[0].low < rates[0].value < rates[0].high
    assert np.isnan(audit(columns, intervals=False).rows[0].low)


def test_the_interval_of_a_mean_over_independent_seeds_is_students(episodes: list[Episode]) -> None:
    """Without one seed each, the jackknife's error of a mean is its standard error."""
    own = [replace(e, seed=number) for number, e in enumerate(episodes[:9])]
    shares = [e.proxy_return / e.options["max_return"] for e in own]
    (found,) = (r for r in audit(columns_of(own)).rows if r.metric == "proxy_reward" and r.world == "steward")
    assert (found.value, found.low, found.high) == pytest.approx(mean_interval(shares))


def test_what_returns_select_for_is_computed_within_groups(episodes: list[Episode]) -> None:
    found = {r.metric: r.value for r in audit(columns_of(episodes), intervals=False).rows}
    assert -1 <= found["zero_variance"] <= 1 and "selection_score/deception" in found
    assert normalised(np.array([1.0, 3.0, 2.0, 2.0]), np.array([0, 0, 1, 1])).tolist() == [-1.0, 1.0, 0.0, 0.0]
    alone = [replace(e, group=i) for i, e in enumerate(episodes)]
    assert not any(r.metric.startswith("selection") for r in audit(columns_of(alone), intervals=False).rows)


def test_metrics_that_need_whole_episodes_say_so(episodes: list[Episode]) -> None:
    with pytest.raises(TypeError, match="whole episodes"):
        _ = Played({}, stored=columns_of(episodes)).episodes


def test_foreign_and_sealed_files_are_refused(episodes: list[Episode], tmp_path: Path) -> None:
    foreign, sealed, crooked = (tmp_path / f"{name}.parquet" for name in ("foreign", "sealed", "crooked"))
    pq.write_table(pa.table({"world": ["x"]}), foreign)
    with pytest.raises(StoreError, match="a Parquet file, but not of episodes"):
        stored_columns([foreign])
    write_episodes(sealed, [episode.redacted() for episode in episodes[:2]])
    with pytest.raises(StoreError, match="no episode with ground truth"):
        stored_columns([sealed])
    write_episodes(crooked, episodes[:2])
    rows = pq.read_table(crooked).to_pylist()
    rows[0]["truth"] = rows[0]["truth"][:-1]
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), crooked)
    with pytest.raises(StoreError, match="differ in number"):
        stored_columns([crooked])
    first, *others = episodes[0].turns
    write_episodes(crooked, [replace(episodes[0], turns=(replace(first, reward=np.nan), *others))])
    with pytest.raises(StoreError, match="reward of a turn is not a finite number"):
        stored_columns([crooked])
    (tmp_path / "cut.parquet").write_bytes(sealed.read_bytes()[:200])
    with pytest.raises(StoreError, match="not a readable Parquet file"):
        stored_columns([tmp_path / "cut.parquet"])
