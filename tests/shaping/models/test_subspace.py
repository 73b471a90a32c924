"""Directions of a file as bases, and what an adapter may not be confined to."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from shaping.contract.groups import small_policy
from shaping.hooks import AdapterSpec, Subspace
from shaping.models.lora.adapters import AdapterError
from shaping.models.lora.subspace import Projection, SubspaceError, bases_of, stored_directions

HIDDEN = 32


def stored(tmp_path: Path, **tensors: Tensor) -> str:
    save_file({name.replace("_", "."): tensor for name, tensor in tensors.items()}, tmp_path / "v.safetensors")
    return str(tmp_path / "v.safetensors")


@pytest.fixture(scope="module")
def model() -> object:
    return small_policy().model


def test_a_basis_is_orthonormal_and_spans_the_directions(model: object, tmp_path: Path) -> None:
    rows = torch.randn(3, HIDDEN, generator=torch.Generator().manual_seed(0))
    dependent = torch.cat([rows, rows[:1] + rows[1:2]])
    (basis,) = bases_of(model, Subspace(True, stored(tmp_path, layer_0=dependent))).values()  # type: ignore[arg-type]
    assert basis.shape == (HIDDEN, 3)
    torch.testing.assert_close(basis.T @ basis, torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close(basis @ (basis.T @ rows.double().T), rows.double().T)


def test_a_file_of_shaping_directions_is_read_by_its_card(model: object, tmp_path: Path) -> None:
    vectors = torch.eye(HIDDEN)[:3]
    save_file({"vectors": vectors}, tmp_path / "d.safetensors", metadata={"card": '{"layers": [0, 1, 0]}'})
    found = stored_directions(tmp_path / "d.safetensors")
    assert torch.equal(found[0][1], vectors[[0, 2]]) and torch.equal(found[1][1], vectors[[1]])
    with pytest.raises(SubspaceError, match="layer 1 names no layer of the model"):
        bases_of(model, Subspace(True, str(tmp_path / "d.safetensors")))  # type: ignore[arg-type]
    save_file({"vectors": vectors}, tmp_path / "d.safetensors", metadata={"card": '{"layers": [0]}'})
    with pytest.raises(SubspaceError, match="1 layers for vectors"):
        stored_directions(tmp_path / "d.safetensors")


def test_random_directions_are_as_many_as_the_files_and_change_with_the_seed(model: object, tmp_path: Path) -> None:
    path = stored(tmp_path, layer_0=torch.eye(HIDDEN)[:5])
    one, same, other = (bases_of(model, Subspace(True, path, seed))[0] for seed in (0, 0, 1))  # type: ignore[arg-type]
    assert one.shape == (HIDDEN, 5) and torch.equal(one, same) and not torch.equal(one, other)
    assert bases_of(model, Subspace(True, None, 0, rank=2))[0].shape == (HIDDEN, 2)  # type: ignore[arg-type]


def test_inside_and_outside_add_up_and_without_directions_nothing_is_inside() -> None:
    matrix, basis = torch.randn(6, 3), torch.linalg.qr(torch.randn(6, 2, dtype=torch.float64))[0]
    torch.testing.assert_close(Projection(basis, True)(matrix) + Projection(basis, False)(matrix), matrix)
    assert float((basis.T @ Projection(basis, False)(matrix).double()).abs().max()) < 1e-6
    assert not Projection(None, True)(matrix).any() and torch.equal(Projection(None, False)(matrix), matrix)


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        ({"layer_1": torch.ones(HIDDEN)}, "'layer.1' names no layer of the model, which has 0 to 0"),
        ({"persona": torch.ones(HIDDEN)}, "write layer.<number>"),
        ({"layer_0": torch.ones(HIDDEN + 1)}, r"shape \(33,\); directions here are \[k, 32\]"),
        ({"layer_0": torch.zeros(2, HIDDEN)}, "spans 0 of 32"),
        ({"layer_0": torch.eye(HIDDEN)}, "spans 32 of 32"),
        ({"layer_0": torch.full((HIDDEN,), torch.nan)}, "not finite"),
        ({"layer_0": torch.ones(HIDDEN), "also_0": torch.ones(HIDDEN)}, "of the same layer as another"),
    ],
)
def test_directions_that_do_not_fit_are_named(
    model: object, tmp_path: Path, tensors: dict[str, Tensor], told: str
) -> None:
    with pytest.raises(SubspaceError, match=told):
        bases_of(model, Subspace(True, stored(tmp_path, **tensors)))  # type: ignore[arg-type]


def test_a_file_that_is_missing_and_too_many_random_directions_are_named(model: object, tmp_path: Path) -> None:
    with pytest.raises(SubspaceError, match="cannot be read"):
        bases_of(model, Subspace(True, str(tmp_path / "none")))  # type: ignore[arg-type]
    with pytest.raises(SubspaceError, match="40 random directions leave nothing"):
        bases_of(model, Subspace(True, None, 0, rank=40))  # type: ignore[arg-type]


def test_modules_that_do_not_write_to_the_residual_stream_are_refused() -> None:
    for target in ("k_proj", "gate_proj"):
        with pytest.raises(AdapterError, match="does not write to the residual stream"):
            small_policy([AdapterSpec("a", "kept", targets=(target,), subspace=Subspace(True, None, 0))])
    adapters = small_policy([AdapterSpec("a", "kept", subspace=Subspace(True, None, 0))]).adapters
    assert {name.split(".")[-3] for name in adapters.tensors("a")} == {"o_proj", "down_proj"}
