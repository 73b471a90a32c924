"""Worlds and shapers for tests of rollout workers: named in configs as `ray_worlds:Class`."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from controller_worlds import Vowels

from shaping.hooks import ActivationEdit, AdapterSpec, Knob, Phase
from shaping.intervention import Shaper


class Fused(Vowels):
    """Kills the worker that plays it, in the middle of an episode, as long as the file `fuse` exists.

    `burns`: the file is gone then, so that it happens once. The process `spare` is never killed.
    """

    name: ClassVar[str] = "fused"

    def __init__(self, fuse: str = "", spare: int = 0, burns: bool = True, **cues: str) -> None:
        super().__init__(**cues)
        self.fuse, self.spare, self.burns = Path(fuse), spare, burns

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        if self.turn == 1 and os.getpid() != self.spare and self.fuse.is_file():
            if self.burns:
                self.fuse.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(action)


class Slow(Vowels):
    """Every step takes a while."""

    name: ClassVar[str] = "slow"

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        time.sleep(0.05)
        return super().step(action)


class Straggler(Vowels):
    """The first episode with the lowest seed it meets waits, after its first turn, for the file `gate`.

    Whoever makes the file `taken` is that episode.
    """

    name: ClassVar[str] = "straggler"

    def __init__(self, gate: str = "", spare: int = 0, **cues: str) -> None:
        super().__init__(**cues)
        self.gate, self.spare, self.waits = Path(gate), spare, False

    def reset(self, **keywords: Any) -> tuple[str, dict[str, Any]]:
        if os.getpid() != self.spare:
            try:
                self.gate.with_suffix(".taken").touch(exist_ok=False)
                self.waits = True
            except FileExistsError:
                pass
        return super().reset(**keywords)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        while self.waits and self.turn == 1 and not self.gate.exists():
            time.sleep(0.01)
        return super().step(action)


class Busy(Vowels):
    """Counts how many of its steps overlap, in this process."""

    name: ClassVar[str] = "busy"
    inside: ClassVar[int] = 0
    most: ClassVar[int] = 0

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        Busy.inside += 1
        Busy.most = max(Busy.most, Busy.inside)
        time.sleep(0.02)
        Busy.inside -= 1
        return super().step(action)


class Stuck(Vowels):
    """Never comes back from its second step, in processes other than `spare`."""

    name: ClassVar[str] = "stuck"

    def __init__(self, spare: int = 0, **cues: str) -> None:
        super().__init__(**cues)
        self.spare = spare

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        if self.turn == 1 and os.getpid() != self.spare:
            self.wait_for_ever()
        return super().step(action)

    def wait_for_ever(self) -> None:
        time.sleep(1000)


class Steered(Shaper):
    """Adds a direction while sampling and while learning."""

    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.SAMPLING_EDITS, Knob.TRAINING_EDITS})

    def edits(self, phase: Phase) -> list[ActivationEdit]:
        return [ActivationEdit(0, "add", np.ones(32, np.float32))]


class Quarantined(Shaper):
    """An adapter that is on while sampling."""

    def adapters(self) -> list[AdapterSpec]:
        return [AdapterSpec("extra", "quarantine", rank=2)]


class Kept(Shaper):
    """Trains an adapter of its own in place of the base."""

    def adapters(self) -> list[AdapterSpec]:
        return [AdapterSpec("own", "kept", rank=2, alpha=4.0)]
