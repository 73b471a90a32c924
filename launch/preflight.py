"""What is checked before anything starts: every plug-in of a study builds and keeps its contract."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from envs import WORLDS
from launch.config.compatibility import check_rollout
from launch.config.plugins import PluginError, build_arm, build_monitors, build_reward, build_world
from launch.config.study import RunConfig
from launch.errors import UserError
from launch.run.monitors import check_held_out
from launch.tracking.tracking import check_tracking

PATIENCE = 60.0
"""Seconds that the checks of one world of your own may take."""


def check_plugins(runs: Iterable[RunConfig]) -> None:
    """Build every arm, reward and world once; put worlds that are not built in through `envs.check.check_env`."""
    arms: set[str] = set()
    worlds: set[str] = set()
    for run in runs:
        if (key := f"{run.arm} {run.arm_config.model_dump_json()} {run.rollout!r} {run.learner.lora!r}") not in arms:
            arms.add(key)
            monitors = build_monitors(run.eval)  # first: isolated plug-ins name those that they read
            arm = build_arm(run.arm, run.arm_config, run.isolation)
            check_rollout(run, arm)
            reward = build_reward(run.arm, run.arm_config, run.isolation)
            check_held_out(monitors, [arm, reward])
            check_tracking(run)
        for where, named in (("train.worlds", run.train.worlds), ("eval.worlds", run.eval.worlds)):
            for name, options in named.items():
                if (key := f"{where} {name} {options!r}") not in worlds:
                    worlds.add(key)
                    _check_world(name, options, where)


def _check_world(name: str, options: Mapping[str, Any], where: str) -> None:
    build_world(name, options, where).close()
    if name.partition("@")[0] in WORLDS:
        return
    from envs.check import WorldContractError, check_env, require

    def judge() -> None:
        verdicts = check_env(lambda: build_world(name, options, where), seeds=(0, 1))
        require([verdict for verdict in verdicts if verdict.rule != "speed"])  # slow is allowed

    try:
        run_within(PATIENCE, judge)
    except UserError:
        raise
    except TimeoutError:
        raise PluginError(f"{where}.{name}: no end of its checks after {PATIENCE:.0f} s: does step() hang?") from None
    except WorldContractError as error:
        raise PluginError(f"{where}.{name}: {error}; `envs.check.check_env` shows each rule") from error
    except Exception as error:
        raise PluginError(f"{where}.{name}: the world raised {type(error).__name__}: {error}") from error


def run_within(seconds: float, call: Callable[[], None]) -> None:
    """Run `call` in a thread that is left behind if it hangs. Raises what it raises, or `TimeoutError`."""
    raised: list[BaseException] = []

    def body() -> None:
        try:
            call()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError
    if raised:
        raise raised[0]
