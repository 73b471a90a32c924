"""The shares of an update's time: play, score, learn and audit, in a training run of the quickstart."""

from __future__ import annotations

from statistics import mean

from benchmarks.quickstart import organism, study, unshaped
from benchmarks.table import Row, main
from launch.run.trainer import Trainer

STAGES = ("play", "score", "learn", "audit")


def benchmark(quick: bool) -> list[Row]:
    """Updates: share of the wall time of play, score, learn and audit, for the quickstart's unshaped arm."""
    config = study(quick)
    run = unshaped(config)
    trainer = Trainer(run, organism(config.model.organism))
    warm_up, updates = (0, 1) if quick else (2, 10)
    measured = [trainer.update(update).seconds for update in range(warm_up + updates)][warm_up:]
    seconds = {stage: mean(taken[f"seconds/{stage}"] for taken in measured) for stage in STAGES}
    total = sum(seconds.values())
    print(f"{updates} updates of {run.train.groups} x {run.train.group_size} episodes, {total:.2f} s each")
    return [
        Row(stage, 100 * seconds[stage] / total, unit="%", target="ours < 3" if stage == "audit" else "")
        for stage in STAGES
    ]


if __name__ == "__main__":
    main(benchmark)
