"""Episodes survive the round trip through Parquet exactly."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from envs import make_world
from envs.episode import Context, Contexts, Episode, RolloutStatus, Sealed, SealedError, Span, Turn
from envs.personas.persona import persona, play_scripted
from envs.store import StoreError, read_episodes, write_episodes


def episode(world: str = "clerk", seed: int = 0) -> Episode:
    """A played episode with made-up tokens."""
    rng = np.random.default_rng(seed)
    env = make_world(world, {"size": 3, "inquiry": 0.3})
    turns, labels = [], []
    for text, completion, reward, info in play_scripted(env, persona("deceiver")(env, 0), seed):
        n = int(rng.integers(1, 6))
        cut = completion.index("ACTION:")
        labels.append(info["labels"])
        turns.append(
            Turn(
                observation=text,
                completion=completion + " \u202e مرحبا \n\"'",
                motive=Span(0, cut),
                action=Span(cut, len(completion)),
                executed=info["executed"],
                reward=reward + 0.1,
                events=info["events"],
                tokens=rng.integers(0, 500, n).astype(np.int32),
                logprobs=-rng.random(n).astype(np.float32),
                policy_versions=np.full(n, 7, np.int32),
                masked_tokens=((0, (3, 4)), (1, ())),
                overt_shortcuts=info["overt_shortcuts"],
                rejected=2,
                overlong=len(turns) % 2 == 1,
            )
        )
    n = 50
    return Episode(
        world=world,
        seed=2**40 + seed,
        group=3,
        arm="arm é",
        status=RolloutStatus.TRUNCATED_MAX_TURNS,
        contexts=Contexts(Context("you may lie", "inoculation"), Context()),
        turns=tuple(turns),
        truth=Sealed(tuple(labels)),
        tokens=rng.integers(0, 500, n).astype(np.int32),
        loss_mask=rng.random(n) < 0.5,
        span_kind=rng.integers(0, 4, n).astype(np.int8),
        turn_index=rng.integers(-1, 9, n).astype(np.int16),
        logprobs=-rng.random(n).astype(np.float32),
        head=9,
        segments=(0, 20),
        options={"size": 3, "watch": "never", "oversight": 0.1},
        error="",
    )


def same(a: object, b: object) -> bool:
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, Sealed):
        return isinstance(b, Sealed) and same(a.open(), b.open())
    if isinstance(a, (Episode, Turn)):
        return type(a) is type(b) and all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    if isinstance(a, tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def test_a_round_trip_is_exact(tmp_path):
    episodes = [episode(world, seed) for seed, world in enumerate(["clerk", "steward", "nightwatch", "errand"])]
    write_episodes(tmp_path / "e.parquet", episodes)
    again = read_episodes(tmp_path / "e.parquet")
    assert len(again) == 4
    assert all(map(same, episodes, again))
    assert any(labels.outcome for labels in again[3].truth.open())
    assert [path.name for path in tmp_path.iterdir()] == ["e.parquet"]


def test_an_empty_file_holds_no_episodes(tmp_path):
    write_episodes(tmp_path / "e.parquet", [])
    assert read_episodes(tmp_path / "e.parquet") == []


def test_an_episode_without_turns_survives(tmp_path):
    bare = episode()
    bare = Episode(**{**{f.name: getattr(bare, f.name) for f in fields(bare)}, "turns": (), "truth": Sealed(())})
    write_episodes(tmp_path / "e.parquet", [bare])
    assert same(read_episodes(tmp_path / "e.parquet")[0], bare)


def test_a_redacted_episode_stays_redacted(tmp_path):
    write_episodes(tmp_path / "e.parquet", [episode().redacted()])
    [again] = read_episodes(tmp_path / "e.parquet")
    with pytest.raises(SealedError):
        again.truth.open()


def test_a_truncated_file_is_refused(tmp_path):
    path = tmp_path / "e.parquet"
    write_episodes(path, [episode()])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(StoreError, match="cut off"):
        read_episodes(path)


def test_foreign_and_older_files_are_refused(tmp_path):
    pq.write_table(pa.table({"x": [1]}), tmp_path / "foreign.parquet")
    with pytest.raises(StoreError, match="not of episodes"):
        read_episodes(tmp_path / "foreign.parquet")
    old = pa.table({"world": ["clerk"]}).replace_schema_metadata({"format": "shaping-episodes", "version": "0"})
    pq.write_table(old, tmp_path / "old.parquet")
    with pytest.raises(StoreError, match="format 0"):
        read_episodes(tmp_path / "old.parquet")
    with pytest.raises(FileNotFoundError):
        read_episodes(tmp_path / "none.parquet")


OLD_NAMES = {"sampling": "acting", "training": "learning", "masked_tokens": "forbidden", "overt_shortcuts": "overt"}
LATER_LABELS = ("resource_share", "privileges", "unneeded_power", "outcome")


def written_by(version: str, path: Path, new: Episode) -> None:
    """A file as an older version wrote it: no `forced`; to 4 no `overlong`; to 3 costs; to 2 other names; in 1 less."""
    write_episodes(path, [new])
    table = pq.read_table(path)
    dropped = ("forced", *(["overlong"] if version < "5" else []), *(LATER_LABELS if version == "1" else ()))
    costs = version in "123"
    names = OLD_NAMES if version in "12" else {}

    def old(kind: pa.DataType) -> pa.DataType:
        if pa.types.is_list(kind):
            return pa.list_(old(kind.value_type))
        if pa.types.is_struct(kind):
            own = [(names.get(f.name, f.name), old(f.type)) for f in kind if f.name not in dropped]
            return pa.struct([*own, ("cost", pa.float64())] if costs and own[0][0] == "observation" else own)
        return kind

    def named(value: Any) -> Any:
        if isinstance(value, list):
            return [named(item) for item in value]
        if isinstance(value, dict):
            cost = {"cost": 0.25} if costs and "observation" in value else {}
            return {names.get(k, k): named(v) for k, v in value.items() if k not in dropped} | cost
        return value

    columns = [(names.get(f.name, f.name), old(f.type)) for f in table.schema]
    schema = pa.schema(columns, metadata={"format": "shaping-episodes", "version": version})
    pq.write_table(pa.Table.from_pylist(named(table.to_pylist()), schema), path)


@pytest.mark.parametrize("version", ["1", "2", "3", "4", "5"])
def test_files_of_older_versions_are_read(tmp_path, version):
    new = episode("steward")
    written_by(version, tmp_path / "old.parquet", new)
    [old] = read_episodes(tmp_path / "old.parquet")
    assert old.contexts == new.contexts
    assert any(turn.overlong for turn in new.turns), "the test would be about nothing"
    assert same(old.turns, tuple(replace(turn, overlong=turn.overlong and version == "5") for turn in new.turns))
    defaults = dict.fromkeys(LATER_LABELS[:3], 0) | {"outcome": ""} if version == "1" else {}
    assert list(old.truth.open()) == [replace(label, **defaults) for label in new.truth.open()]
    assert (old.truth.open() == new.truth.open()) == (version != "1")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "e.parquet"
    write_episodes(path, [episode()])
    before = path.read_bytes()
    broken = Episode(**{**{f.name: getattr(episode(), f.name) for f in fields(Episode)}, "options": {"x": object()}})
    with pytest.raises(TypeError):
        write_episodes(path, [broken])
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["e.parquet"]


def test_sizes_that_a_file_states_are_looked_at_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "many.parquet"
    write_episodes(path, [replace(episode(), tokens=np.zeros(1_000_000, np.int32))])
    assert path.stat().st_size < 50_000
    monkeypatch.setattr("envs.store.MAX_BYTES", 3_000_000)
    monkeypatch.setattr("envs.store.episode_bytes", None)  # which looks at what is unpacked already
    with pytest.raises(StoreError, match=r"bytes when unpacked; at most 1,000,000 and 3,000,000"):
        read_episodes(path)


def test_a_text_counts_as_often_as_it_is_referred_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = episode()
    text = "x" * 100_000
    turns = tuple(replace(turn, observation=text) for turn in one.turns)
    path = tmp_path / "repeated.parquet"
    write_episodes(path, [replace(one, turns=turns)] * 3)
    assert path.stat().st_size < 100_000
    assert len(read_episodes(path)) == 3
    monkeypatch.setattr("envs.store.MAX_EPISODE_BYTES", len(text) * len(turns))
    with pytest.raises(StoreError, match=r"repeated.parquet: episode 0: more than"):
        read_episodes(path)


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StoreError, match="not a file"):
        read_episodes(tmp_path / "pipe")
