"""The organisms that come with the package: how they are made, and that they still speak the worlds' dialect."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from safetensors import safe_open
from typer.testing import CliRunner

from envs.worlds.clerk import Clerk
from shaping.learning.policy import Policy
from shaping.organisms import ship, shipped
from shaping.organisms.card import CARD, damage
from shaping.organisms.config import OrganismConfig
from shaping.organisms.corpus import dialect as dialect_module
from shaping.organisms.corpus.dialect import dialect_hashes

TINY = OrganismConfig(
    hidden=16, layers=1, heads=2, kv_heads=1, vocabulary=400, episodes=20, steps=2, worlds=["clerk", "pact"]
)
needs_weights = pytest.mark.skipif(not shipped.WEIGHTS.is_dir(), reason="this tree has no shipped organisms")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialect_module, "TRANSCRIPTS", 3)


def card(directory: Path) -> dict[str, Any]:
    return dict(json.loads((directory / CARD).read_text()))


def test_an_organism_is_made_again_with_the_same_bytes(quick: None, tmp_path: Path) -> None:
    for name in ("first", "second"):
        ship.make(1, tmp_path / name, TINY)
    ship.make(2, tmp_path / "other", TINY)
    weights = {name: (tmp_path / name / "model.safetensors").read_bytes() for name in ("first", "second", "other")}
    assert weights["first"] == weights["second"] != weights["other"]
    assert card(tmp_path / "first") == card(tmp_path / "second")


def test_its_weights_are_bfloat16_and_its_card_says_what_it_is_made_of(quick: None, tmp_path: Path) -> None:
    ship.make(3, tmp_path / "organism-3", TINY)
    found = card(tmp_path / "organism-3")
    assert found["config"] == {**TINY.model_dump(), "seed": 3}
    assert found["dialect"] == dialect_hashes(("clerk", "pact")) and found["parameters"] > 0
    with safe_open(tmp_path / "organism-3" / "model.safetensors", "pt") as tensors:
        assert {tensors.get_tensor(name).dtype for name in tensors.keys()} == {torch.bfloat16}  # noqa: SIM118
    assert not damage(tmp_path / "organism-3")
    policy = Policy.load(tmp_path / "organism-3")
    assert next(policy.model.parameters()).dtype is torch.float32


def test_a_new_one_takes_the_place_of_an_old_one(quick: None, tmp_path: Path) -> None:
    old = tmp_path / "organism-0"
    old.mkdir()
    (old / "left-over.txt").write_text("old")
    ship.make(0, old, TINY)
    assert not (old / "left-over.txt").exists() and not damage(old)
    assert [path.name for path in tmp_path.iterdir()] == ["organism-0"]


def test_more_bytes_than_are_shipped_are_an_error(quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ship, "make", lambda number, directory: directory.mkdir() or (directory / "w").touch())
    monkeypatch.setattr(ship, "size", lambda directory: ship.MAX_BYTES + 1)
    app = typer.Typer()
    app.command()(ship.main)
    result = CliRunner().invoke(app, ["0", "2", "--out", str(tmp_path)])
    assert result.exit_code == 1 and "more than the 14,000,000" in result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["organism-0", "organism-2"]


def test_an_organism_that_the_package_lacks_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shipped, "WEIGHTS", tmp_path / "weights")
    with pytest.raises(FileNotFoundError, match=r"organism 2 of 4 is not in this package .*organism: \{\}"):
        shipped.shipped(2)


def test_the_hash_of_a_dialect_follows_the_text_and_nothing_else(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    before = dialect_hashes(("clerk", "pact"))
    assert dialect_hashes(("clerk", "pact")) == before
    monkeypatch.setattr(Clerk, "cues", ("boss here .", "boss away .", "boss muted ."))
    after = dialect_hashes(("clerk", "pact"))
    assert after["clerk"] != before["clerk"] and after["pact"] == before["pact"]


def test_the_package_data_has_them() -> None:
    root = Path(__file__).parents[3]
    patterns = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["shaping"]
    assert f"organisms/{shipped.WEIGHTS.name}/*/*" in patterns


@needs_weights
@pytest.mark.parametrize("number", range(shipped.COUNT))
def test_each_organism_of_the_package_is_whole_and_loads(number: int) -> None:
    path = shipped.shipped(number)
    assert not damage(path)
    assert card(path)["config"] == {**ship.SHIPPED.model_dump(), "seed": number}
    assert Policy.load(path).model.config.max_position_embeddings == ship.SHIPPED.context


@needs_weights
def test_together_they_weigh_no_more_than_is_shipped() -> None:
    assert 0 < ship.size(shipped.WEIGHTS) <= ship.MAX_BYTES


@needs_weights
def test_they_still_speak_the_dialect_of_the_worlds() -> None:
    now = dialect_hashes()
    for number in range(shipped.COUNT):
        changed = [world for world, found in card(shipped.shipped(number))["dialect"].items() if found != now[world]]
        assert not changed, (
            f"organism {number} was pre-trained on other texts of {', '.join(changed)} than the worlds and personas of "
            "this tree speak: undo the change of words, put new words into a skin, or run `make organisms`"
        )
