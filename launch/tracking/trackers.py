"""The built-in trackers. Each needs its package only where a study uses it. Secrets come from the environment alone."""

from __future__ import annotations

import ast
import inspect
import json
import math
import os
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from launch.config.reading.paths import expanded
from launch.errors import nearest
from launch.tracking.tracking import TrackedRun


def numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of a row, without booleans and `update`."""
    numeric = {
        key: value for key, value in row.items() if isinstance(value, (int, float)) and not isinstance(value, bool)
    }
    return {key: float(value) for key, value in numeric.items() if key != "update" and math.isfinite(value)}


def folder(path: str | None) -> Path | None:
    """The folder that a config names; `~` is the home directory. Raises `ValueError` for what is no text."""
    if path is None:
        return None
    if not isinstance(path, str):
        raise ValueError(f"dir: write a folder, not {path!r}")
    return expanded(path)


def refuse_unknown(fields: Mapping[str, Any], known: Iterable[str], taken: set[str]) -> None:
    """Raise `ValueError` for a field that the package does not know, or that identifies the run."""
    if own := taken & set(fields):
        raise ValueError(f"{', '.join(sorted(own))} cannot be set: they identify the run")
    known = set(known) - taken
    for name in fields:
        if name not in known:
            raise ValueError(f"unknown field {name!r}{nearest(name, known)}")


class TensorBoard:
    """Writes TensorBoard event files."""

    def __init__(self, dir: str | None = None) -> None:
        """Files go into `<dir>/<study>/<run>`; by default into `<study>/tracking/tensorboard/<run>`."""
        self.dir = folder(dir)
        self._writer: Any = None

    def start(self, run: TrackedRun) -> None:
        from torch.utils.tensorboard import SummaryWriter

        own = (self.dir / run.study if self.dir else run.folder / "tensorboard") / run.name
        if not run.first:  # left by an earlier try that was not resumed
            for old in own.glob("events.out.tfevents.*"):
                old.unlink()
        self._writer = SummaryWriter(str(own), purge_step=run.first)
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


WANDB_MODES = ("online", "offline", "disabled", "shared")


class WandB:
    """A run of Weights & Biases: one project per study, arms as groups.

    Without a login it fails at once instead of asking.
    """

    def __init__(self, project: str = "", mode: str | None = None, dir: str | None = None, **fields: Any) -> None:
        """Prepare a run; nothing is sent before `start`.

        Args:
            project: Default: the name of the study.
            mode: online, offline or shared; default: `WANDB_MODE`, or online.
            dir: Folder of its files; default: `<study>/tracking`.
            fields: Further arguments of `wandb.init`.
        """
        import wandb

        refuse_unknown(fields, inspect.signature(wandb.init).parameters, {"id", "name", "resume", "config", "reinit"})
        if mode not in (None, *WANDB_MODES):
            raise ValueError(f"mode: write one of {', '.join(WANDB_MODES)}, not {mode!r}")
        if isinstance(settings := fields.get("settings"), dict):
            wandb.Settings(**settings)
        self.project, self.mode, self.dir, self.fields = project, mode, folder(dir), fields
        self._run: Any = None

    def start(self, run: TrackedRun) -> None:
        import wandb

        os.environ.setdefault("WANDB_SILENT", "true")
        mode = self.mode or os.environ.get("WANDB_MODE") or "online"
        if mode == "online" and not wandb.login(prompt=False, verify=False):
            raise RuntimeError("not logged in: set WANDB_API_KEY, run `wandb login`, or set mode: offline")
        own = self.dir or run.folder
        own.mkdir(parents=True, exist_ok=True)
        settings: dict[str, Any] = {"group": run.config["arm"], "mode": mode, **self.fields}
        settings |= {"project": self.project or run.study, "id": run.id, "name": run.name, "resume": "allow"}
        self._run = wandb.init(**settings, dir=str(own), config=dict(run.config), reinit="create_new")

    def log(self, row: Mapping[str, Any], step: int) -> None:
        self._run.log(numbers(row), step=step)

    def finish(self, result: Mapping[str, Any] | None) -> None:
        if result is not None:
            self._run.summary.update(numbers(result.get("summary", {})))
        self._run.finish(exit_code=0 if result is not None else 1)


def _parameters(package: str, function: str) -> list[str]:
    """Parameters of a function of a package, without importing it: Trackio then makes the folder that is set so far."""
    spec = find_spec(package)
    source = Path(spec.origin).read_text(encoding="utf-8") if spec and spec.origin else ""
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            return [each.arg for each in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    raise ValueError(f"{package} has no {function}(): install the version that shaping[{package}] names")


class Trackio:
    """A run of Trackio: in a local folder, or on a Space or server of yours."""

    def __init__(self, project: str = "", dir: str | None = None, **fields: Any) -> None:
        """Prepare a run; nothing is written before `start`.

        Args:
            project: Default: the name of the study.
            dir: Local folder; default: `TRACKIO_DIR`, or `<study>/tracking/trackio`.
            fields: Further arguments of `trackio.init`, e.g. `space_id`.
        """
        refuse_unknown(fields, _parameters("trackio", "init"), {"name", "resume", "config"})
        self.project, self.dir, self.fields = project, folder(dir), fields
        self._run: Any = None

    def start(self, run: TrackedRun) -> None:
        # trackio reads the name of its folder when it is imported, and creates the folder
        own = self.dir or run.folder / "trackio"
        if self.dir or "TRACKIO_DIR" not in os.environ:
            os.environ["TRACKIO_DIR"] = str(own.absolute())
        import trackio

        settings = {"embed": False, "auto_log_gpu": False, "auto_log_cpu": False, **self.fields}
        name = f"{run.name}-{run.id[:6]}"  # Trackio identifies a run by its name alone
        self._run = trackio.init(
            project=self.project or run.study, name=name, resume="allow", config=dict(run.config), **settings
        )

    def log(self, row: Mapping[str, Any], step: int) -> None:
        self._run.log(numbers(row), step=step)

    def finish(self, result: Mapping[str, Any] | None) -> None:
        if result is not None and (summary := numbers(result.get("summary", {}))):
            self._run.log({f"summary/{key}": value for key, value in summary.items()}, step=result.get("updates"))
        self._run.finish()
