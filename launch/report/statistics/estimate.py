"""Contrasts of arm means with heteroskedastic standard errors, the subject as a fixed effect.

The model of a replicate of arm a on subject s is y = mu_a + alpha_s + e with Var(e) = sigma_a^2, and a contrast is
sum_a w_a mu_a. It is fitted by least squares; its variance is the HC2 one (MacKinnon and White 1985, J. Econometrics
29), its degrees of freedom are Satterthwaite's for unbiased estimates of the sigma_a^2 (Bell and McCaffrey 2002, Survey
Methodology 28; Imbens and Kolesar 2016, Rev. Econ. Stat. 98). With one subject and two arms both are exactly those of
Welch (1947, Biometrika 34):

    V = s_1^2 / n_1 + s_2^2 / n_2,    df = V^2 / sum_a (s_a^2 / n_a)^2 / (n_a - 1).

Seeds are not paired: runs of one seed share their episodes, which explains next to nothing of what differs between
them. What is measured on the start model (gates, evaluation before training) is constant within a subject, so that the
fixed effect holds everything that it could adjust for.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
EXACT = 1e-9


class Estimate(NamedTuple):
    """A contrast, its standard error and degrees of freedom; arrays over studies if the outcomes were."""

    mean: Vector
    se: Vector
    df: Vector

    def bounds(self, level: float) -> tuple[Vector, Vector]:
        """The t interval of this level."""
        half = stats.t.ppf((1 + level) / 2, self.df) * self.se
        return self.mean - half, self.mean + half

    def above(self, value: float = 0.0) -> Vector:
        """One-sided p of a contrast that is at most `value`."""
        distance = self.mean - value
        with np.errstate(divide="ignore", invalid="ignore"):
            p = stats.t.sf(distance / self.se, self.df)
        return np.where(self.se > 0, p, np.where(distance > 0, 0.0, 1.0))

    def apart(self) -> Vector:
        """Two-sided p of a contrast that is 0."""
        return np.minimum(1.0, 2 * np.minimum(self.above(), Estimate(-self.mean, self.se, self.df).above()))


@dataclass(frozen=True)
class Design:
    """What the arms and subjects of the replicates say about a contrast, whatever the outcomes are."""

    form: Vector
    """The contrast as weights of the outcomes, [n]."""
    residual: Matrix
    """Takes outcomes to residuals, [n, n]."""
    slack: Vector
    """1 - leverage of each replicate, [n]; 0 for one that alone determines a parameter."""
    membership: Matrix
    """1 where a replicate is of an arm, [arms, n]."""

    @classmethod
    def of(cls, arms: Sequence[str], subjects: Sequence[Hashable], weights: Mapping[str, float]) -> Design:
        """Of replicates with these arms and subjects. Raises `ValueError` if they do not determine the contrast."""
        names = list(weights)
        membership = np.array([[arm == name for arm in arms] for name in names], dtype=float)
        others = list(dict.fromkeys(subjects))[1:]
        model = np.column_stack([*membership, *[[float(s == other) for s in subjects] for other in others]])
        wanted = np.array([*weights.values(), *[0.0] * len(others)])
        inverse = np.linalg.pinv(model)
        form = wanted @ inverse
        if not np.allclose(form @ model, wanted, atol=1e-7):
            raise ValueError("the arms share no subject, so that they cannot be compared")
        residual = np.eye(len(arms)) - model @ inverse
        slack = np.where(np.diag(residual) > EXACT, np.diag(residual), 0.0)
        return cls(form, residual, slack, membership)

    def estimate(self, outcomes: Vector, floors: Vector | None = None) -> Estimate:
        """The contrast of outcomes [..., n]; `floors` [arms] bound the variance of an arm's replicates from below."""
        free = self.slack > 0
        divisor = np.where(free, self.slack, 1.0)
        residuals = (outcomes @ self.residual) ** 2
        shares = self.membership * self.form**2
        parts = np.where(free, residuals / divisor, 0.0) @ shares.T
        # unbiased whatever the variances are: the sum of squared residuals of arm a has the mean sum_b mixing_ab var_b
        mixing = self.membership @ self.residual**2 @ self.membership.T
        variances = np.maximum(residuals @ self.membership.T @ np.linalg.pinv(mixing), 0.0)
        if floors is not None:
            variances = np.maximum(variances, floors)
            parts = np.maximum(parts, floors * shares.sum(axis=1))
        return Estimate(outcomes @ self.form, np.sqrt(parts.sum(axis=-1)), self._df(variances))

    def _df(self, variances: Vector) -> Vector:
        """Satterthwaite: 2 E[V]^2 / Var[V] of V = y' G y for independent outcomes with these variances per arm."""
        scale = np.where(self.slack > 0, self.form**2 / np.where(self.slack > 0, self.slack, 1.0), 0.0)
        quadratic = self.residual @ (scale[:, None] * self.residual)
        first = self.membership @ np.diag(quadratic)
        second = self.membership @ quadratic**2 @ self.membership.T
        top = (variances @ first) ** 2
        bottom = np.einsum("...a,ab,...b->...", variances, second, variances)
        whole = float(np.trace(self.residual))
        return np.where(bottom > 0, top / np.where(bottom > 0, bottom, 1.0), max(whole, 1.0))


def contrast(
    columns: Mapping[str, Mapping[int, float]],
    weights: Mapping[str, float],
    subjects: Mapping[int, str] | None = None,
    floors: Mapping[str, float] | None = None,
) -> Estimate | None:
    """The contrast `weights` of arms whose replicates are `columns`[arm][seed]; None where it is not determined.

    `subjects` says which subject a seed starts from (none: all from one), `floors` the least variance of an arm's
    replicates. Every arm needs two replicates.
    """
    involved = {arm: weight for arm, weight in weights.items() if weight}
    if not involved or any(len(columns.get(arm, {})) < 2 for arm in involved):
        return None
    rows = [(arm, seed) for arm in involved for seed in sorted(columns[arm])]
    try:
        design = Design.of(
            [arm for arm, _ in rows], [(subjects or {}).get(seed, "") for _, seed in rows], dict(involved)
        )
    except ValueError:
        return None
    outcomes = np.array([columns[arm][seed] for arm, seed in rows])
    return design.estimate(outcomes, np.array([(floors or {}).get(arm, 0.0) for arm in involved]))
