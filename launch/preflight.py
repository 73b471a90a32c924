"""What is checked before anything starts: every plug-in of a study builds and keeps its contract."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from envs import SURVEYS, WORLDS
from envs.limits import NoAnswerError
from envs.text import message_of
from launch.config.compatibility import check_rollout
from launch.config.model import HubModel, OrganismModel
from launch.config.plugins import (
    REWARD,
    SECTION,
    PluginError,
    build_arm,
    build_monitors,
    build_reward,
    build_splitter,
    build_world,
    builtins,
    find_class,
    installed,
)
from launch.config.reading.paths import expanded
from launch.config.study import RunConfig, StudyConfig
from launch.config.world_names import check_names
from launch.errors import ConfigError, UserError
from launch.hub.pins import read_pins
from launch.met_worlds import check_met
from launch.preference.stage import preference_stage
from launch.run.evaluation.alarms import trained_against
from launch.run.evaluation.conditions import eval_cells
from launch.run.evaluation.monitors import check_held_out
from launch.run.finetuning.data import check_data
from launch.run.rehearsal import rehearse
from launch.tracking.tracking import check_tracking
from shaping.audits.metrics import MetricError, all_metrics
from shaping.sampling.watchdog import watched

if TYPE_CHECKING:
    from launch.distributed.local import RaySettings
    from shaping.audits.pressure.index import Pressure

PATIENCE = 60.0
"""Seconds that the checks of one world of your own may take."""


def check_study(study: StudyConfig) -> None:
    """Everything that a study needs after its runs have started, too: the same for a dry run and for the study itself.

    Raises `UserError` for the first part that does not build.
    """
    try:
        all_metrics()
    except MetricError as error:
        raise PluginError(f"metrics: {error}") from error
    for name in () if study.report.sections else installed(SECTION):  # sections that a study lists are loaded with it
        find_class(name, SECTION)
    runs = study.runs()
    check_met(runs)
    if models := {run.model for run in runs if not isinstance(run.model, OrganismModel)}:
        from launch.run.models.start_model import check_model  # imports torch, which other checks do not need

        pins = read_pins(expanded(study.output) / study.name)
        for model in sorted(models, key=str):
            check_model(model, pins)
    check_plugins(runs)
    if any(isinstance(run.model, str | HubModel) for run in runs):
        from launch.run.rendering import check_templates

        check_templates(runs)


def pressure_lines(runs: Iterable[RunConfig]) -> list[str]:
    """A table: what deception can gain in each world under each arm and point of the axes, before any training.

    Runs that train preference models play no world, and are left out; empty without others.
    """
    from launch.run.evaluation.pressure import gauge

    points = {run.point_name: run for run in runs if preference_stage(run.stages) is None}
    rows = [
        (name, key, *_pressure_cells(pressure))
        for name, run in points.items()
        for key, pressure in gauge().of_run(run).items()
    ]
    if not rows:
        return []
    head = ("arm", "world", "pressure", "best deceptive policy", "best other policy")
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head) - 1)]
    return ["  ".join([*map(str.ljust, row, widths), row[-1]]).rstrip() for row in [head, *rows]]


def _pressure_cells(pressure: Pressure) -> tuple[str, str, str]:
    """(the index and its standard error, the best deceptive policy, the best other one), or why it is unknown."""
    if pressure.index is None:
        return "unknown", "", pressure.unknown
    net = {policy.name: f"{policy.name} {policy.net.mean():.2f}" for policy in pressure.policies}
    spread = "" if pressure.error is None else f" +- {pressure.error:.2f}"
    return f"{pressure.index:+.2f}{spread}", net[pressure.deceptive], net[pressure.other]


def check_machine(study: StudyConfig, cluster: RaySettings | None) -> None:
    """Raise `UserError` if the Ray that a study needs cannot start here, has no room for a run, or does not answer."""
    runs = study.runs()
    if missing := missing_parts(runs):
        raise ConfigError("\n".join(missing))
    alone = [not run.rollout.workers and run.train.learner_group.strategy == "none" for run in runs]
    if cluster is None and all(alone):
        from launch.run.device import local_device  # imports torch

        for device in {run.train.device for run in runs}:
            local_device(device)
        return
    from launch.distributed.needs import check_room, this_machine
    from launch.distributed.ray_folder import check_ray_folder
    from launch.distributed.reachable import VARIABLE, check_reachable

    if numbered := next((run.train.device for run in runs if ":" in run.train.device), ""):
        raise ConfigError(f"train.device is {numbered}, but Ray chooses the GPUs of its processes: set it to cuda")
    if address := cluster.address if cluster else os.environ.get(VARIABLE):
        check_reachable(address)
    else:
        check_ray_folder()
        check_room(runs, this_machine(cluster.cpus if cluster else None), own_cpus=1.0 if cluster else 0.0)


def missing_parts(runs: Iterable[RunConfig]) -> list[str]:
    """What the built-in rewards of arms need on this machine and do not find, a line each (`Reward.lacking`)."""
    own = {run.arm: run for run in runs if run.arm_config.reward.use in builtins(REWARD)}
    lines = [(arm, build_reward(arm, run.arm_config, run.isolation).lacking()) for arm, run in own.items()]
    return [f"arms.{arm}.reward: {lacking}" for arm, lacking in lines if lacking]


def check_plugins(runs: Iterable[RunConfig]) -> None:
    """Build every arm, reward and world once; put worlds that are not built in through `envs.check.check_env`."""
    arms: set[str] = set()
    worlds: set[str] = set()
    for run in runs:
        if (key := f"{run.arm} {run.arm_config.model_dump_json()} {run.rollout!r} {run.learner!r}") not in arms:
            arms.add(key)
            monitors = build_monitors(run.eval)  # first: isolated plug-ins name those that they read
            arm = build_arm(run.arm, run.arm_config, run.isolation, run.learner.ratio, run.seats)
            check_rollout(run, arm)
            build_splitter(run.rollout.splitter)
            reward = build_reward(run.arm, run.arm_config, run.isolation)
            check_held_out(monitors, [arm, reward, *trained_against(run.eval.alarms, monitors)])
            check_tracking(run)
        for where, name, options in _worlds(run):
            if (key := f"{where} {name} {options!r}") not in worlds:
                worlds.add(key)
                rehearse(name, options, where, run.train.step_timeout)
        if run.stages and (key := f"the stages {run.stages!r} of {run.arm_config!r}") not in arms:
            arms.add(key)
            check_data(run)
        if (key := f"the names of {run.eval!r} {run.train.worlds!r}") not in worlds:
            worlds.add(key)
            check_names(run)
        for where, named in (("train.worlds", run.train.worlds), ("eval.worlds", run.eval.worlds)):
            for name, options in named.items():
                if (key := f"the contract of {where} {name} {options!r}") not in worlds:
                    worlds.add(key)
                    _check_contract(name, options, where)


def _worlds(run: RunConfig) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """(dotted key, name, options) of every world that is trained in, and of every cell that is evaluated."""
    for name, options in run.train.worlds.items():
        yield "train.worlds", name, options
    for cell in eval_cells(run):
        yield cell.where, cell.world, cell.options


def _check_contract(name: str, options: Mapping[str, Any], where: str) -> None:
    if name.partition("@")[0] in (*WORLDS, *SURVEYS):
        return
    from envs.check import ADVICE, WorldContractError, check_env, require

    def judge() -> None:
        verdicts = check_env(lambda: build_world(name, options, where), seeds=(0, 1))
        require([verdict for verdict in verdicts if verdict.rule not in ADVICE])

    try:
        watched(f"{where}.{name}: its checks", PATIENCE, judge)
    except (UserError, KeyboardInterrupt):
        raise
    except NoAnswerError:
        raise PluginError(f"{where}.{name}: no end of its checks after {PATIENCE:.0f} s: does step() hang?") from None
    except WorldContractError as error:
        raise PluginError(f"{where}.{name}: {error}; `envs.check.check_env` shows each rule") from error
    except BaseException as error:
        raise PluginError(f"{where}.{name}: the world raised {type(error).__name__}: {message_of(error)}") from error
