"""What `shaping study --dry-run` prints."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from envs.escaping import on_one_line
from launch.terminal import say

if TYPE_CHECKING:
    from launch.config.study import RunConfig, StudyConfig


def print_plan(config: StudyConfig, only: list[str], seeds: list[int]) -> None:
    """Check the study and print its resolved config, its runs, the pressure in them, and the gates of its subjects."""
    from launch.check_model.known import plan_lines
    from launch.config.arms.controls import control_lines
    from launch.config.loading import to_yaml
    from launch.config.model import idle_organisms
    from launch.config.reading.paths import expanded
    from launch.estimate.estimate import time_lines
    from launch.met_worlds import notes_on_worlds
    from launch.preflight import check_study, missing_parts, pressure_lines
    from launch.run.models.start_model import chosen_folder
    from launch.study import select

    runs = select(config, only, seeds)
    check_study(config)
    say(to_yaml(config), whole=True)
    if idle := idle_organisms(config.model, config.seed_list):
        say(f"# note: {idle}")
    say(on_one_line(f"# {worlds_line(runs)}"))
    for line in notes_on_worlds(runs):
        say(on_one_line(f"# note: {line}"))
    for line in dict.fromkeys(filter(None, (chosen_folder(run.model) for run in runs))):
        say(on_one_line(f"# note: {line}"))
    say(f"# {len(runs)} runs in {expanded(config.output) / config.name}")
    for run in runs:
        say(f"#   {run.directory_name} from {run.subject}")
    for line in control_lines(config):
        say(on_one_line(f"# {line}"))
    for line in missing_parts(runs):
        say(on_one_line(f"# note: {line}"))
    for line in time_lines(runs, min(len(runs), os.cpu_count() or 1)):
        say(on_one_line(f"# {line}"))
    for line in plan_of_memory(runs):
        say(on_one_line(f"# {line}"))
    if lines := pressure_lines(runs):
        gains = "what deception can gain, net of prices, as a share of the largest honest return"
        say(f"# pressure: {gains} (docs/pressure.md)")
        for line in lines:
            say(on_one_line(f"#   {line}"))
    for line in plan_lines(config, runs):
        say(on_one_line(f"# {line}"))


def plan_of_memory(runs: Sequence[RunConfig]) -> list[str]:
    """What the processes of the runs will hold in memory. Raises `UserError` if that cannot fit here."""
    from launch.config.model import OrganismModel
    from launch.run.finetuning.lengths import check_lengths
    from launch.run.memory import gpu_memory, memory_lines
    from launch.run.models.preference_memory import check_all_memory, preference_line
    from launch.run.models.pretraining_memory import check_pretraining, pretraining_line
    from launch.run.models.start_model import present_model

    check_pretraining(runs)
    memory = gpu_memory()
    tables: dict[tuple[str, ...], str] = {}
    for run in {run.point_name: run for run in reversed(runs)}.values():
        if (model := present_model(run.model)) is None:
            made = f"; {pretraining_line(run.model)}" if isinstance(run.model, OrganismModel) else ""
            tables.setdefault((f"not estimated, as {run.subject} is not here yet{made}",), run.point_name)
            continue
        own = preference_line(run, model)
        tables.setdefault((own,) if own else tuple(memory_lines(run, model, memory)), run.point_name)
        check_all_memory([(run, model)], memory)
        check_lengths([(run, model)])
    lines: list[str] = []
    for (first, *rest), name in tables.items():
        lines += [f"memory{f' of {name}' if len(tables) > 1 else ''}: {first}", *(f"  {line}" for line in rest)]
    return lines


def worlds_line(runs: Sequence[RunConfig]) -> str:
    """In which words the worlds of the runs speak: prose, unless the model is an organism or the study says else."""
    names = dict.fromkeys(name for run in runs for name in (*run.train.worlds, *run.eval.worlds))
    return f"worlds, each in the words that its episodes have: {', '.join(names)}"
