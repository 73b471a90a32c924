"""The smallest size at which a study still goes through all of its parts. Its results answer nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from launch.config.loading import parse_study, written
from launch.config.study import RunConfig, StudyConfig

REPLICATES = 2
LARGEST: Mapping[str, float] = {
    r"train\.updates": 2,
    r"train\.groups": 2,
    r"train\.group_size": 2,
    r"train\.refill": 1,
    r"train\.stop_window": 1,
    r"learner\.lr_warmup": 1,
    r"learner\.critic\.warmup": 1,
    r"eval\.episodes": 1,
    r"eval\.context_episodes": 1,
    r"eval\.access_episodes": 1,
    r"eval\.best_of": 2,
    r"eval\.relearn\.samples": 4,
    r"eval\.relearn\.steps": 1,
    r"eval\.average_last": 2,
    r"seats\.games": 2,
    r"seats\.snapshots\.every": 1,
    r"seats\.snapshots\.keep": 2,
    r"stages\.\d+\.(?:data|control\.benign)\.rows": 8,
    r"stages\.\d+\.epochs": 1,
    r"stages\.\d+\.steps": 2,
    r"stages\.\d+\.batch_size": 4,
    r"stages\.\d+\.train\.updates": 2,
    r"stages\.\d+\.(?:pretraining\.data\.)?comparisons\.pairs": 8,
    r"stages\.\d+\.held_out": 8,
    r"stages\.\d+\.(?:pretraining\.)?training\.epochs": 1,
    r"model\.organism\.seeds": 1,
    r"model\.organism\.episodes": 200,
    r"model\.organism\.steps": 20,
}
"""Key of a study -> the largest value that it keeps. Settings that a study leaves out keep their defaults."""
_PATTERNS = {re.compile(pattern): most for pattern, most in LARGEST.items()}


def smallest(study: StudyConfig) -> StudyConfig:
    """The study with two replicates, two updates, and as few episodes as its parts need."""
    document = _limited(written(study), ())
    document["seeds"] = study.seed_list[:REPLICATES]
    for part in (*document["arms"].values(), *document["points"].values()):
        part["set"] = {key: _limited(value, tuple(key.split("."))) for key, value in part["set"].items()}
    return parse_study(document, f"{study.name}, at its smallest size")


def chosen(study: StudyConfig, most: int) -> list[str]:
    """At most so many of the study's settings (an arm at a point of its axes), by name; 0: all.

    Those that differ most from the ones before come first: the reference, then arms with another role, point or set of
    methods, and then the rest in the order of the file.
    """
    first = {run.point_name: run for run in reversed(study.runs())}
    order = list(dict.fromkeys(run.point_name for run in study.runs()))
    if not most or len(order) <= most:
        return order
    order.sort(key=lambda name: first[name].arm_config.role != "reference")
    picked = [order[0]]
    seen = _parts(first[order[0]])
    while len(picked) < most:
        name = max((each for each in order if each not in picked), key=lambda each: len(_parts(first[each]) - seen))
        picked.append(name)
        seen |= _parts(first[name])
    return [name for name in dict.fromkeys(run.point_name for run in study.runs()) if name in picked]


def _parts(run: RunConfig) -> set[str]:
    """What a run would try that others may not."""
    arm = run.arm_config
    specs = [*arm.interventions, *(spec for own in arm.seats.values() for spec in own), arm.reward]
    return {
        arm.role,
        *(f"{axis}={value}" for axis, value in run.sweep_point.items()),
        *(s.use for s in specs),
        *arm.set,
    }


def _limited(value: Any, path: tuple[str, ...]) -> Any:
    """The value at a key, with every number in it at most what `LARGEST` says of its own key."""
    if isinstance(value, dict):
        return {key: _limited(each, (*path, str(key))) for key, each in value.items()}
    if isinstance(value, list):
        return [_limited(each, (*path, str(n))) for n, each in enumerate(value)]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    key = ".".join(path)
    return min([value, *(most for pattern, most in _PATTERNS.items() if pattern.fullmatch(key))])
