"""Training states of a run: what it needs to go on bit for bit after a kill, under `<run>/state/`.

    state/update-000012/tensors.safetensors, state.json      after 12 updates
    state/latest                                             name of the newest one, moved last

A state is written to a temporary directory, synced and renamed, so that a kill at any point leaves the one before. What
is read is checked against its hashes: nothing that is damaged is used.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch.config.study import RunConfig, digest
from launch.errors import RunDirectoryError, UserError
from launch.storage.rundir import RunDirectory, disk_errors, sync, write_text

if TYPE_CHECKING:
    from torch import Tensor

FORMAT, VERSION = "shaping-state", 1
KEPT = 2
"""States kept: the newest, and the one before it should the newest be damaged."""
TENSORS, DOCUMENT, LATEST = "tensors.safetensors", "state.json", "latest"
_NAME = re.compile(r"update-(\d{6,})")


class DamagedState(ValueError):
    """A state is partial, truncated or changed; the message says what is wrong with it."""


@dataclass(frozen=True)
class State:
    """A training state after `update` updates. `values` is JSON-serialisable."""

    update: int
    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any]
    versions: Mapping[str, Any]
    """Of the program that wrote it (`launch.storage.versions`)."""


class Checkpoints:
    """The states of one run. `config` is the run config's digest: a state of another one is never loaded."""

    def __init__(self, path: Path, config: str) -> None:
        self.path = path
        self.config = config

    @classmethod
    def of(cls, directory: RunDirectory, run: RunConfig) -> Checkpoints:
        return cls(directory.state, run.digest)

    def save(self, state: State) -> None:
        """Write a state and make it the latest; older ones than the last two are removed."""
        name = f"update-{state.update:06d}"
        temporary, target = self.path / f".tmp-{name}", self.path / name
        with disk_errors(self.path):
            shutil.rmtree(temporary, ignore_errors=True)
            try:
                temporary.mkdir(parents=True)
                _write(temporary, state, self.config)
                if target.exists():  # a damaged one that was not used
                    shutil.rmtree(target)
                os.rename(temporary, target)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
            sync(self.path)
            write_text(self.path / LATEST, name + "\n")
            sync(self.path)
            self._prune(state.update)

    def states(self, tell: Callable[[str], None]) -> Iterator[State]:
        """Every intact state of this config, newest first; what is damaged or of another config is told by name."""
        for path in self._candidates():
            try:
                document = _document(path)
                if document["config"] != self.config:
                    tell(f"{path} belongs to another config and is discarded")
                    continue
                yield State(document["update"], _tensors(path, document), document["values"], document["versions"])
            except DamagedState as error:
                tell(f"{path} cannot be used: {error}")

    def newest(self) -> int | None:
        """After how many updates the newest state was taken that looks intact: its tensors are not read for this."""
        for path in self._candidates():
            try:
                document = _document(path)
            except DamagedState:
                continue
            if document["config"] == self.config:
                return int(document["update"])
        return None

    def present(self) -> bool:
        """Is there any state, whole or not?"""
        return bool(self._found())

    def _candidates(self) -> list[Path]:
        """The one that `latest` names, then those before it; all of them where it is damaged."""
        found, latest = self._found(), self._latest()
        return [found[n] for n in sorted(found, reverse=True) if latest not in found or n <= (latest or 0)]

    def _found(self) -> dict[int, Path]:
        return {int(m[1]): p for p in self.path.glob("update-*") if (m := _NAME.fullmatch(p.name))}

    def _latest(self) -> int | None:
        try:
            match = _NAME.fullmatch((self.path / LATEST).read_text(encoding="utf-8").strip())
        except (OSError, ValueError):
            return None
        return int(match[1]) if match else None

    def _prune(self, latest: int) -> None:
        found = self._found()
        kept = sorted((n for n in found if n <= latest), reverse=True)[:KEPT]
        for number, path in found.items():
            if number not in kept:
                shutil.rmtree(path)


def _write(folder: Path, state: State, config: str) -> None:
    tensors = folder / TENSORS
    _save_tensors(tensors, state.tensors)
    sync(tensors)
    document = {
        "format": FORMAT,
        "version": VERSION,
        "config": config,
        "update": state.update,
        "versions": state.versions,
        "tensors": {"bytes": tensors.stat().st_size, "blake2b": _hash(tensors)},
        "values": state.values,
    }
    try:
        document = json.loads(json.dumps(document))  # the checksum is that of what a reader will parse
    except (TypeError, ValueError) as error:
        raise UserError(
            f"the state after update {state.update} cannot be saved: {error}; state_dict() of an intervention must "
            "return JSON values only (lists, not arrays)"
        ) from None
    write_text(folder / DOCUMENT, json.dumps({**document, "checksum": digest(document)}) + "\n")
    sync(folder)


def _save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        save_file(whole, path)
    except SafetensorError as error:  # written in Rust: it puts the error number into its text
        if number := re.search(r"os error (\d+)", str(error)):
            raise OSError(int(number[1]), str(error)) from None
        raise


def _document(path: Path) -> dict[str, Any]:
    """A state's document, whole, with a tensor file of the size it names. Raises `DamagedState`."""
    try:
        document = json.loads((path / DOCUMENT).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DamagedState(f"it has no {DOCUMENT}") from None
    except (OSError, ValueError) as error:
        raise DamagedState(f"its {DOCUMENT} cannot be read ({error})") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise DamagedState(f"its {DOCUMENT} is not ours")
    if document.get("version") != VERSION:
        raise RunDirectoryError(
            f"{path} has version {document.get('version')} of the format, this program reads {VERSION}; use the "
            "version of the program that wrote it, or delete it to start the run afresh"
        )
    if document.pop("checksum", None) != digest(document):
        raise DamagedState(f"the checksum of its {DOCUMENT} does not hold")
    tensors, wanted = path / TENSORS, document["tensors"]["bytes"]
    size = tensors.stat().st_size if tensors.is_file() else 0
    if size != wanted:
        raise DamagedState(f"its {TENSORS} has {size} of {wanted} bytes")
    return dict(document)


def _tensors(path: Path, document: Mapping[str, Any]) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    if _hash(path / TENSORS) != document["tensors"]["blake2b"]:
        raise DamagedState(f"the checksum of its {TENSORS} does not hold")
    return load_file(path / TENSORS)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
