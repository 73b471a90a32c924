"""`python -m launch.estimate.measure MACHINE DIRECTORY...`: times finished runs, and writes them into seconds.json.

Run it on directories that `shaping study` wrote on one machine with one core to a run, at the sizes that the studies
have. Settings that are there replace those of the same study in the table; all others stay.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from launch.config.reading.recorded import recorded_run
from launch.config.stages import RLStage
from launch.config.study import RunConfig
from launch.errors import UserError
from launch.estimate.estimate import kind_of
from launch.estimate.table import PATH, Seconds, Timed, read, write
from launch.storage.rundir import RunDirectory
from launch.terminal import say

QUARTILE = 0.25
Times = tuple[float, float]
"""(seconds of one update, seconds of all else)."""


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m launch.estimate.measure", description=__doc__)
    parser.add_argument("machine", help="what the table calls the machine, e.g. '2 cores of an AMD EPYC'")
    parser.add_argument("directories", nargs="+", type=Path, help="directories that hold finished runs")
    parser.add_argument("--table", type=Path, default=PATH)
    given = parser.parse_args(words)
    found = measured(given.directories)
    known = {(each.study, each.setting): each for each in read(given.table).timed}
    known |= {(each.study, each.setting): each for each in found}
    write(Seconds(machine=given.machine, timed=tuple(known.values())), given.table)
    say(f"{sum(each.runs for each in found)} runs of {len(found)} settings, in {given.table}")
    return 0


def measured(directories: Sequence[Path]) -> list[Timed]:
    """What the finished runs below these directories took, by setting."""
    times: dict[tuple[str, str], list[tuple[RunConfig, Times]]] = {}
    paths = {file.parent for folder in directories for file in folder.rglob("timings.jsonl")}
    for path in sorted(path for path in paths if path.parent.name != "stages"):
        for run, taken in _of_run(path):
            times.setdefault((run.study, run.point_name), []).append((run, taken))
    return [_timed(group) for group in times.values()]


def _of_run(path: Path) -> Iterator[tuple[RunConfig, Times]]:
    """The run in a directory with its times, if one process finished it from its first update."""
    directory = RunDirectory(path)
    if directory.status() != "complete":
        return
    rows = [json.loads(line) for line in (path / "timings.jsonl").read_text(encoding="utf-8").splitlines()]
    whole = [row for row in rows if row["phase"] == "run"]
    if len(whole) != 1 or whole[0].get("first_update") != 0:
        return
    try:
        run = recorded_run(directory.config())
    except UserError:  # of an older version
        return
    # Steps of a stage on rows are no updates of `train.updates`; they count among all else.
    reinforced = not run.stages or isinstance(run.stages[-1], RLStage)
    updates = [_spent(row) for row in rows if row["phase"] == "train" and reinforced]
    wall, computed = float(whole[0]["seconds"]), float(whole[0].get("seconds/cpu", math.inf))
    share = min(computed / wall, 1.0)  # the rest it waited, for a core or for other processes
    rest = max(wall - sum(updates), 0.0) + sum(_of_stage(file) for file in path.glob("stages/*/timings.jsonl"))
    yield run, (share * sum(updates) / max(len(updates), 1), share * rest)


def _of_stage(path: Path) -> float:
    """Seconds of a stage of fine-tuning before the last."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return sum(float(row["seconds"]) for row in rows if row["phase"] == "run")


def _spent(row: dict[str, Any]) -> float:
    return sum(float(value) for key, value in row.items() if key.startswith("seconds/"))


def _timed(group: Sequence[tuple[RunConfig, Times]]) -> Timed:
    run = group[0][0]
    update, other = (
        float(np.quantile(values, QUARTILE)) for values in zip(*(taken for _, taken in group), strict=True)
    )
    return Timed(
        study=run.study,
        setting=run.point_name,
        worlds=tuple(sorted(run.train.worlds)),
        model=kind_of(run),
        runs=len(group),
        updates=run.train.updates,
        episodes=run.train.groups * run.train.group_size,
        evaluated=run.eval.episodes,
        update_seconds=round(update, 3),
        other_seconds=round(other, 2),
    )


if __name__ == "__main__":
    sys.exit(main())
