"""Untrusted files: each that is broken costs itself and one sentence. And what lies beside the episodes."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import viewed_study
from tokenizers import Tokenizer, models, pre_tokenizers

from envs.episode import Episode
from launch.errors import RunDirectoryError
from launch.viewer.index import readings
from launch.viewer.index.filters import Filters
from launch.viewer.index.readings import readings_of
from launch.viewer.index.schema import STORED
from launch.viewer.index.token_values import channels, pieces, read_token_values, write_token_values
from launch.viewer.index.worker import Worker
from launch.viewer.pages import list_page
from launch.viewer.reader import AbsentError, Reader, ReaderError
from launch.viewer.server import ServedLinks
from launch.viewer.sources import EpisodeFile, find_sources


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:2000])


def foreign(path: Path) -> None:
    pq.write_table(pa.table({"world": ["x"], "seed": [1]}), path)


def nothing(path: Path) -> None:
    path.write_bytes(b"")


def pretender(path: Path) -> None:
    """The marker of episodes, and none of their columns."""
    schema = pa.schema([("world", pa.int64())], metadata={b"format": b"shaping-episodes", b"version": b"6"})
    pq.write_table(pa.table({"world": [1]}, schema=schema), path)


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of which four files are broken, and one is a link, each in its own way."""
    root = viewed_study.write(tmp_path_factory.mktemp("broken") / "study")
    whole = root / "runs" / "a" / "seed-0" / "episodes"
    for number, spoil in enumerate((truncated, foreign, nothing, pretender)):
        path = whole / f"train-{number + 10:06d}.parquet"
        path.write_bytes((whole / "eval.parquet").read_bytes())
        spoil(path)
    (root / "secret.parquet").write_bytes((whole / "eval.parquet").read_bytes())
    outside = root.parent / "outside.parquet"
    outside.write_bytes((whole / "eval.parquet").read_bytes())
    (whole / "train-000020.parquet").symlink_to(outside)
    return root


def test_broken_and_foreign_files_cost_themselves(broken: Path) -> None:
    sources = find_sources(broken)
    assert len(sources.problems) == 1 and "train-000020.parquet is a link that leads out" in sources.problems[0]
    with Reader(sources.files) as reader:
        assert reader.about["episodes"] == 8
        problems = reader.about["problems"]
        assert reader.ask("episode", id=7)["world"].startswith("world")
        while reader.ask("read"):
            pass
        assert reader.ask("page", filters={"order": "labelled"})["about"]["problems"] == problems, "told once"
    assert len(problems) == 4
    for number in range(4):
        (told,) = [problem for problem in problems if f"train-{number + 10:06d}" in problem]
        assert told.startswith(f"a/seed-0/train-{number + 10:06d}.parquet cannot be read: ") and "\n" not in told
    assert "no marker 'shaping-episodes'" in next(p for p in problems if "train-000011" in p)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: None, "is neither a study"),
        (lambda path: (path / "study.json").write_text("{}"), "has no episode files: no run has written any"),
        (lambda path: (path / "episodes").mkdir(), "has no episode files"),
    ],
)
def test_what_has_no_episodes_is_refused_by_name(tmp_path: Path, make: Any, told: str) -> None:
    make(tmp_path)
    with pytest.raises(RunDirectoryError, match=told):
        find_sources(tmp_path)


def test_a_run_and_a_single_file_can_be_viewed(study: Path) -> None:
    run = study / "runs" / "a" / "seed-0"
    assert [(f.arm, f.replicate, f.name, f.update) for f in find_sources(run).files] == [
        ("a", 0, "eval", None),
        ("a", 0, "train-000003", 3),
    ]
    (single,) = find_sources(run / "episodes" / "eval.parquet").files
    with Reader([single], ["none"]) as reader:
        assert reader.about["episodes"] == 3
        while reader.ask("read"):
            pass
        assert reader.ask("page", filters={})["about"]["monitors"] == {}


def test_a_process_that_dies_is_told_and_replaced(study: Path) -> None:
    with Reader(find_sources(study).files) as reader:
        assert reader._process is not None
        os.kill(reader._process.pid, signal.SIGKILL)
        with pytest.raises(ReaderError, match="has ended"):
            reader.ask("episode", id=0)
        assert reader.ask("episode", id=0)["seed"] == 1
        with pytest.raises(AbsentError, match="no episode 8"):
            reader.ask("episode", id=8)


