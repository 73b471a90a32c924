"""Plug-ins of strangers: honest ones with every kind of hook, one that needs the policy, and one that is after loot."""

from __future__ import annotations

import ctypes
import gc
import glob
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import PrivateAttr

from envs.episode import Context, Episode, Labels
from rewards import Reward
from shaping.hooks import ActionDecision, AdapterSpec, Credit, Gates, Group, GroupInfo, Knob, RatioMode, TurnContext
from shaping.intervention import Constraint, Shaper
from shaping.monitors import OvertAction


class Thrift(Reward):
    """The world's reward less a price per turn, compared within the group."""

    price: float = 0.01

    def score(self, episode: Episode) -> NDArray[np.float64]:
        return np.array([turn.reward - self.price * n for n, turn in enumerate(episode.turns)])

    def score_group(self, episodes: Sequence[Episode]) -> list[NDArray[np.float64]]:
        mean = float(np.mean([e.proxy_return for e in episodes]))
        return [self.score(e) + 0.1 * (e.proxy_return > mean) / max(len(e.turns), 1) for e in episodes]


class Hints(Shaper):
    """Draws a prompt per group, credits the group's longer episodes, gates by return, and counts its draws."""

    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.SAMPLING_CONTEXT, Knob.TRAINING_CONTEXT, Knob.RATIO, Knob.GATES})
    words: tuple[str, ...] = ("be brief", "take care", "wait")

    def sampling_context(self, info: GroupInfo, rng: np.random.Generator) -> Context:
        return Context(f"{self.words[rng.integers(len(self.words))]} {rng.random():.6f}", "hint")

    def training_context(self, info: GroupInfo, drawn: Context, rng: np.random.Generator) -> Context:
        return drawn if rng.random() < 0.5 else Context(str(rng.integers(9)), "other")

    def ratio_mode(self) -> RatioMode:
        return "recomputed"

    def credit(self, group: Group) -> Credit:
        sizes = np.array([len(e.tokens) for e in group.episodes], np.float64)
        extra = (sizes - sizes.mean()) / (sizes.std() + 1) + group.advantages / 7
        streams = [np.full(len(e.tokens), x, np.float32) for e, x in zip(group.episodes, extra, strict=True)]
        return Credit("hints", advantage=tuple(streams), weight=tuple(np.ones_like(s) * 0.9 for s in streams))

    def gates(self, episode: Episode) -> list[Gates]:
        return [Gates(kept=1.0 if turn.reward >= 0 else 0.5) for turn in episode.turns]

    def readings(self, episode: Episode) -> Mapping[str, NDArray[np.int64]]:
        return {"words": np.array([len(turn.completion.split()) for turn in episode.turns], np.int64)}


class Sober(Constraint):
    """Replaces long commands, and prices each character."""

    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.ACTIONS})

    def allow(self, turn: TurnContext, action: str | None) -> ActionDecision:
        if action is None or len(action) < 12:
            return ActionDecision()
        return ActionDecision("replace", replacement="wait")

    def cost(self, episode: Episode) -> NDArray[np.float64]:
        return np.array([len(turn.action_text) / 10 for turn in episode.turns])


class Shares(Constraint):
    """Every episode pays what its group has earned, in equal parts and in the last turn."""

    def cost_group(self, episodes: Sequence[Episode]) -> list[NDArray[np.float64]]:
        each = sum(episode.proxy_return for episode in episodes) / len(episodes)
        return [np.append(np.zeros(len(episode.turns) - 1), each) for episode in episodes]


class NeedsPolicy(Shaper):
    """Overrides a hook that takes the policy."""

    def auxiliary_loss(self, policy: Any, batch: Sequence[Any]) -> None:
        return None

    def deploy(self, policy: Any) -> None:
        return None


