"""Trackers that come with the framework. Each imports its package when a run starts; none is needed otherwise."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launch.tracking.tracking import TrackedRun


def numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """What can be drawn: finite numbers, booleans left out."""
    found = {
        key: value for key, value in row.items() if isinstance(value, (int, float)) and not isinstance(value, bool)
    }
    return {key: float(value) for key, value in found.items() if key != "update" and math.isfinite(value)}


class TensorBoard:
    """Event files under `dir/<run>`; default: `<study>/tracking/tensorboard/<run>`."""

    def __init__(self, dir: str | None = None) -> None:
        self.dir = dir
        self._writer: Any = None

    def start(self, run: TrackedRun) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = (Path(self.dir) / run.study if self.dir else run.folder / "tensorboard") / run.name
        if not run.first:  # an earlier try that was started afresh
            for old in folder.glob("events.out.tfevents.*"):
                old.unlink()
        self._writer = SummaryWriter(str(folder), purge_step=run.first)
        if not run.first:
            self._writer.add_text("config", f"```\n{json.dumps(run.config, indent=1)}\n```")

    def log(self, row: Mapping[str, Any], step: int) -> None:
        for key, value in numbers(row).items():
            self._writer.add_scalar(key, value, step)
        self._writer.flush()

    def finish(self, result: Mapping[str, Any] | None) -> None:
        for key, value in numbers((result or {}).get("summary", {})).items():
            self._writer.add_scalar(f"summary/{key}", value, (result or {}).get("updates", 0))
        self._writer.close()


class WandB:
    """A run of Weights & Biases: one project per study, arms as groups. `mode`: online, offline or shared.

    Where nobody is logged in it fails at once instead of asking. Fields beside these go to `wandb.init`.
    """

    def __init__(self, project: str = "", mode: str | None = None, dir: str | None = None, **fields: Any) -> None:
        if taken := {"id", "name", "resume", "config", "reinit"} & set(fields):
            raise ValueError(f"{', '.join(sorted(taken))} cannot be set: they say which run it is")
        self.project, self.mode, self.dir, self.fields = project, mode, dir, fields
        self._run: Any = None

    def start(self, run: TrackedRun) -> None:
        import wandb

        os.environ.setdefault("WANDB_SILENT", "true")
        mode = self.mode or os.environ.get("WANDB_MODE") or "online"
        if mode == "online" and not wandb.login(prompt=False, verify=False):
            raise RuntimeError("nobody is logged in: set WANDB_API_KEY, run `wandb login`, or set mode: offline")
        folder = Path(self.dir) if self.dir else run.folder
        folder.mkdir(parents=True, exist_ok=True)
        given: dict[str, Any] = {"group": run.config["arm"], "mode": mode, **self.fields}
        given |= {"project": self.project or run.study, "id": run.id, "name": run.name, "resume": "allow"}
        self._run = wandb.init(**given, dir=str(folder), config=dict(run.config), reinit="create_new")

    def log(self, row: Mapping[str, Any], step: int) -> None:
        self._run.log(numbers(row), step=step)

    def finish(self, result: Mapping[str, Any] | None) -> None:
        if result is not None:
            self._run.summary.update(numbers(result.get("summary", {})))
        self._run.finish(exit_code=0 if result is not None else 1)


class Trackio:
    """A run of Trackio: local, in `dir` (default: `<study>/tracking/trackio`), or on a Space or server of yours.

    Fields beside these go to `trackio.init`, e.g. `space_id`.
    """

    def __init__(self, project: str = "", dir: str | None = None, **fields: Any) -> None:
        if taken := {"name", "resume", "config"} & set(fields):
            raise ValueError(f"{', '.join(sorted(taken))} cannot be set: they say which run it is")
        self.project, self.dir, self.fields = project, dir, fields
        self._run: Any = None

    def start(self, run: TrackedRun) -> None:
        # it reads its folder once, when it is imported, and makes it
        folder = Path(self.dir) if self.dir else run.folder / "trackio"
        if self.dir or "TRACKIO_DIR" not in os.environ:
            os.environ["TRACKIO_DIR"] = str(folder.absolute())
        import trackio

        given = {"embed": False, "auto_log_gpu": False, "auto_log_cpu": False, **self.fields}
        name = f"{run.name}-{run.id[:6]}"  # runs of one name are told apart by nothing else
        self._run = trackio.init(
            project=self.project or run.study, name=name, resume="allow", config=dict(run.config), **given
        )

    def log(self, row: Mapping[str, Any], step: int) -> None:
        self._run.log(numbers(row), step=step)

    def finish(self, result: Mapping[str, Any] | None) -> None:
        if result is not None and (summary := numbers(result.get("summary", {}))):
            self._run.log({f"summary/{key}": value for key, value in summary.items()}, step=result.get("updates"))
        self._run.finish()
