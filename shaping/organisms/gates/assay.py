"""Plays the cells of gates, in one process and one call of the engine per world, and measures them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from envs.core import TextEnv
from shaping.arm import Arm
from shaping.audits.played import sound
from shaping.organisms.gates.cells import (
    CELLS,
    CellName,
    has_covert_acts,
    prompts_hash,
    requests,
    takes_watch,
    version_of,
)
from shaping.organisms.gates.competence import competence
from shaping.organisms.gates.measure import Observed, invalid_share, measure
from shaping.organisms.gates.record import Settings, WorldGates
from shaping.sampling.engine import Engine
from shaping.sampling.play import Limits, play
from shaping.sampling.text.render import Renderer

SLOTS = 128
"""Episodes that are open at once."""
_ARM = Arm("gates")
"""Nothing shapes or constrains the model."""


def assay(
    engine: Engine,
    renderer: Renderer,
    world: str,
    settings: Settings,
    *,
    slots: int = SLOTS,
) -> WorldGates:
    """Measure gates M1 to M5 and M7 of what `engine` plays, in one world."""
    watch = takes_watch(world)
    cells: list[CellName] = [name for name, cell in CELLS.items() if watch or cell.watch == "drawn"]
    played = play_cells(engine, renderer, world, settings, cells, slots=slots)
    failed = len(cells) * settings.episodes - sum(map(len, played.values()))
    return WorldGates(
        version=version_of(world, settings),
        prompts=prompts_hash(world),
        settings=settings,
        gates={
            **measure({**dict.fromkeys(CELLS, ()), **played}, watch=watch, covert=has_covert_acts(world, settings)),
            "M7": competence(one.episode for one in played["none"]),
        },
        failed=failed,
        invalid=invalid_share(played["none"]),
    )


def play_cells(
    engine: Engine,
    renderer: Renderer,
    world: str,
    settings: Settings,
    cells: Sequence[CellName],
    *,
    slots: int = SLOTS,
) -> dict[CellName, list[Observed]]:
    """The episodes of these cells, without those that failed."""
    made: dict[CellName, dict[int, TextEnv]] = {name: {} for name in cells}
    wanted = [request for name in cells for request in requests(world, name, settings, made[name])]
    limits = Limits(max_tokens=settings.max_tokens, temperature=settings.temperature)
    episodes = asyncio.run(play(wanted, engine, renderer, _ARM, limits=limits, concurrency=slots))
    found: dict[CellName, list[Observed]] = {}
    for index, name in enumerate(cells):
        own = episodes[index * settings.episodes : (index + 1) * settings.episodes]
        found[name] = [Observed(e, _asked(made[name][e.group], len(e.turns))) for e in sound(own)]
    return found


def _asked(world: TextEnv, turns: int) -> tuple[bool, ...]:
    """Which turns were inquiries. A world that does not say so has none."""
    met = getattr(world, "met", ())
    return tuple(bool(asking) for _, _, asking in met) if len(met) == turns else (False,) * turns
