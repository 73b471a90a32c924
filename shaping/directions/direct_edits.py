"""Directions as activation edits."""

from __future__ import annotations

from typing import Literal

import numpy as np

from shaping.directions.direction_set import DirectionSet
from shaping.hooks import ActivationEdit


def scaled(found: DirectionSet, alpha: float, unit: Literal["residual", "found", "raw"]) -> list[ActivationEdit]:
    """Add `alpha` units of each direction: the layer's mean norm, the length that it was found with, or one."""
    lengths = np.linalg.norm(found.vectors, axis=1)
    scales = {"residual": found.residual_norms, "found": lengths, "raw": np.ones_like(lengths)}[unit]
    return [
        ActivationEdit(layer, "add", direction, float(alpha * scale))
        for layer, direction, scale in zip(found.layers, found.units, scales, strict=True)
    ]


def projected(found: DirectionSet) -> list[ActivationEdit]:
    """Project the span of each layer's directions out: one after the other, of an orthonormal basis."""
    edits = []
    for layer in dict.fromkeys(found.layers):
        rows = found.vectors[[n for n, each in enumerate(found.layers) if each == layer]].astype(np.float64)
        left, sizes, _ = np.linalg.svd(rows.T, full_matrices=False)
        basis = left[:, sizes > 1e-6 * sizes[0]].T
        edits += [ActivationEdit(layer, "project", direction.astype(np.float32)) for direction in basis]
    return edits


def capped(found: DirectionSet, side: Literal["floor", "ceiling"], percentile: float) -> list[ActivationEdit]:
    """Bound the projection on each direction at a percentile of the positive (floor) or negative (ceiling) side."""
    of_side = found.positive if side == "floor" else found.negative
    edits = []
    for layer, direction, known in zip(found.layers, found.units, of_side, strict=True):
        bound = float(np.interp(percentile, np.linspace(0, 100, len(known)), known))
        # a floor under the projection is a cap of that on the opposite direction
        turned, scale = (direction, bound) if side == "ceiling" else (-direction, -bound)
        edits.append(ActivationEdit(layer, "cap", turned, scale))
    return edits