def test_a_file_that_kills_the_process_is_left_out(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = find_sources(study).files
    opened = Reader._open

    def dies(self: Reader) -> dict[str, Any]:
        if len(self._files) == len(files):
            raise ReaderError("died")
        return opened(self)

    monkeypatch.setattr(Reader, "_open", dies)
    monkeypatch.setattr(
        "launch.report.files.episode_files.try_reading",
        lambda paths: {path: "it is damaged" if "train" in path.name else "" for path in paths},
    )
    with Reader(files) as reader:
        assert reader.dropped == ["a/train-000003 cannot be read: it is damaged"]
        assert reader.about["episodes"] == 6


def records(path: Path, *rows: tuple[str, int, int, int, str, float, str]) -> None:
    """The columns of monitors' records that the viewer needs."""
    kinds = [pa.string(), pa.int32(), pa.int32(), pa.int32(), pa.string(), pa.float64(), pa.string()]
    names = ["episode", "turn", "start", "stop", "trait", "score", "monitor"]
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = [pa.array(column, kind) for column, kind in zip(zip(*rows, strict=True), kinds, strict=True)]
    pq.write_table(pa.table(columns, names=names), path)


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[EpisodeFile, list[Episode]]:
    """A file of two episodes; records name episodes by seed and number of turns here."""
    monkeypatch.setattr(readings, "episode_id", lambda episode: f"{episode.seed}-{len(episode.turns)}")
    episodes = [viewed_study.played(1, "work", "lie"), viewed_study.played(2, "grab")]
    return EpisodeFile(str(tmp_path / "eval.parquet"), "a", 0, "eval"), episodes


def test_stored_records_are_taken_in_place_of_reading_now(
    beside: tuple[EpisodeFile, list[Episode]], tmp_path: Path
) -> None:
    file, episodes = beside
    rows = [("1-2", 1, 4, 6, "deception", 0.75, "judge"), ("other", 0, 0, 1, "harm", 1.0, "judge")]
    records(tmp_path / "records" / "eval.parquet", *rows)
    found, problems = readings_of(file, episodes, None)
    assert problems == []
    assert dict(found) == {"judge": (STORED, ("deception",), [(0, "deception", 1, 0.75, 4, 6)])}


@pytest.mark.parametrize(
    "row",
    [
        ("1-2", 2, 0, 1, "deception", 0.5, "judge"),
        ("1-2", 0, 0, 1, "vanity", 0.5, "judge"),
        ("1-2", 0, 0, 1, "harm", float("nan"), "judge"),
        ("1-2", 0, 7, 99, "harm", 0.5, "judge"),
    ],
)
def test_records_that_cannot_be_are_refused(
    beside: tuple[EpisodeFile, list[Episode]], tmp_path: Path, row: tuple[Any, ...]
) -> None:
    file, episodes = beside
    records(tmp_path / "records" / "eval.parquet", row)
    found, problems = readings_of(file, episodes, [])
    assert not found and len(problems) == 1 and "records/eval.parquet" in problems[0]


def test_monitors_that_fail_are_named(beside: tuple[EpisodeFile, list[Episode]]) -> None:
    from shaping.monitors.motive_check import MotiveCheck

    class Fails(MotiveCheck):
        name: str = "fails"

        def read(self, episode: Episode) -> Any:
            raise OSError("no disk")

    file, episodes = beside
    found, problems = readings_of(file, episodes, [Fails(), MotiveCheck()])
    assert list(found) == ["motive_check"] and "'fails'" in problems[0] and "no disk" in problems[0]


def test_shades_of_tokens(tmp_path: Path) -> None:
    """Log-probs 0, -1, -6, -9 have shades 0, 1, 8, 8 of 9; gaps of -2, 0, 1, 2 have 0, 4, 6, 8, with 4 the middle."""
    episode = viewed_study.played(1, "work")
    sampled = np.array([0.0, -1.0, -6.0, -9.0], np.float32)
    object.__setattr__(episode.turns[0], "logprobs", sampled)
    path = tmp_path / "tokens" / "eval.parquet"
    policy = sampled + np.array([-2.0, 0.0, 1.0, 2.0])
    write_token_values(path, [(0, "policy_logprob", policy), (0, "probe/lie", [0, 0.5, 1, np.nan])])
    stored = read_token_values(path, 0, 4)
    found = {channel.name: channel for channel in channels(episode, stored, None)}
    assert found["logprob"].levels == [0, 1, 8, 8]
    assert found["gap"].levels == [0, 4, 6, 8] and (found["gap"].low, found["gap"].high) == ("−2", "+2")
    assert found["probe/lie"].levels == [0, 4, 8, -1] and found["probe/lie"].shown[3] == "–"
    assert read_token_values(path, 1, 4) == {} and read_token_values(path.with_name("no.parquet"), 0, 4) == {}
    with pytest.raises(ValueError, match="row 0: 4 values of policy_logprob, and 5 sampled tokens"):
        read_token_values(path, 0, 5)
    foreign(path)
    with pytest.raises(ValueError, match="holds no values of tokens"):
        read_token_values(path, 0, 4)


def test_tokens_get_their_text_from_the_tokenizer_or_their_number() -> None:
    tokenizer = Tokenizer(models.WordLevel({"go": 0, "<end>": 1, "north": 2, "?": 3}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    turn = SimpleNamespace(completion="so go  north", forced=SimpleNamespace(length=3), tokens=np.array([0, 2, 1]))
    assert pieces(turn, tokenizer) == ["go  ", "north", "<end>"]
    assert pieces(turn, None) == ["#0 ", "#2 ", "#1 "]
    turn.tokens = np.array([2, 9])
    assert pieces(turn, tokenizer) == ["north", "#9 "]


def test_a_monitor_that_suspects_nothing_in_a_file_has_read_it_all_the_same(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The judge suspects one turn of the first file: in the second, which has records, too, it gives 0 to all."""
    monkeypatch.setattr(readings, "episode_id", lambda episode: f"{episode.seed}-{len(episode.turns)}")
    root = viewed_study.write(tmp_path / "study")
    folder = root / "runs" / "a" / "seed-0" / "episodes" / "records"
    records(folder / "eval.parquet", ("2-3", 0, 0, 1, "deception", 0.25, "judge"))
    records(folder / "train-000003.parquet", ("other", 0, 0, 1, "deception", 0.5, "judge"))
    worker = Worker(find_sources(root).files, [])
    while worker.answer({"ask": "read"}):
        pass
    rows = {row["id"]: row for row in worker.answer({"ask": "page", "filters": {}})["rows"]}
    assert list(rows)[:2] == [1, 2], "two lies that the judge gives 0, then the one that it gives 0.25"
    assert rows[2]["said"] == [["judge", "deception", 0.25]]
    assert rows[3]["said"] == [] and rows[3]["asked"] == ["deception"]
    assert "judge" not in {monitor for monitor, *_ in rows[5]["said"]}


def test_files_of_the_first_format_are_read(tmp_path: Path) -> None:
    """Its columns have other names; the list and the episode are the same."""
    from envs import store

    old = {"sampling": "acting", "training": "learning", "masked_tokens": "forbidden", "overt_shortcuts": "overt"}
    new = tmp_path / "new.parquet"
    store.write_episodes(new, [viewed_study.played(1, "lie", "work")])
    (row,) = pq.read_table(new, partitioning=None).to_pylist()
    row = {old.get(name, name): value for name, value in row.items()}
    row["turns"] = [{old.get(n, n): v for n, v in turn.items()} | {"cost": 0.0} for turn in row["turns"]]
    path = tmp_path / "old.parquet"
    pq.write_table(pa.Table.from_pylist([row], store._READABLE[b"1"]), path)
    worker = Worker([EpisodeFile(str(path), "a", 0, "old"), EpisodeFile(str(new), "a", 0, "new")], ["none"])
    assert worker.index.problems == []
    first, second = worker.answer({"ask": "page", "filters": {"order": "stored"}})["rows"]
    same = ("world", "seed", "context", "watch", "turns", "reward", "deception")
    assert [first[key] for key in same] == [second[key] for key in same]
    assert first["deception"] == 1 and worker.answer({"ask": "episode", "id": 0})["turns"][0]["action"].startswith(
        "lie"
    )


def test_the_first_page_of_a_large_study_does_not_wait_for_all_files(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launch.viewer.index.worker.AT_ONCE", 1)
    sources = find_sources(study)
    worker = Worker(sources.files, ["none"])
    first = worker.answer({"ask": "page", "filters": {}})
    assert (first["total"], first["about"]["files_opened"]) == (3, 1)
    assert "the first 1 of 3 files" in list_page("study", ServedLinks(), first, Filters())
    chosen = worker.answer({"ask": "page", "filters": {"seed": 5}})
    assert ([row["id"] for row in chosen["rows"]], chosen["about"]["files_opened"]) == ([3, 4], 3)
    whole = worker.answer({"ask": "page", "filters": {}})
    assert [row["id"] for row in whole["rows"]] == list(range(8))
    assert "arm" in whole["about"]["facets"] and "arm" not in first["about"]["facets"]
    assert "being opened" not in list_page("study", ServedLinks(), whole, Filters())
    again = Worker(sources.files, ["none"])
    assert again.answer({"ask": "episode", "id": 7})["seed"] == 2
