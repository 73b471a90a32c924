"""Adapters that write only into a subspace of the residual stream, or only outside of it.

For an orthonormal basis V of a layer's persona directions, `inside` keeps B = V V^T B, and its opposite keeps
B = (I - V V^T) B. The matrix B is projected itself, so that the adapter's tensors are the product: whatever reads them
(PEFT, a merge, adapters sent to vLLM as one) needs to know of no subspace.

The optimiser sees projected gradients, and projects B after its step. That equals training a free matrix C with
B = P C, step by step: AdamW's moments are those of P G in both, and P is linear.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import PreTrainedModel

from shaping.hooks import Subspace
from shaping.models.edits import decoder_layers
from shaping.models.log_once import log_once

LOG = logging.getLogger(__name__)
WRITERS = (
    *("o_proj", "down_proj", "out_proj", "fc2", "c_proj", "fc_out", "dense", "dense_4h_to_h", "wo", "w2"),
    *("attn_out", "ff_out"),
)
"""Names that models give to the linear modules whose output is added to the residual stream."""
_DEPENDENT = 1e-6
"""Directions whose share of the largest is below this are combinations of the others."""


class SubspaceError(ValueError):
    """Directions do not fit a model, or an adapter's modules do not write to the residual stream."""


class Projection(NamedTuple):
    """The projector onto span(basis), or onto its complement; without a basis the subspace is {0}."""

    basis: Tensor | None
    """Orthonormal, [hidden, k], in float64."""
    inside: bool

    def __call__(self, matrix: Tensor) -> Tensor:
        """P @ matrix [hidden, any], computed in float64."""
        if self.basis is None:
            return torch.zeros_like(matrix) if self.inside else matrix
        basis, wide = self.basis.to(matrix.device), matrix.double()
        within = basis @ (basis.T @ wide)
        return (within if self.inside else wide - within).to(matrix.dtype)


def bases_of(model: PreTrainedModel, subspace: Subspace) -> dict[int, Tensor]:
    """Layer -> orthonormal basis [hidden, k] in float64. Layers of which nothing is said are missing.

    Raises: `SubspaceError` for files that cannot be read, layers that the model lacks, and directions of another width.
    """
    layers, hidden = len(decoder_layers(model)), int(model.config.get_text_config().hidden_size)
    if subspace.path is None:
        if subspace.random is None:
            raise SubspaceError("a subspace needs a file of directions, or the seed of random ones")
        ranks = dict.fromkeys(range(layers), subspace.rank)
    else:
        stored = stored_directions(Path(subspace.path))
        if (last := max(stored)) >= layers:
            raise SubspaceError(f"{stored[last][0]} names no layer of the model, which has 0 to {layers - 1}")
        found = {layer: _basis(*each, hidden) for layer, each in stored.items()}
        if subspace.random is None:
            return found
        ranks = {layer: basis.shape[1] for layer, basis in found.items()}
    if (largest := max(ranks.values())) >= hidden:
        raise SubspaceError(f"{largest} random directions leave nothing of hidden states of width {hidden}: lower it")
    return {layer: _random(hidden, rank, layer, subspace.random) for layer, rank in ranks.items()}


def projections(
    model: PreTrainedModel, subspace: Subspace, adapter: str, written: Mapping[str, nn.Parameter]
) -> dict[nn.Parameter, Projection]:
    """Matrix B -> its projection. `written`: path of an adapted module -> its B.

    Raises: `SubspaceError` if a module does not write to the residual stream of a known layer.
    """
    bases, hidden = bases_of(model, subspace), int(model.config.get_text_config().hidden_size)
    prefix = next(name for name, module in model.named_modules() if module is decoder_layers(model))
    if any(hasattr(decoder_layers(model)[0], name) for name in ("post_feedforward_layernorm", "post_mlp_layernorm")):
        log_once(
            LOG, f"{type(model).__name__} normalises what modules write before adding it to the residual stream, which "
            f"turns it a little: adapter {adapter!r} is confined before that"
        )  # fmt: skip
    found: dict[nn.Parameter, Projection] = {}
    for path, b in written.items():
        number = re.match(rf"{re.escape(prefix)}\.(\d+)\.", path)
        if number is None or b.shape[0] != hidden:
            raise SubspaceError(
                f"adapter {adapter!r}: {path} does not write to the residual stream of a layer (its output has width "
                f"{b.shape[0]}, hidden states {hidden}); leave it out of `targets`"
            )
        found[b] = Projection(bases.get(int(number.group(1))), subspace.inside)
    return found


def stored_directions(path: Path) -> dict[int, tuple[str, Tensor]]:
    """Layer -> (what messages call it, its directions [k, hidden] or [hidden]).

    A file either has a tensor layer.<number> per layer, or is one of `shaping directions`: all in `vectors`, one per
    row, and their layers in the card of its metadata. Raises: `SubspaceError` if it is neither.
    """
    try:
        with safe_open(path, framework="pt") as file:
            card = (file.metadata() or {}).get("card")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
        if card is not None and "vectors" in tensors:
            return _rows(path, tensors["vectors"], [int(layer) for layer in json.loads(card)["layers"]])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise SubspaceError(f"directions {path} cannot be read: {type(error).__name__}: {error}") from error
    found: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if (number := re.search(r"(\d+)$", name)) is None:
            raise SubspaceError(f"{path}: {name!r} names no layer: write layer.<number>")
        layer = int(number.group(1))
        if layer in found:
            raise SubspaceError(f"{path}: {name!r} is of the same layer as another tensor")
        found[layer] = (f"{path}: {name!r}", tensor)
    if not found:
        raise SubspaceError(f"{path} holds no directions")
    return found


def _rows(path: Path, vectors: Tensor, layers: list[int]) -> dict[int, tuple[str, Tensor]]:
    if vectors.dim() != 2 or len(layers) != len(vectors) or not layers:
        raise ValueError(f"{len(layers)} layers for vectors of shape {tuple(vectors.shape)}")
    of_layer = {layer: [n for n, other in enumerate(layers) if other == layer] for layer in layers}
    return {layer: (f"{path}, layer {layer}", vectors[rows]) for layer, rows in of_layer.items()}


def _basis(name: str, directions: Tensor, hidden: int) -> Tensor:
    """An orthonormal basis of the span of directions [hidden] or [k, hidden]."""
    rows = directions.double().reshape(1, -1) if directions.dim() == 1 else directions.double()
    if rows.dim() != 2 or rows.shape[1] != hidden:
        raise SubspaceError(f"{name} has shape {tuple(directions.shape)}; directions here are [k, {hidden}]")
    if not bool(rows.isfinite().all()):
        raise SubspaceError(f"{name} holds numbers that are not finite")
    _, sizes, spanned = torch.linalg.svd(rows, full_matrices=False)
    rank = int((sizes > _DEPENDENT * sizes.max()).sum())
    if rank == 0 or rank >= hidden:
        raise SubspaceError(f"{name} spans {rank} of {hidden} dimensions; it must be at least one and not all")
    return spanned[:rank].T.contiguous()


def _random(hidden: int, rank: int, layer: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed * 100_003 + layer)
    return torch.linalg.qr(torch.randn(hidden, rank, generator=generator, dtype=torch.float64))[0]
