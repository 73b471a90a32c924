"""Verdicts that were given before, in memory and in a folder, by a hash of all that they depend on."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from shaping.monitors.judging.judge import Judge
from shaping.monitors.judging.question import VERSION, Asked
from shaping.monitors.judging.verdict import TurnVerdict

_REMEMBERED = 100_000
_LARGEST = 1 << 20


class Kept(BaseModel):
    """What a file of the cache holds."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    key: str
    turns: tuple[TurnVerdict, ...]


def key_of(judge: Judge, question: str, asked: Asked) -> str:
    """The hash of everything that a verdict depends on but chance: judge, question, wording and transcript."""
    of_judge = [judge.endpoint, judge.model, judge.temperature, judge.max_tokens, judge.structured]
    told = json.dumps([VERSION, *of_judge, question, list(asked.turns), asked.data])
    return hashlib.blake2b(told.encode("utf-8", "surrogatepass"), digest_size=20).hexdigest()


class VerdictCache:
    """All caches are equal: what is remembered makes no monitor another one. A pickle of one is empty."""

    def __init__(self) -> None:
        self._known: dict[str, dict[int, TurnVerdict]] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VerdictCache)

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[type[VerdictCache], tuple[()]]:
        return VerdictCache, ()

    def get(self, folder: Path | None, key: str, asked: Asked) -> dict[int, TurnVerdict] | None:
        """The verdict of a key; None if there is none, or if its file is damaged: it is then asked for again."""
        if key not in self._known and folder is not None and (found := _read(_path(folder, key), key)) is not None:
            self._keep(key, found)
        found = self._known.get(key)
        return found if found is not None and set(found) == set(asked.turns) else None

    def put(self, folder: Path | None, key: str, verdict: dict[int, TurnVerdict]) -> None:
        """Keep a verdict. A file appears whole or not at all."""
        self._keep(key, verdict)
        if folder is None:
            return
        path = _path(folder, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".tmp-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(Kept(key=key, turns=tuple(verdict.values())).model_dump_json())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def _keep(self, key: str, verdict: dict[int, TurnVerdict]) -> None:
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[key] = verdict


def _path(folder: Path, key: str) -> Path:
    return folder / key[:2] / f"{key}.json"


def _read(path: Path, key: str) -> dict[int, TurnVerdict] | None:
    try:
        if path.stat().st_size > _LARGEST:
            return None
        kept = Kept.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
    return {each.turn: each for each in kept.turns} if kept.key == key else None
