"""One study at its smallest size, from its file to its report, in this process."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from envs.text import message_of
from launch.config.loading import load_study
from launch.config.model import hub_model
from launch.config.study import StudyConfig
from launch.smoke.profile import chosen, smallest
from shaping.organisms.card import CARD
from shaping.organisms.shipped import shipped

PROXY = "PreferenceModel"
"""The reward whose model is made before the study that is paid by it."""


class Outcome(BaseModel):
    """How it went."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    study: str
    runs: int = 0
    """Runs that were played."""
    left_out: int = 0
    """Settings that were not, since at most so many were asked for."""
    seconds: float = 0.0
    cpu: float = 0.0
    """Of these, seconds in which it computed: the same on a machine that others share."""
    ok: bool = False
    why: str = ""
    """What went wrong; empty if nothing did."""


def smoke(name: str, folder: Path, settings: int) -> Outcome:
    """Play a study in `folder`, which becomes the directory that it is started in, and write its report there.

    Args:
        name: A bundled study, or a file.
        folder: An empty directory.
        settings: Settings that are played at the most; 0: all.
    """
    start = time.perf_counter()
    runs, left_out, why = 0, 0, ""
    try:
        study = smallest(load_study(name, [f"output={json.dumps(str(folder.absolute() / 'runs'))}"]))
        names = chosen(study, settings)
        left_out = len({run.point_name for run in study.runs()}) - len(names)
        os.chdir(folder)
        _stand_in(study)
        _make_proxies(study)
        runs, why = _play(study, names)
    except Exception as error:
        why = f"{type(error).__name__}: {message_of(error)}"
    took = {"seconds": round(time.perf_counter() - start, 1), "cpu": round(time.process_time(), 1)}
    return Outcome(study=name, runs=runs, left_out=left_out, **took, ok=not why, why=why)


def _play(study: StudyConfig, names: list[str]) -> tuple[int, str]:
    """(runs that finished, what went wrong): all runs without Ray, one after the other, and the report."""
    from launch.report.build import build
    from launch.study import run_study

    result = run_study(study, only=names, cluster=None)
    if result.failed:
        first = result.failed[0]
        return len(result.finished), f"{len(result.failed)} runs failed, first {first.name}: {first.message}"
    page = build(result.directory)
    told = json.loads((page.parent / "verdicts.json").read_text(encoding="utf-8"))["verdicts"]
    judged = {verdict["claim"] for verdict in told}
    if missing := [claim for claim in study.claims if claim not in judged]:
        return len(result.finished), f"the report says nothing of claim {missing[0]}"
    return len(result.finished), ""


def _stand_in(study: StudyConfig) -> None:
    """A small model where the study looks for one in the directory of its start, which the user has to make."""
    if isinstance(study.model, str) and hub_model(study.model) and not Path(study.model).exists():
        # without its card it is no organism, but a model that reads prose, as the one in whose place it stands
        shutil.copytree(shipped(0), study.model, ignore=shutil.ignore_patterns(CARD))


def _make_proxies(study: StudyConfig) -> None:
    """The preference models that the arms are paid by, where they are bundled ones: of few comparisons, in one pass."""
    from launch.preference.command import train_model
    from launch.preference.settings import PreferenceConfig, read_settings

    paths = {str(arm.reward.fields["path"]) for arm in study.arms.values() if arm.reward.use == PROXY}
    for path in sorted(paths):
        document = read_settings(Path(Path(path).name), PreferenceConfig).model_dump(mode="json")
        document["data"]["comparisons"]["pairs"] = 20
        document["training"]["epochs"] = 1
        train_model(PreferenceConfig.model_validate(document), Path(path))