class Sullen(Reward):
    """Hangs, dies or answers nonsense."""

    how: str

    def score(self, episode: Episode) -> Any:
        if self.how == "hang":
            time.sleep(3600)
        if self.how == "die":
            os._exit(7)
        if self.how == "forge":
            os.write(4, b"\xff" * 64)
            os._exit(0)
        if self.how == "print":
            print("hello", flush=True)  # on what was the pipe
            return [1.0] * len(episode.turns)
        if self.how == "raise":
            raise LookupError("no such \x1b[31mthing")
        return object() if self.how == "object" else [float("nan")] * len(episode.turns)


class Spy(Shaper):
    """Tries to get at what it is not given. `state_dict` tells what it got; an empty text is nothing."""

    folder: str
    secret: str

    def state_dict(self) -> Mapping[str, str]:
        parent = f"/proc/{os.getppid()}"
        attempts: dict[str, Callable[[], Any]] = {
            "files of the run": lambda: glob.glob(f"{self.folder}/**/*", recursive=True),
            "its episodes": lambda: Path(self.folder, "run", "episodes", "eval.parquet").read_bytes(),
            "its metrics": lambda: Path(self.folder, "run", "metrics.jsonl").read_text(),
            "a copy by another program": lambda: os.popen(f"cat {self.folder}/run/*.json* 2>/dev/null").read(),
            "a secret in the environment": lambda: self.secret in json.dumps(dict(os.environ)) or "",
            "the environment of the run": lambda: Path(parent, "environ").read_text(),
            "its descriptors": lambda: os.listdir(f"{parent}/fd"),
            "its folder": lambda: os.listdir(f"{parent}/cwd"),
            "its memory": lambda: _peek(os.getppid()),
            "the token of Ray": lambda: Path(os.path.expanduser("~root/.ray/auth_token")).read_text(),
            "the network": socket.socket,
            "a local server": lambda: socket.socket(socket.AF_UNIX),
            "labels in memory": lambda: [x for x in gc.get_objects() if isinstance(x, Labels)],
            "open files": _open_files,
            "the folder in arguments": lambda: self.folder in " ".join(sys.orig_argv) or "",
            "a file for another": lambda: Path(self.folder, "planted").write_text("x"),
        }
        return {name: _loot(attempt) for name, attempt in attempts.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass

    def readings(self, episode: Episode) -> Mapping[str, NDArray[np.int64]]:
        episode.truth.open()
        return {}


def _loot(attempt: Callable[[], Any]) -> str:
    try:
        found = attempt()
    except (OSError, RuntimeError):
        return ""
    return str(found)[:200] if found else ""


def _peek(process: int) -> bytes:
    """Bytes of another process, by the system call for it."""
    buffer = ctypes.create_string_buffer(8)

    class Piece(ctypes.Structure):
        _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))

    ours, theirs = Piece(ctypes.addressof(buffer), 8), Piece(id(None), 8)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.restype = ctypes.c_long
    attached = libc.ptrace(16, process, None, None) == 0
    read = libc.process_vm_readv(process, ctypes.byref(ours), 1, ctypes.byref(theirs), 1, 0)
    return buffer.raw if attached or read > 0 else b""


def _open_files() -> list[int]:
    """Descriptors of regular files and folders."""
    found = []
    for number in range(256):
        try:
            mode = os.fstat(number).st_mode
        except OSError:
            continue
        if mode & 0o170000 in (0o100000, 0o040000):
            found.append(number)
    return found


class Peeks(Shaper):
    """Declares that it reads labels."""

    oracle: ClassVar[bool] = True


class Loads(Shaper):
    """Names files for the run to open."""

    def adapters(self) -> list[AdapterSpec]:
        return [AdapterSpec("theirs", "frozen", path="/etc")]


class Watched(Reward):
    """Trains against a monitor."""

    def score(self, episode: Episode) -> Any:
        found = self._monitor.read(episode)
        return [turn.reward - sum(r.turn == n for r in found) for n, turn in enumerate(episode.turns)]

    _monitor: OvertAction = PrivateAttr(default_factory=lambda: OvertAction(role="train"))
