"""The picture of one update: its stages, what passes between them, and the hooks that each stage calls.

The hooks are read from the table in the docstring of `shaping.intervention`; whose they are, from the classes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import shaping.intervention
from docs.pictures.svg import CONSTRAINT, FAINT, PLUGIN, SHAPER, arrow, box, dot, lines, picture, text, wrapped
from shaping.intervention import Constraint, Intervention

WIDTH, TALL, GAP, MARGIN, CHANNEL = 232, 226, 34, 18, 74
TOP, LOWER = 56, 56 + TALL + CHANNEL


@dataclass(frozen=True)
class Stage:
    """A box of the picture: its name in the loop, what happens, and where it stands (column, row)."""

    name: str
    what: str
    column: int
    row: int
    plugins: tuple[str, ...] = ()
    """What other plug-ins than interventions are asked."""


STAGES = (
    Stage("play", "groups of episodes are sampled in a world, turn by turn", 0, 0, ("TextEnv.step",)),
    Stage("score", "each turn is paid; the labels of what was true stay sealed", 1, 0, ("Reward.score",)),
    Stage("read", "monitors say what they suspect; readings go to metrics alone", 2, 0, ("Monitor.read",)),
    Stage("credit", "advantages of returns, less weighted costs, per group", 3, 0),
    Stage("learn", "the loss on log-probs of what was sampled, under the training context", 3, 1),
    Stage("adapt", "interventions see what came of the update, and change their state", 2, 1),
    Stage("deploy", "contexts, edits and quarantine adapters are dropped; then the evaluation", 1, 1),
    Stage("load", "the start model gets the arm's adapters", 0, 1),
)


NO_HOOKS = {"control_fields", "readings", "state_dict", "load_state_dict", "cost_group"}
"""Methods that no stage calls as its step: those of controls, logs and checkpoints, and a form of `cost`."""


def hooks() -> dict[str, list[str]]:
    """Stage -> the hooks that it calls, as the docstring of `shaping.intervention` lists them."""
    rows = re.findall(r"^    (\w+) {2,}(\w.*)$", shaping.intervention.__doc__ or "", re.MULTILINE)
    found = {stage: re.findall(r"\w+(?=[,(\n]|$)", re.sub(r'\("\w+"\)', "", names)) for stage, names in rows}
    if unknown := {name for names in found.values() for name in names if not hasattr(Constraint, name)}:
        raise ValueError(f"the docstring of shaping/intervention.py lists hooks that are none: {sorted(unknown)}")
    listed = {name for names in found.values() for name in names}
    if untold := _methods() - listed - NO_HOOKS:
        raise ValueError(f"the docstring of shaping/intervention.py does not say when {sorted(untold)} are called")
    if unplaced := found.keys() - {stage.name for stage in STAGES}:
        raise ValueError(f"docs/pictures/update.py has no place for the stages {sorted(unplaced)}")
    return found


def _methods() -> set[str]:
    """The public methods of interventions."""
    own = {**vars(Intervention), **vars(Constraint)}
    return {name for name, value in own.items() if callable(value) and not name.startswith(("_", "model_"))}


def draw() -> str:
    """The picture as SVG."""
    called = hooks()
    parts = _legend()
    for stage in STAGES:
        parts += _stage(stage, called.get(stage.name, []))
    parts += _flow()
    return picture(MARGIN * 2 + WIDTH * 4 + GAP * 3, LOWER + TALL + 18, "One update, stage by stage", parts)


def _left(column: int) -> float:
    return MARGIN + column * (WIDTH + GAP)


def _legend() -> list[str]:
    told = (
        (SHAPER, "hook of every intervention"),
        (CONSTRAINT, "of constraints alone: shapers may not"),
        (PLUGIN, "other plug-in"),
    )
    parts, x = [], float(MARGIN + 4)
    for colour, said in told:
        parts += [dot(x + 4, 27, colour), text(x + 14, 32, said, size=13.5, fill=FAINT)]
        x += 40 + 7 * len(said)
    return parts


def _stage(stage: Stage, names: list[str]) -> list[str]:
    x, y = _left(stage.column), (TOP, LOWER)[stage.row]
    what = wrapped(stage.what, 31)
    parts = [box(x, y, WIDTH, TALL), text(x + 12, y + 24, stage.name, size=16, style="bold")]
    parts += lines(x + 12, y + 45, what, step=17, size=13, fill=FAINT)
    y += 45 + 17 * len(what) + 6
    everyone = set(dir(Intervention))
    marked = [(name, SHAPER if name in everyone else CONSTRAINT) for name in names]
    for n, (name, colour) in enumerate([*((name, PLUGIN) for name in stage.plugins), *marked]):
        parts += [dot(x + 17, y + 18 * n - 4, colour), text(x + 28, y + 18 * n, name, size=13, mono=True)]
    return parts


def _flow() -> list[str]:
    middle = TOP + TALL / 2
    parts = [arrow((_left(n) + WIDTH, middle), (_left(n + 1) - 3, middle)) for n in range(3)]
    right, lower = _left(3) + WIDTH / 2, LOWER + TALL / 2
    parts += [arrow((right, TOP + TALL), (right, LOWER - 3))]
    parts += [text(right - 12 - 7 * 21, LOWER - 30, "advantages and costs", size=13, fill=FAINT)]
    parts += [
        arrow((_left(3), lower), (_left(2) + WIDTH + 3, lower)),
        arrow((_left(2), lower), (_left(1) + WIDTH + 3, lower)),
    ]
    start, stop, turn = _left(2) + WIDTH / 2, _left(0) + WIDTH * 0.62, TOP + TALL + 30
    parts += [arrow((start, LOWER), (start, turn), (stop, turn), (stop, TOP + TALL + 3))]
    said = "the next update: new weights, stamped with a version, and the state of interventions"
    parts += lines(stop + 14, turn + 19, wrapped(said, 48), step=17, size=13, fill=FAINT)
    begin = _left(0) + WIDTH * 0.3
    parts += [arrow((begin, LOWER), (begin, TOP + TALL + 3))]
    return parts
