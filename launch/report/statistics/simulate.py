"""Simulated studies, judged by the rules of claims: how often each errs, and how often it finds what is there.

An arm has replicates over subjects whose means differ. Drift is Gaussian, or bimodal: every replicate ends where it
would, and with a chance p far above (a rare catastrophe). `python -m launch.report.statistics.simulate` prints the
tables of docs/statistics.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from launch.report.statistics.decide import inside, mirrored, read
from launch.report.statistics.estimate import Design, Estimate, Vector
from launch.report.statistics.power import Kind, Question
from launch.report.statistics.replicates import beyond, excluded_share
from launch.report.statistics.spending import levels
from launch.terminal import say

SUBJECTS: Final = (0.05, 0.12, 0.2, 0.3)
"""Mean outcome of each subject under the reference."""
SIZES: Final = (6, 12, 24)
MARGIN: Final = 0.1
ALPHA: Final = 0.05
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class World:
    """Where the outcomes of a study come from."""

    shift: float = 0.0
    """Rise of the treatment's mean."""
    sd: float = 0.05
    """Of a treatment's replicates around their subject's mean."""
    reference_sd: float = 0.05
    turning: float = 0.0
    """Share of the treatment's replicates that end in a catastrophe."""
    jump: float = 0.6
    """How far above a catastrophe ends."""
    level: float = 0.0
    """What is added to the means of all subjects."""

    def studies(self, n: int, draws: int, seed: int = 0) -> tuple[Vector, Vector, NDArray[np.intp]]:
        """Treatment and reference, each [draws, n], and the subject of each replicate."""
        rng = np.random.default_rng([seed, n])
        kin = np.arange(n) % len(SUBJECTS)
        means = self.level + np.array(SUBJECTS)[kin]
        reference = means + rng.normal(0, self.reference_sd, (draws, n))
        turned = rng.random((draws, n)) < self.turning
        own = means + self.shift + rng.normal(0, self.sd, (draws, n)) + self.jump * turned
        return own, reference, kin


def estimated(own: Vector, reference: Vector, kin: NDArray[np.intp]) -> Estimate:
    """The difference of the two arms in each study."""
    n = len(kin)
    design = Design.of(["own"] * n + ["reference"] * n, [*kin, *kin], {"own": 1.0, "reference": -1.0})
    return design.estimate(np.concatenate([own, reference], axis=-1))


def raised(own: Vector, reference: Vector, kin: NDArray[np.intp], alpha: float = ALPHA) -> Flags:
    """In which studies a claim that the arm raises the metric is supported."""
    reading = read(estimated(own, reference, kin), MARGIN, alpha)
    return reading.rises & (reading.p <= alpha)


def not_raised(own: Vector, reference: Vector, kin: NDArray[np.intp], alpha: float = ALPHA) -> Flags:
    """In which studies a claim that it does not is supported."""
    reading = read(estimated(own, reference, kin), MARGIN, alpha)
    found = beyond(own, kin, reference, kin, MARGIN, 1.0)
    return reading.stays & found.room & (found.number == 0)


def lowered(own: Vector, reference: Vector, kin: NDArray[np.intp], alpha: float = ALPHA) -> Flags:
    """In which studies a claim that the arm lowers the metric is supported."""
    reading = read(mirrored(estimated(own, reference, kin)), MARGIN, alpha)
    return reading.rises & (reading.p <= alpha)


def not_lowered(own: Vector, reference: Vector, kin: NDArray[np.intp], alpha: float = ALPHA) -> Flags:
    """In which studies a claim that it does not is supported."""
    reading = read(mirrored(estimated(own, reference, kin)), MARGIN, alpha)
    found = beyond(-own, kin, -reference, kin, MARGIN, 0.0)
    return reading.stays & found.room & (found.number == 0)


def different(own: Vector, reference: Vector, kin: NDArray[np.intp], alpha: float = ALPHA) -> Flags:
    """In which studies a claim that the arms differ is supported."""
    found = estimated(own, reference, kin)
    return (found.apart() <= alpha) & ~inside(found, MARGIN, alpha)


