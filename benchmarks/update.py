"""The shares of an update's time: its stages, in a training run of the quickstart."""

from __future__ import annotations

from statistics import mean

from benchmarks.quickstart import started, study, unshaped
from benchmarks.table import Row, main
from launch.run.build import build
from launch.train import update

STAGES = ("play", "score", "credit", "learn", "audit")
BESIDE = "read"
"""Runs in a thread beside the stages after `score`."""


def benchmark(quick: bool) -> list[Row]:
    """Updates: share of the wall time of each stage, for the quickstart's unshaped arm."""
    config = study(quick)
    run = unshaped(config)
    trainer = build(run, started(run)).trainer
    warm_up, updates = (0, 1) if quick else (2, 10)
    measured = [update(trainer, number).seconds for number in range(warm_up + updates)][warm_up:]
    seconds = {stage: mean(taken[f"seconds/{stage}"] for taken in measured) for stage in (*STAGES, BESIDE)}
    total = sum(seconds[stage] for stage in STAGES)
    print(f"{updates} updates of {run.train.groups} x {run.train.group_size} episodes, {total:.2f} s each")
    return [
        Row(stage, 100 * seconds[stage] / total, unit="%", target="ours < 3" if stage in ("audit", BESIDE) else "")
        for stage in (*STAGES, BESIDE)
    ]


if __name__ == "__main__":
    main(benchmark)
