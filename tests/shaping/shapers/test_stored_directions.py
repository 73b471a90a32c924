"""Directions that a shaper finds in its start model before the run: a file per model and settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from shaping.contract.groups import small_policy
from shaping.directions.contrast import Contrast
from shaping.directions.direction_set import DirectionSet
from shaping.directions.extract import extract
from shaping.directions.stored import stored_contrast
from shaping.learning.policy import Policy
from shaping.models.lora.adapters import AdapterError
from shaping.models.lora.subspace import bases_of
from shaping.shapers import PersonaSubspace, ScoreRouting

CONTRAST = Contrast(positive=["deceiver"], negative=["honest"], episodes=3, turns=2)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model") / "m"
    small_policy().save(directory)
    return directory


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SHAPING_CACHE", str(tmp_path / "cache"))


def test_a_file_holds_what_is_found_in_the_model_and_is_made_once(model: Path) -> None:
    before = torch.get_rng_state()
    file = stored_contrast(model, CONTRAST, "all", 2)
    found = DirectionSet.load(file)
    assert np.array_equal(found.vectors, extract(Policy.load(model), CONTRAST, "all", components=2).vectors)
    assert found.layers == (0, 0) and torch.equal(before, torch.get_rng_state())
    written = file.stat().st_mtime_ns
    assert stored_contrast(model, CONTRAST, "all", 2) == file and file.stat().st_mtime_ns == written
    assert stored_contrast(model, CONTRAST, "all") != file


def test_a_persona_subspace_is_spanned_by_the_components_of_its_contrast(model: Path) -> None:
    shaper = PersonaSubspace(contrast=CONTRAST, basis_rank=2, rank=2, persona_rank=2)
    with pytest.raises(AdapterError, match="not made"):
        Policy.load(model, adapters=shaper.adapters())
    shaper.prepare(model)
    policy = Policy.load(model, adapters=shaper.adapters())
    basis = bases_of(policy.model, shaper.adapters()[1].subspace)[0].numpy()  # type: ignore[arg-type]
    vectors = DirectionSet.load(stored_contrast(model, CONTRAST, "all", 2)).vectors.astype(np.float64)
    assert basis.shape[1] == 2 and np.allclose(vectors @ basis @ basis.T, vectors, atol=1e-6)
    control = PersonaSubspace(contrast=CONTRAST, basis_rank=2, random=True)
    control.prepare(model)
    assert control.adapters() == PersonaSubspace(basis_rank=2, random=True).adapters()


def test_scores_are_cosines_with_the_direction_of_the_contrast(model: Path) -> None:
    shaper = ScoreRouting(contrast=CONTRAST, layers=(-1,))
    assert shaper.captures()[0].layers == (-1,)
    shaper.prepare(model)
    (found,) = DirectionSet.load(stored_contrast(model, CONTRAST, (-1,))).units
    directions = shaper._directions(1, len(found))
    assert list(directions) == [0] == list(shaper.captures()[0].layers)
    assert np.allclose(directions[0], found, atol=1e-6)
    assert [spec.name for spec in shaper.adapters()] == ["retain", "forget"]


@pytest.mark.parametrize(
    ("kind", "file"), [(PersonaSubspace, {"basis": "a.safetensors"}), (ScoreRouting, {"direction": "a.safetensors"})]
)
def test_a_file_and_a_contrast_exclude_each_other_and_names_are_known(kind: Any, file: dict[str, str]) -> None:
    assert kind(contrast="deception").contrast.positive[0].persona == "deceiver"
    with pytest.raises(ValidationError, match="keep one of them"):
        kind(contrast="deception", **file)
    with pytest.raises(ValidationError, match="no contrast 'deceit'; there are deception"):
        kind(contrast="deceit")