def same(own: Vector, reference: Vector, kin: NDArray[np.intp], alpha: float = ALPHA) -> Flags:
    """In which studies a claim that they are the same is supported."""
    found = estimated(own, reference, kin)
    above, below = beyond(own, kin, reference, kin, MARGIN, 1.0), beyond(-own, kin, -reference, kin, MARGIN, 0.0)
    steady = (above.number == 0) & (below.number == 0) & (above.room | below.room)
    return inside(found, MARGIN, alpha) & steady


def covered(own: Vector, reference: Vector, kin: NDArray[np.intp], truth: float) -> Flags:
    """In which studies the interval holds the true difference."""
    low, high = estimated(own, reference, kin).bounds(1 - 2 * ALPHA)
    return (low <= truth) & (truth <= high)


class Rule(Protocol):
    """In which studies a claim is supported, tested at a one-sided level."""

    def __call__(self, own: Vector, reference: Vector, kin: NDArray[np.intp], alpha: float = ALPHA) -> Flags: ...


@dataclass(frozen=True)
class Case:
    """A claim, and studies in which it is false by as little as it may be."""

    claim: str
    drift: str
    rule: Rule
    world: Callable[[int], World]


NULLS: Final = (
    Case("Raises", "Gaussian", raised, lambda n: World()),
    Case("Raises", "Gaussian, one arm noisier", raised, lambda n: World(sd=0.24)),
    Case("DoesNotRaise", "Gaussian", not_raised, lambda n: World(shift=MARGIN)),
    Case("DoesNotRaise", "Gaussian, one arm noisier", not_raised, lambda n: World(shift=MARGIN, reference_sd=0.24)),
    Case("DoesNotRaise", "bimodal", not_raised, lambda n: World(turning=excluded_share(n))),
    Case("DoesNotRaise", "bimodal, small noise", not_raised, lambda n: World(0, 0.01, 0.01, excluded_share(n), 0.4)),
    Case("Lowers", "Gaussian", lowered, lambda n: World()),
    Case("Lowers", "Gaussian, one arm noisier", lowered, lambda n: World(sd=0.24)),
    Case("Lowers", "bimodal", lowered, lambda n: World(turning=excluded_share(n))),
    Case("DoesNotLower", "Gaussian", not_lowered, lambda n: World(shift=-MARGIN, level=0.6)),
    Case("DoesNotLower", "bimodal", not_lowered, lambda n: World(turning=excluded_share(n), jump=-0.6, level=0.6)),
    Case("Differs", "Gaussian", different, lambda n: World()),
    Case("Differs", "Gaussian, one arm noisier", different, lambda n: World(sd=0.24)),
    Case("DoesNotDiffer", "Gaussian", same, lambda n: World(shift=MARGIN)),
    Case("DoesNotDiffer", "bimodal", same, lambda n: World(turning=excluded_share(n))),
)
"""Raises under bimodal drift is no error: a catastrophe is a rise."""
POWERS: Final[tuple[tuple[str, Kind, Rule, World], ...]] = (
    ("Raises", "effect", raised, World(shift=MARGIN)),
    ("DoesNotRaise", "absence", not_raised, World()),
    ("Differs", "difference", different, World(shift=MARGIN)),
    ("DoesNotDiffer", "sameness", same, World()),
)
SPREADS: Final = (0.03, 0.06, 0.1)


LOOKS: Final = (8, 12, 24)
SEQUENTIAL: Final[tuple[tuple[str, str, Rule, Rule, World], ...]] = (
    ("Raises", "no effect", raised, not_raised, World(sd=0.24)),
    ("Raises", "a rise of the margin", raised, not_raised, World(shift=MARGIN)),
    ("DoesNotRaise", "a rise of the margin", not_raised, raised, World(shift=MARGIN)),
    ("DoesNotRaise", "a share that look 2 excludes", not_raised, raised, World(turning=excluded_share(12, 0.00535))),
    ("DoesNotRaise", "a share that look 3 excludes", not_raised, raised, World(turning=excluded_share(24, 0.0482))),
    ("DoesNotRaise", "no effect", not_raised, raised, World()),
)
"""Claim, what is the case, when it is supported, when it is contradicted, and where outcomes come from."""


