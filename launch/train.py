"""The training loop. It builds nothing: `launch.run.build` makes its parts, and `launch.run.execute` calls it.

Update n, with the policy of version v:

    play --> score --> refill --> credit --> learn --> adapt --> sync --> audit --> row --> checkpoint
                          |                                                          ^
                          `--> read (in a thread of its own) ------------------------'

Synchronous (`rollout.max_staleness: 0`). Workers play the groups of update n; then they wait for the next ones.

    stage       consumes                        waits for                   unblocked by
    play        `train.groups` finished groups  the slowest of the groups   workers, which the last sync gave version v
    score       episodes of whole groups        play                        -
    read        the same episodes, redacted     refill                      - (the row waits for it; no stage does)
    refill      groups that teach nothing       score                       extra groups (none without `train.refill`)
    follow      alarms that decide (drop, ...)  read, if there are such     - (nothing without `eval.alarms`)
    credit      episodes, rewards               refill                      - (ppo: the critic's values, by the learner)
    learn       samples: per-token streams      credit                      the slowest learner rank
    adapt       episodes, credit, metrics       learn                       - (interventions change their state)
    sync        weights of version v + 1        adapt                       the slowest worker to take them
    audit       episodes, credit                sync                        -
    row         the metrics of all stages       audit, read                 -
    checkpoint  all state, every few updates    row                         the disk; then update n + 1 is submitted

Asynchronous (`rollout.max_staleness: s`). Workers do not wait: up to `train.groups * (1 + s)` groups are being played
or are finished and not yet learned from. What differs:

    play        the first `train.groups` that   any group to finish         workers; each group that is taken lets the
                are no older than v - s; older                              next be submitted
                ones are counted as stale
    sync        weights of version v + 1        learn                       as above; groups under way go on with them
    all others  as above                        as above; workers play on   as above
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from envs.episode import Episode
from launch.run.evaluation.alarms import AlarmHalt
from launch.run.pace.refill import refill
from launch.run.pace.stop import RewardStop
from launch.run.stages import adapt, audit, credit, follow, play, score
from launch.run.timing import timed
from launch.run.trainer import Trainer
from launch.storage.resume import log_to_stderr, save
from launch.storage.rundir import RunDirectory
from shaping.audits.row import Row
from shaping.audits.training.gauge import Streaks
from shaping.monitors.records import MonitorRecord


@dataclass(frozen=True, slots=True)
class Updated:
    """The result of one update."""

    number: int
    """0-based."""
    row: dict[str, Any]
    """Its line of metrics.jsonl."""
    episodes: list[Episode]
    """The episodes that were learned from."""
    seconds: dict[str, float]
    """Wall seconds of its stages: its line of timings.jsonl."""
    records: list[MonitorRecord] = field(default_factory=list)
    """What monitors suspected."""
    alarmed: list[Episode] = field(default_factory=list)
    """The episodes that raised an alarm, of which some are kept."""


def train(
    trainer: Trainer,
    directory: RunDirectory,
    first: int,
    notes: Mapping[str, Any],
    watchers: Sequence[Callable[[Updated], None]] = (),
    measure: Callable[[int], Mapping[str, float]] = lambda number: {},
    step: Callable[[Trainer, int], Updated] | None = None,
) -> int:
    """All updates from number `first` on. `notes` are saved with every training state; `watchers` see each update.

    `measure` is called after each update with its number, and gives further columns of its row. `step` is one update;
    none: that of reinforcement learning, and stages on given answers have another (`launch.run.finetuning`).

    Returns the number of updates that the run has had: fewer than `train.updates` if it reached
    `train.stop_at_reward`, or a monitor's alarm halted it.
    """
    config = trainer.run.train
    before = directory.rows() if first else []
    stop, streaks = RewardStop(config, before), Streaks(before)
    halt = AlarmHalt(trainer.run.eval.alarms, before)
    number = first
    while number < config.updates and not (stop.reached or halt.reached):
        done = (step or update)(trainer, number)
        with timed(done.seconds, "evaluate"):
            done.row.update(measure(number))
        done.row.update(streaks.see(done.row))
        stop.see(done.row)
        halt.see(done.row)
        last = stop.reached or halt.reached or number == config.updates - 1
        directory.metrics(done.row)
        _keep(trainer, directory, done, episodes=last or _is_due(number, config.save_episodes_every))
        number += 1
        if _is_due(number, config.checkpoint_every) or (last and config.checkpoint_every):
            with timed(done.seconds, "checkpoint"):
                save(trainer, directory, trainer.run, number, notes)
        directory.timings({"phase": "train", "update": done.number, **done.seconds})
        for watch in watchers:
            watch(done)
    if halt.reached:
        log_to_stderr(f"training ends after {number} of {config.updates} updates (eval.alarms.then: halt): {halt.why}")
    if number < config.updates:
        trainer.stop_early(number)
    return number


def _keep(trainer: Trainer, directory: RunDirectory, done: Updated, *, episodes: bool) -> None:
    """Write an update's episodes if they are due, and what monitors said of it: then, and if there was an alarm."""
    alarms = trainer.run.eval.alarms
    if episodes:
        directory.episodes(f"train-{done.number:06d}", done.episodes)
    if alarms and alarms.keep and done.alarmed:
        directory.episodes(f"alarms-{done.number:06d}", done.alarmed[: alarms.keep])
    if done.records and (episodes or done.alarmed):
        directory.records(f"train-{done.number:06d}", done.records)


def update(trainer: Trainer, number: int) -> Updated:
    """One pass through the stages. With `rollout.max_staleness`, workers play on meanwhile."""
    row = Row("the trainer", {"phase": "train", "update": number})
    seconds: dict[str, float] = {}
    if not trainer.synced:
        trainer.sync()
    with timed(seconds, "play"):
        episodes, counts = play(trainer, number)
    with timed(seconds, "score"):
        rewards = score(trainer, episodes)
    with timed(seconds, "refill"):
        episodes, rewards = refill(trainer, number, episodes, rewards, counts)
    reading = trainer.monitors.start(episodes)
    with timed(seconds, "follow"):
        episodes, rewards = follow(trainer, number, reading, episodes, rewards, counts)
    with timed(seconds, "credit"):
        credited = credit(trainer, episodes, rewards, counts)
        episodes = list(credited.episodes)
    with timed(seconds, "learn"):
        learned = trainer.learner.update(credited.samples)
    with timed(seconds, "adapt"):
        told = adapt(trainer, number, episodes, credited, learned)
    with timed(seconds, "sync"):
        trainer.sync()
    with timed(seconds, "audit"):
        audited = audit(episodes, credited, told)
    read = trainer.monitors.finish(reading, seconds)
    for source, columns in (
        ("the trainer", counts),
        ("the learner", learned),
        ("the audit", audited),
        ("a monitor", read),
    ):
        row.add(source, columns)
    return Updated(number, row, episodes, seconds, reading.records, reading.alarmed)


def _is_due(number: int, every: int) -> bool:
    return every > 0 and number % every == 0
