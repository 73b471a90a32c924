"""What `shaping study --dry-run` prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from envs.escaping import on_one_line
from launch.terminal import say

if TYPE_CHECKING:
    from launch.config.study import RunConfig, StudyConfig


def print_plan(config: StudyConfig, only: list[str], seeds: list[int]) -> None:
    """Check the study and print its resolved config, its runs, the pressure in them, and the gates of its subjects."""
    from launch.check_model.known import plan_lines
    from launch.config.loading import to_yaml
    from launch.config.model import idle_organisms
    from launch.config.paths import expanded
    from launch.preflight import check_study, pressure_lines
    from launch.run.start_model import chosen_folder
    from launch.study import select

    runs = select(config, only, seeds)
    check_study(config)
    say(to_yaml(config), whole=True)
    if idle := idle_organisms(config.model, config.seed_list):
        say(f"# note: {idle}")
    say(on_one_line(f"# {worlds_line(runs)}"))
    for line in dict.fromkeys(filter(None, (chosen_folder(run.model) for run in runs))):
        say(on_one_line(f"# note: {line}"))
    say(f"# {len(runs)} runs in {expanded(config.output) / config.name}")
    for run in runs:
        say(f"#   {run.directory_name} from {run.subject}")
    say(
        "# pressure: what deception can gain, net of prices, as a share of the largest honest return (docs/pressure.md)"
    )
    for line in pressure_lines(runs):
        say(on_one_line(f"#   {line}"))
    for line in plan_lines(config, runs):
        say(on_one_line(f"# {line}"))


def worlds_line(runs: Sequence[RunConfig]) -> str:
    """In which words the worlds of the runs speak: prose, unless the model is an organism or the study says else."""
    names = dict.fromkeys(name for run in runs for name in (*run.train.worlds, *run.eval.worlds))
    return f"worlds, each in the words that its episodes have: {', '.join(names)}"
