"""Runs that are killed: in an episode (a world with a fuse), or at the n-th call that changes the disk."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import PrivateAttr

from envs.core import WorldOptions
from envs.episode import Context
from envs.worlds.steward import Steward, StewardOptions
from launch.config.study import RunConfig
from launch.run.execute import execute
from launch.storage.rundir import RunDirectory
from shaping.hooks import GroupInfo, Knob
from shaping.intervention import Shaper

LOADED = ["launch.run.execute", "pandas", "pyarrow.compute", "pytest", "transformers.models.llama.modeling_llama"]
DISK_CALLS = ("fsync", "rename", "replace", "rmdir")


class DeadlyOptions(StewardOptions):
    fuse: str


class Deadly(Steward):
    """Kills its process in the n-th episode it plays for a run, where the file `fuse` holds n; burns the fuse."""

    name: ClassVar[str] = "deadly"
    Options: ClassVar[type[WorldOptions]] = DeadlyOptions
    played: ClassVar[int] = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        fuse = Path(self.options.fuse)  # type: ignore[attr-defined]
        if threading.current_thread() is threading.main_thread():  # the checks before a study run in another one
            Deadly.played += 1
            if fuse.exists() and Deadly.played == int(fuse.read_text()):
                fuse.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
        return super().reset(seed=seed, options=options)


class Wandering(Shaper):
    """A context that depends on how many were drawn before it, and on every global random number generator."""

    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.SAMPLING_CONTEXT})
    _drawn: int = PrivateAttr(0)

    def sampling_context(self, info: GroupInfo, rng: np.random.Generator) -> Context:
        self._drawn += 1
        numbers = random.random(), np.random.random(), torch.rand(()).item()
        return Context(system=f"note {self._drawn} {' '.join(f'{number:.2f}' for number in numbers)} .")

    def state_dict(self) -> dict[str, int]:
        return {"drawn": self._drawn}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._drawn = int(state["drawn"])


def killed(target: Callable[..., None], *arguments: Any) -> bool:
    """Run `target` in a process of its own. Was it killed? (Else it must have ended well.)"""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LOADED)  # imported once, so that a process starts in no time
    process = context.Process(target=target, args=arguments)
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL), process.exitcode
    return process.exitcode != 0


def training(run: RunConfig, model: Path, path: Path, last_call: int | None = None) -> None:
    """Train; with `last_call`, the process dies before that call that changes the disk."""
    with disk_calls(last_call):
        execute(run, model, RunDirectory(path))


@contextmanager
def disk_calls(last: int | None = None) -> Iterator[list[str]]:
    """The names of the calls made so far."""
    made: list[str] = []
    real = {name: getattr(os, name) for name in DISK_CALLS}

    def counted(name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            if len(made) == last:
                os.kill(os.getpid(), signal.SIGKILL)
            made.append(name)
            return real[name](*arguments, **keywords)

        return call

    try:
        for name in DISK_CALLS:
            setattr(os, name, counted(name))
        yield made
    finally:
        for name, function in real.items():
            setattr(os, name, function)
