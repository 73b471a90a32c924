"""Power laws of preference models: how error falls with model size and with the number of examples. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lstsq
from scipy.stats import t as student

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """y = factor * product over quantities of x^-exponent, with 95 % intervals (nan without degrees of freedom)."""

    factor: float
    exponents: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    """Of the exponents."""
    r2: float
    """Share of the variance of log y that it explains; nan where y does not vary."""
    points: int

    def row(self) -> dict[str, Any]:
        """For a JSON file, which has null for nan."""
        return {
            "factor": self.factor,
            "exponents": dict(self.exponents),
            "intervals": {name: None if np.isnan(both[0]) else list(both) for name, both in self.intervals.items()},
            "r2": None if np.isnan(self.r2) else self.r2,
            "points": self.points,
        }

    def at(self, **quantities: float) -> float:
        """Its value."""
        return float(self.factor * np.prod([quantities[name] ** -power for name, power in self.exponents.items()]))


def power_law(y: Array, **quantities: Array) -> PowerLaw:
    """Fit a power law by least squares of logarithms; `y` and each quantity have shape [points].

    The intervals are Student's, of independent points with like noise in log y. Raises: ValueError for numbers that are
    not positive, for fewer points than parameters, and for a quantity that does not vary by itself.
    """
    y = np.asarray(y, np.float64)
    columns = {name: np.asarray(values, np.float64) for name, values in quantities.items()}
    if any(each.shape != y.shape or y.ndim != 1 for each in columns.values()):
        raise ValueError("every quantity must have one value per point")
    if not all((each > 0).all() and np.isfinite(each).all() for each in (y, *columns.values())):
        raise ValueError("a power law needs positive numbers")
    design = np.column_stack([np.ones_like(y), *(-np.log(each) for each in columns.values())])
    unknown, free = design.shape[1], len(y) - design.shape[1]
    if free < 0:
        raise ValueError(f"{len(y)} points do not determine {unknown} parameters")
    target = np.log(y)
    found, _, rank, _ = lstsq(design, target)
    if rank < unknown:
        raise ValueError(f"{', '.join(columns)}: at least one does not vary apart from the others")
    residual = target - design @ found
    spread = float(((target - target.mean()) ** 2).sum())
    errors = np.full(unknown, np.nan)
    if free > 0:
        covariance = np.linalg.inv(design.T @ design) * float(residual @ residual) / free
        errors = np.sqrt(np.diag(covariance)) * student.ppf(0.975, free)
    powers = dict(zip(columns, found[1:].tolist(), strict=True))
    widths = dict(zip(columns, errors[1:].tolist(), strict=True))
    return PowerLaw(
        float(np.exp(found[0])),
        powers,
        {name: (power - widths[name], power + widths[name]) for name, power in powers.items()},
        1 - float(residual @ residual) / spread if spread > 0 else float("nan"),
        len(y),
    )


def error_of(accuracy: float, pairs: int) -> float:
    """1 - accuracy, and at least half a pair, so that a model without a mistake has a logarithm of its error."""
    return max(1 - accuracy, 0.5 / pairs)
