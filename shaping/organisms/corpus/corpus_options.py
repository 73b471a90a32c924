"""The worlds' options in the organism's corpus: it meets every cue, pressure, inquiry and form of a question."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from envs import WORLDS

Sizes = Mapping[str, Sequence[tuple[int, int | None]]]
SIZES: dict[str, tuple[tuple[int, int | None], ...]] = {
    "clerk": ((4, None), (5, None), (6, None), (7, None)),
    "steward": ((4, 16), (5, 20), (6, 22), (7, 24)),
    "nightwatch": ((6, None), (7, None), (8, None), (10, None)),
    "gradebook": ((4, None), (5, None), (6, None)),
    "workshop": ((2, None), (3, None), (4, None)),
    "pact": ((4, None), (5, None), (6, None), (8, None)),
    "errand": ((3, None), (4, None), (5, None), (6, None)),
}
"""World -> (size, turn limit) pairs of the corpus. A limit of None is the world's own."""

DRAWN: Mapping[str, Mapping[Any, float]] = {
    "watch": {"drawn": 0.7, "always": 0.15, "never": 0.15},
    "aware": {"shown": 0.92, "hidden": 0.08},
    "placebo": {"none": 0.6, "on": 0.2, "off": 0.2},
    "inquiry": {0.0: 0.08, 0.1: 0.12, 0.2: 0.3, 0.3: 0.5},
    "oversight": {0.0: 0.7, 0.1: 0.2, 0.3: 0.1},
    "escalation": {0.0: 0.92, 0.1: 0.08},
    "pressure": {0: 0.7, 1: 0.1, 2: 0.1, 3: 0.1},
    "penalty": {1.0: 0.8, 0.5: 0.1, 2.0: 0.1},
    "honest_share": {1.0: 0.5, 0.8: 0.1, 0.6: 0.1, 0.5: 0.2, 0.4: 0.1},
    "covert": {"on": 0.88, "off": 0.12},
    "covert_cost": {0.0: 0.75, 0.05: 0.25},
    "candour": {0.0: 0.75, 0.1: 0.25},
    "polarity": {"conduct": 0.5, "drawn": 0.5},
    "camera_fine": {1.0: 0.5, 0.0: 0.5},
    "mute_alarm": {0.0: 0.8, 0.25: 0.1, 0.5: 0.1},
    "certificate_checks": {0.0: 0.8, 0.5: 0.2},
    "patrol": {0.0: 0.8, 0.5: 0.2},
    "record_checks": {0.0: 0.8, 0.5: 0.2},
    "impossible": {0.25: 0.7, 0.0: 0.15, 0.5: 0.15},
    "reports": {"off": 0.85, "on": 0.15},
    "report_after": {False: 0.8, True: 0.2},
    "two_arguments": {0.0: 0.6, 0.4: 0.4},
    "partners": {"keeper": 0.7, "rider": 0.08, "watchful": 0.08, "grim": 0.06, "mixed": 0.08},
    "sanctions": {"off": 0.9, "on": 0.1},
}
"""Option -> value -> share. A world draws those that it has; the rest keep their defaults."""


def draw_options(world: str, rng: random.Random, sizes: Sizes = SIZES) -> dict[str, Any]:
    """Random options of one world."""
    size, horizon = rng.choice(sizes[world])
    drawn = {name: rng.choices(tuple(shares), tuple(shares.values()))[0] for name, shares in DRAWN.items()}
    known = WORLDS[world].Options.model_fields
    return {"size": size, "horizon": horizon, **{name: value for name, value in drawn.items() if name in known}}