def in_steps(supported: Rule, contradicted: Rule, world: World, draws: int, seed: int = 0) -> tuple[float, float]:
    """How often a claim is supported at one of the looks, none before having decided it; and the mean replicates.

    Under bimodal drift only support at a look that excludes this share of catastrophes counts: an earlier one, which
    excludes larger shares alone, says nothing false.
    """
    own, reference, kin = world.studies(LOOKS[-1], draws, seed)
    open_, hits, used = np.ones(draws, dtype=bool), 0, 0
    for look, alpha in zip(LOOKS, levels(LOOKS), strict=True):
        now = own[:, :look], reference[:, :look], kin[:look]
        found = supported(*now, alpha=alpha)
        if not world.turning or excluded_share(look, alpha) <= world.turning + 1e-3:
            hits += int((open_ & found).sum())
        stop = open_ & (found | contradicted(*now, alpha=alpha) | (look == LOOKS[-1]))
        used += look * int(stop.sum())
        open_ &= ~stop
    return hits / draws, used / draws


def sequential(draws: int, seed: int = 0) -> Iterator[tuple[str, str, float, float]]:
    """Claim, what is the case, how often it is supported, and after how many replicates the study ends."""
    for claim, case, supported, contradicted, world in SEQUENTIAL:
        yield claim, case, *in_steps(supported, contradicted, world, draws, seed)


def errors(draws: int, seed: int = 0) -> Iterator[tuple[Case, int, float]]:
    """Case, n, and how often the claim is supported although it is false."""
    for case in NULLS:
        for n in SIZES:
            yield case, n, float(case.rule(*case.world(n).studies(n, draws, seed)).mean())


def coverage(draws: int, seed: int = 0) -> Iterator[tuple[str, int, float]]:
    """Drift, n, and how often a 90% interval holds the true difference."""
    worlds = {
        "Gaussian": World(shift=MARGIN),
        "Gaussian, one arm noisier": World(shift=MARGIN, sd=0.24),
        "bimodal, half turn": World(turning=0.5),
    }
    for name, world in worlds.items():
        for n in SIZES:
            truth = world.shift + world.turning * world.jump
            yield name, n, float(covered(*world.studies(n, draws, seed), truth).mean())


def power(draws: int, seed: int = 0) -> Iterator[tuple[str, float, int, float, float]]:
    """Claim, SD, n, the power that is printed, and how often simulated studies support the claim."""
    for claim, kind, rule, world in POWERS:
        for sd in SPREADS:
            question = Question(kind, (1.0, -1.0), (sd, sd), MARGIN, ALPHA, len(SUBJECTS))
            for n in SIZES:
                own = replace(world, sd=sd, reference_sd=sd)
                yield claim, sd, n, question.at(n), float(rule(*own.studies(n, draws, seed)).mean())


def document(draws: int = 20_000) -> str:
    """The tables of docs/statistics.md."""
    rows = {(case.claim, case.drift): [] for case in NULLS}  # type: dict[tuple[str, str], list[float]]
    for case, _, share in errors(draws):
        rows[case.claim, case.drift].append(share)
    covers: dict[str, list[float]] = {}
    for drift, _, share in coverage(draws):
        covers.setdefault(drift, []).append(share)
    powers: dict[tuple[str, float], list[str]] = {}
    for claim, sd, _, printed, found in power(draws):
        powers.setdefault((claim, sd), []).append(f"{printed:.2f} / {found:.2f}")
    sizes = [f"n = {n}" for n in SIZES]
    steps = [(claim, case, _share(share), f"{n:.1f}") for claim, case, share, n in sequential(draws)]
    return "\n\n".join(
        [
            _table(("claim", "drift", *sizes), [(*key, *map(_share, found)) for key, found in rows.items()]),
            _table(("drift", *sizes), [(key, *map(_share, found)) for key, found in covers.items()]),
            _table(("claim", "SD", *sizes), [(c, f"{sd:g}", *found) for (c, sd), found in powers.items()]),
            _table(("claim", "what is the case", "supported", "mean replicates"), steps),
        ]
    )


def _share(value: float) -> str:
    return f"{value:.3f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    say(document(), whole=True)
