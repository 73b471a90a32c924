"""A whole run on the GPU: the quickstart's world, a shipped organism, two updates, evaluation, a saved checkpoint."""

from __future__ import annotations

import math
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.gpu.report import Check, Part, broken
from benchmarks.table import Row
from launch.config.loading import load_study
from launch.config.study import RunConfig
from launch.run.execute import execute
from launch.run.models.start_model import start_model
from launch.storage.rundir import RunDirectory

ARMS: dict[str, tuple[str, list[str]]] = {
    "unshaped": ("unshaped", []),
    "action_mask": ("action_mask", []),
    "LoRA and PPO": ("unshaped", ["learner.lora={rank: 4, alpha: 8}", "learner.algorithm=ppo"]),
}
"""Name -> arm of the quickstart, and other settings than its own."""


def loop(device: torch.device, quick: bool) -> Part:
    """The part `loop`."""
    checks: list[Check] = []
    rows: list[Row] = []
    for arm in [*ARMS][: 1 if quick else None]:
        try:
            found = {kind: _played(arm, kind, quick) for kind in dict.fromkeys((str(device), "cpu"))}
        except Exception as error:  # the other arm is still looked at
            checks.append(broken(arm, error))
            continue
        (mismatch, seconds), (_, plain) = found[str(device)], found["cpu"]
        told = f"mismatch of sampler and learner {mismatch:.1e} per token"
        checks.append(Check(f"{arm}: trained, evaluated and saved", math.isfinite(mismatch) and mismatch < 1e-3, told))
        rows.append(Row(f"{arm}: a run on the CPU", seconds, plain, "s", plain / seconds))
    return Part("loop", checks, rows)


def _played(arm: str, device: str, quick: bool) -> tuple[float, float]:
    """(largest mismatch KL per token, seconds) of a run of two updates."""
    run = _run(arm, device, quick)
    model = start_model(run.model, lambda *_: None)
    with tempfile.TemporaryDirectory() as folder:
        directory = RunDirectory(Path(folder) / "run")
        mismatch: list[float] = []

        def seen(_: int, row: dict[str, float]) -> None:
            mismatch.append(abs(float(row["mismatch_kl"])))

        begun = time.perf_counter()
        execute(run, model, directory, seen)
        seconds = time.perf_counter() - begun
        if not (Path(folder) / "run" / "checkpoint").is_dir():
            raise FileNotFoundError("the run has saved no checkpoint")
    return max(mismatch), seconds


def _run(arm: str, device: str, quick: bool) -> RunConfig:
    small = ["train.groups=1", "train.group_size=2", "eval.episodes=2"] if quick else ["eval.episodes=8"]
    name, own = ARMS[arm]
    study = load_study("quickstart", [f"train.device={device}", "train.updates=2", *small, *own])
    return next(run for run in study.runs() if run.arm == name)
