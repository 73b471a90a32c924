"""Training states of a run, from which it resumes bit for bit after a kill. They are in `<run>/state/`.

    state/update-000012/tensors.safetensors, state.json      after 12 updates
    state/update-000012/learner.safetensors                  written by the learner's ranks, where it has some
    state/latest                                             name of the newest state, written last

A state is written to a temporary directory, synced and renamed, so that a kill at any point leaves the previous state
intact. States are checked against their hashes when they are read, and damaged ones are not used.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch.config.reading.digests import digest
from launch.config.study import RunConfig
from launch.errors import RunDirectoryError, UserError
from launch.storage.files import disk_errors, make_directory, remove, safe, sync, write_text
from launch.storage.rundir import RunDirectory
from launch.storage.seals import seals
from shaping.models.model_files import content_hash

if TYPE_CHECKING:
    from torch import Tensor

FORMAT, VERSION = "shaping-state", 2
KEPT = 2
"""Number of states kept: the newest, and the previous one in case the newest is damaged."""
TENSORS, DOCUMENT, LATEST = "tensors.safetensors", "state.json", "latest"
_NAME = re.compile(r"update-(\d{6,})")


class DamagedState(ValueError):
    """A state is incomplete, truncated or changed; the message says how."""


@dataclass(frozen=True)
class State:
    """The training state of a run."""

    update: int
    """Number of finished updates."""
    tensors: Mapping[str, Tensor]
    """Weights, optimiser moments and random generators."""
    values: Mapping[str, Any]
    """JSON-serialisable values."""
    versions: Mapping[str, Any]
    """The software that wrote it (`launch.storage.versions`)."""
    folder: Path | None = None
    """Where a state that was read is, with the files that others than this process wrote; None: it was not read."""


class Checkpoints:
    """The training states of one run."""

    def __init__(self, path: Path, config: str) -> None:
        """`config` is the digest of the run's config; states of another config are never loaded."""
        self.path = path
        self.config = config

    @classmethod
    def of(cls, directory: RunDirectory, run: RunConfig) -> Checkpoints:
        """The states in a run directory."""
        return cls(directory.state, run.digest)

    def save(self, state: State) -> None:
        """Write a state, make it the latest, and remove all but the last two."""
        self.collect(state.update, lambda _: state)

    def collect(self, update: int, make: Callable[[Path], State]) -> None:
        """As `save`, with the state that `make` returns. It may write files of its own into the folder that it gets."""
        name = f"update-{update:06d}"
        temporary, target = self.path / f".tmp-{name}", self.path / name
        with disk_errors(self.path):
            remove(safe(temporary))
            try:
                make_directory(temporary)
                _write(temporary, make(temporary), self.config)
                remove(target)  # a damaged state that was not used
                os.rename(temporary, target)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
            sync(self.path)
            write_text(self.path / LATEST, name + "\n")
            sync(self.path)
            self._prune(update)

    def states(self, log: Callable[[str], None]) -> Iterator[State]:
        """Every intact state of this config, newest first. Damaged states and those of other configs are logged."""
        for path in self._candidates():
            try:
                document = _document(path)
                if document["config"] != self.config:
                    log(f"{path} belongs to another config and is discarded")
                    continue
                tensors = _tensors(path, document)
                yield State(document["update"], tensors, document["values"], document["versions"], path)
            except DamagedState as error:
                log(f"{path} cannot be used: {error}")

    def newest(self) -> int | None:
        """The number of updates of the newest state that looks intact; its tensors are not read."""
        for path in self._candidates():
            try:
                document = _document(path)
            except DamagedState:
                continue
            if document["config"] == self.config:
                return int(document["update"])
        return None

    def present(self) -> bool:
        """Is there any state, intact or not?"""
        return bool(self._on_disk())

    def _candidates(self) -> list[Path]:
        """The state that `latest` names, then older ones; all states if `latest` is damaged."""
        states, latest = self._on_disk(), self._latest()
        return [states[n] for n in sorted(states, reverse=True) if latest not in states or n <= (latest or 0)]

    def _on_disk(self) -> dict[int, Path]:
        """Number of updates -> path of the state."""
        return {int(m[1]): p for p in self.path.glob("update-*") if (m := _NAME.fullmatch(p.name))}

    def _latest(self) -> int | None:
        try:
            match = _NAME.fullmatch((self.path / LATEST).read_text(encoding="utf-8").strip())
        except (OSError, ValueError):
            return None
        return int(match[1]) if match else None

    def _prune(self, latest: int) -> None:
        states = self._on_disk()
        kept = sorted((n for n in states if n <= latest), reverse=True)[:KEPT]
        for number, path in states.items():
            if number not in kept:
                remove(path)


def _write(folder: Path, state: State, config: str) -> None:
    save_tensors(folder / TENSORS, state.tensors)
    files = sorted(path.name for path in folder.iterdir())
    for name in files:
        sync(folder / name)
    document = {
        "format": FORMAT,
        "version": VERSION,
        "config": config,
        "update": state.update,
        "versions": state.versions,
        "files": seals(folder, files),
        "values": state.values,
    }
    try:
        document = json.loads(json.dumps(document))  # the checksum is of the JSON that a reader parses
    except (TypeError, ValueError) as error:
        raise UserError(
            f"the state after update {state.update} cannot be saved: {error}; state_dict() of an intervention may "
            "only return JSON values (lists, not arrays)"
        ) from None
    write_text(folder / DOCUMENT, json.dumps({**document, "checksum": digest(document)}) + "\n")
    sync(folder)


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a file of tensors. Raises `OSError` if the disk does."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        save_file(contiguous, path)
    except SafetensorError as error:  # its text holds the error number of the system
        if number := re.search(r"os error (\d+)", str(error)):
            raise OSError(int(number[1]), str(error)) from None
        raise


def _document(path: Path) -> dict[str, Any]:
    """Read and check a state's document, and the sizes of its other files. Raises `DamagedState`."""
    try:
        document = json.loads((path / DOCUMENT).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DamagedState(f"it has no {DOCUMENT}") from None
    except (OSError, ValueError) as error:
        raise DamagedState(f"its {DOCUMENT} cannot be read ({error})") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise DamagedState(f"its {DOCUMENT} is not a training state")
    if document.get("version") != VERSION:
        raise RunDirectoryError(
            f"{path} has version {document.get('version')} of the format, this program reads {VERSION}; use the "
            "version of the program that wrote it, or delete it to restart the run from the beginning"
        )
    if document.pop("checksum", None) != digest(document):
        raise DamagedState(f"the checksum of its {DOCUMENT} does not match")
    for name, sealed in document["files"].items():
        file, wanted = path / name, sealed["bytes"]
        size = file.stat().st_size if file.is_file() else 0
        if size != wanted:
            raise DamagedState(f"its {name} has {size} of {wanted} bytes")
    return dict(document)


def _tensors(path: Path, document: Mapping[str, Any]) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    for name, sealed in document["files"].items():
        if content_hash(path / name) != sealed["blake2b"]:
            raise DamagedState(f"the checksum of its {name} does not match")
    return load_file(path / TENSORS)
