"""Worlds that do what worlds do out in the wild: named in configs as `hostile_worlds:Class`."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from pathlib import Path
from typing import Any, ClassVar

from envs.core import TextEnv, parse_action
from envs.episode import Event, Labels


class Plain(TextEnv):
    """As short as a world can be."""

    name: ClassVar[str] = "plain"
    max_return = 1.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        return "say a word .", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        return "bye .", float("a" in parse_action(action)), True, False, {"labels": Labels()}


class Asks(Plain):
    """Two turns; `answer` is its whole first answer, for what a test wants of it."""

    name: ClassVar[str] = "asks"

    def reset(self, **keywords: Any) -> tuple[str, dict[str, Any]]:
        self.turn = 0
        return super().reset(**keywords)

    def step(self, action: str) -> Any:
        self.turn += 1
        return "more .", 1.0, self.turn == 2, False, {"labels": Labels(), "executed": "x", "events": (), **self.more()}

    def more(self) -> dict[str, Any]:
        return {}


class Swallows(Asks):
    """A client that tries again whatever happens."""

    name: ClassVar[str] = "swallows"
    seconds: ClassVar[float] = 0.5

    def more(self) -> dict[str, Any]:
        end = time.monotonic() + self.seconds
        while time.monotonic() < end:
            with contextlib.suppress(Exception):
                time.sleep(0.01)
        return {}


class UsesAsyncio(Asks):
    """An asynchronous client behind a synchronous step."""

    name: ClassVar[str] = "uses_asyncio"

    def more(self) -> dict[str, Any]:
        return {"events": (Event("act", "fetched", asyncio.run(self._fetch())),)}

    async def _fetch(self) -> str:
        await asyncio.sleep(0)
        return "page"


class Catastrophic(Asks):
    """A regular expression that takes for ever and holds the interpreter, while the file `fuse` exists, which burns."""

    name: ClassVar[str] = "catastrophic"

    def __init__(self, fuse: str = "", burns: bool = True) -> None:
        super().__init__()
        self.fuse, self.burns = Path(fuse), burns

    def more(self) -> dict[str, Any]:
        if self.fuse.is_file():
            if self.burns:
                self.fuse.unlink()
            re.match(r"(a+)+$", "a" * 60 + "b")
        return {}


class Unbending(Asks):
    """Catches everything, for ever."""

    name: ClassVar[str] = "unbending"

    def more(self) -> dict[str, Any]:
        while True:
            with contextlib.suppress(BaseException):
                time.sleep(0.01)


class Leaves(Asks):
    """Raises, in the hook `where`, an exception that is no `Exception`."""

    name: ClassVar[str] = "leaves"

    def __init__(self, raises: str = "SystemExit", where: str = "step") -> None:
        super().__init__()
        self.raises, self.where = raises, where

    def reset(self, **keywords: Any) -> Any:
        self.leave("reset")
        return super().reset(**keywords)

    def more(self) -> dict[str, Any]:
        self.leave("step")
        return {}

    def close(self) -> None:
        self.leave("close")

    def leave(self, hook: str) -> None:
        if hook == self.where:
            raise {"SystemExit": SystemExit(0), "CancelledError": asyncio.CancelledError()}.get(self.raises) or (
                type(self.raises, (BaseException,), {})()
            )


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Slips(Asks):
    """Answers in its first turn with one wrong part."""

    name: ClassVar[str] = "slips"

    def __init__(self, part: str = "", value: Any = None) -> None:
        super().__init__()
        self.part, self.value = part, value

    def step(self, action: str) -> Any:
        observation, reward, terminated, truncated, info = super().step(action)
        if self.part == "raises":
            raise self.value
        answer: dict[str, Any] = {
            "observation": observation,
            "reward": reward,
            "terminated": terminated,
            "truncated": truncated,
            "info": info,
        }
        if self.part in answer:
            answer[self.part] = self.value
        else:
            info[self.part] = self.value
        return tuple(answer.values())


class Talks(Asks):
    """Says `text`, again and again, for fifty turns."""

    name: ClassVar[str] = "talks"

    def __init__(self, text: str = "a", times: int = 100_000, at: int = 1) -> None:
        super().__init__()
        self.text, self.times, self.at = text, times, at

    def reset(self, **keywords: Any) -> Any:
        observation, info = super().reset(**keywords)
        return (self.text * self.times if self.at == 0 else observation), info

    def step(self, action: str) -> Any:
        _, reward, _, _, info = super().step(action)
        text = self.text * self.times if self.turn >= self.at else "more ."
        return text, reward, self.turn == 50, False, info


class Cued(Plain):
    """Knows one of the two cues of an evaluation."""

    name: ClassVar[str] = "cued"

    def __init__(self, watch: str = "drawn") -> None:
        super().__init__()
        self.watch = watch

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        if self.watch == "never" and self.fails:
            raise LookupError("nobody there")
        return super().step(action)

    fails: ClassVar[bool] = False


class FailsUnwatched(Cued):
    """Works in all but one cell of an evaluation."""

    name: ClassVar[str] = "fails_unwatched"
    fails = True
