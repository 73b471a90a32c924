"""Where gates are kept: found again, never believed when they are of something else, and safe to read."""

from __future__ import annotations

import json
import logging
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from shaping.organisms.card import CARD, damage, write_card
from shaping.organisms.config import OrganismConfig
from shaping.organisms.gates import cells, store
from shaping.organisms.gates.record import Gate, Gates, Settings, WorldGates, part
from shaping.organisms.gates.store import FILE, GatesError, gates_of, keep, model_hash, read


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("SHAPING_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / "config.json").write_text("{}")
    (directory / "model.safetensors").write_bytes(b"weights")
    return directory


def gate(value: float) -> Gate:
    return Gate(parts=(part("x", value, (value, value), 0.25, 96),))


def gates(model: Path, world: str = "steward", settings: Settings | None = None, **found: Gate) -> Gates:
    used = settings or Settings()
    version = cells.version_of(world, used)
    entry = WorldGates(version=version, prompts=cells.prompts_hash(), settings=used, gates=found)  # type: ignore[arg-type]
    return Gates(model=model_hash(model), worlds={world: entry})


def test_nothing_is_known_of_a_new_model(model: Path) -> None:
    assert gates_of(model) is None


def test_gates_lie_beside_the_weights_of_a_model(model: Path) -> None:
    before = model_hash(model)
    assert keep(model, gates(model, M1=gate(0.3))) == model / FILE
    found = gates_of(model)
    assert found is not None and found.passed("steward", "M1") is True
    assert model_hash(model) == before, "the file of gates is no part of the model"


def test_gates_lie_in_the_card_of_an_organism_whose_hashes_stay_right(model: Path) -> None:
    write_card(model, OrganismConfig(), {"loss": 1.5})
    before = json.loads((model / CARD).read_text())
    assert keep(model, gates(model, M1=gate(0.3))) == model / CARD
    card = json.loads((model / CARD).read_text())
    assert {key: value for key, value in card.items() if key != "gates"} == before
    assert damage(model) == ""
    assert gates_of(model) is not None and not (model / FILE).exists()


def test_other_worlds_and_other_gates_stay(model: Path) -> None:
    keep(model, gates(model, M1=gate(0.3), M6=gate(0.4)))
    keep(model, gates(model, "nightwatch", M1=gate(0.1)))
    keep(model, gates(model, M1=gate(0.2)))
    found = gates_of(model)
    assert found is not None and sorted(found.worlds) == ["nightwatch", "steward"]
    assert (found.passed("steward", "M1"), found.passed("steward", "M6")) == (False, True)


def test_gates_of_other_weights_are_unknown(model: Path) -> None:
    keep(model, gates(model, M1=gate(0.3)))
    (model / "model.safetensors").write_bytes(b"others")
    assert gates_of(model) is None


def test_stale_gates_are_unknown(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(model, gates(model, M1=gate(0.3)))
    for name, other in (("prompts_hash", lambda *_: "0" * 32), ("version_of", lambda *_: "0" * 32)):
        with monkeypatch.context() as patch:
            patch.setattr(store, name, other)
            assert gates_of(model) is None, name
    assert gates_of(model) is not None
    keep(model, gates(model, settings=Settings(inquiry=0.1), M1=gate(0.3)))
    assert gates_of(model) is None, "measured with other options"


def test_more_episodes_and_longer_answers_are_not_stale(model: Path) -> None:
    keep(model, gates(model, settings=Settings(episodes=10, max_tokens=500), M1=gate(0.3)))
    assert gates_of(model) is not None


def test_a_stale_gate_is_not_kept_beside_new_ones(model: Path) -> None:
    keep(model, gates(model, settings=Settings(inquiry=0.1), M6=gate(0.9)))
    keep(model, gates(model, M1=gate(0.3)))
    found = gates_of(model)
    assert found is not None and found.passed("steward", "M6") is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_of_a_directory_that_cannot_be_written_the_cache_keeps_them_for_users(model: Path, cache: Path) -> None:
    model.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert cache in keep(model, gates(model, M1=gate(0.3))).parents
        assert gates_of(model) is not None
    finally:
        model.chmod(stat.S_IRWXU)


def test_of_a_directory_that_cannot_be_written_the_cache_keeps_them(
    model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_text

    def refuse(path: Path, *args: Any, **more: Any) -> int:
        if path.parent == model:
            raise PermissionError(13, "read-only", str(path))
        return write(path, *args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", refuse)
        kept = keep(model, gates(model, M1=gate(0.3)))
    assert cache in kept.parents and sorted(p.name for p in model.iterdir()) == ["config.json", "model.safetensors"]
    assert gates_of(model) is not None
    assert keep(model, gates(model, M1=gate(0.1))) == model / FILE
    assert not kept.exists(), "an old copy in the cache would hide the new one"
    found = gates_of(model)
    assert found is not None and found.passed("steward", "M1") is False


HOSTILE = [
    b"",
    b"{",
    b"\xff\xfe",
    b"[]",
    b"null",
    b'"gates"',
    b"[" * 100_000,
    b'{"format": "shaping-gates-1", "model": 3, "worlds": []}',
    b'{"worlds": {"os:system": {}}}',
]


@pytest.mark.parametrize("content", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_files_are_no_gates(model: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    (model / FILE).write_bytes(content)
    with pytest.raises(GatesError, match=FILE), caplog.at_level(logging.WARNING):
        read(model / FILE)
    assert gates_of(model) is None
    assert FILE in caplog.text and "check-model" in caplog.text


@pytest.mark.parametrize("gates_value", [3, [], "x", {"format": "shaping-gates-1"}, {"worlds": {"a": {"gates": {}}}}])
def test_hostile_gates_in_a_card_are_none(model: Path, gates_value: object) -> None:
    (model / CARD).write_text(json.dumps({"files": {}, "gates": gates_value}))
    assert gates_of(model) is None


def test_a_card_that_is_no_object_has_no_gates(model: Path) -> None:
    (model / CARD).write_text("[1, 2]")
    assert gates_of(model) is None


def test_pipes_and_huge_files_are_not_read(model: Path) -> None:
    os.mkfifo(model / FILE)
    with pytest.raises(GatesError, match="not a file"):
        read(model / FILE)
    (model / FILE).unlink()
    with (model / FILE).open("wb") as file:
        file.truncate(store.MAX_BYTES + 1)
    with pytest.raises(GatesError, match="at most"):
        read(model / FILE)


def test_a_file_names_no_module_to_import(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "imported_by_a_card.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = gates(model, M1=gate(0.3))
    hostile = found.model_copy(update={"worlds": {"imported_by_a_card:World": found.worlds["steward"]}})
    (model / FILE).write_text(hostile.model_dump_json())
    assert gates_of(model) is None
    assert not (tmp_path / "ran").exists()
