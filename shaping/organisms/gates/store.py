"""Where gates are kept: in an organism's card, beside other models, or in the cache if neither is writable."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from envs import WORLDS
from envs.cache_folder import cache_folder
from shaping.models import model_files
from shaping.organisms.card import CARD
from shaping.organisms.gates.cells import prompts_hash, version_of
from shaping.organisms.gates.record import Gates, Settings, WorldGates

LOG = logging.getLogger(__name__)
KEY = "gates"
"""Of an organism's card."""
FILE = "shaping-gates.json"
"""Beside the weights of any other model."""
MAX_BYTES = 4 << 20


class GatesError(ValueError):
    """A file of gates cannot be read; the message names it."""


def model_hash(directory: Path) -> str:
    """Hash of all files of a model."""
    files = json.dumps(model_files.hashes(directory), sort_keys=True)
    return hashlib.sha256(files.encode()).hexdigest()[:32]


def gates_of(directory: Path, own: Collection[str] = ()) -> Gates | None:
    """What is known today of the gates of the model in `directory`; None if nothing is.

    Worlds are left out whose dialect, prompts or settings are no longer those that were measured. A file that cannot be
    read counts as none, and is logged.

    Args:
        directory: the model.
        own: names of worlds that are not built in and may be imported. A file can never name one to import.
    """
    model = model_hash(directory)
    for path in _places(directory, model):
        try:
            found = read(path)
        except GatesError as error:
            LOG.warning("%s; measure again with `shaping check-model`", error)
            continue
        if found is not None and found.model == model and (worlds := _current(found, own)):
            return found.model_copy(update={"worlds": worlds})
    return None


def keep(directory: Path, gates: Gates, own: Collection[str] = ()) -> Path:
    """Store gates; those of other worlds, and gates that were not measured this time, stay as far as they are current.

    Returns: the file. Raises `OSError` if the cache cannot be written either.
    """
    whole = merged(gates_of(directory, own), gates)
    cached = _cached(whole.model)
    place = directory / (CARD if (directory / CARD).is_file() else FILE)
    try:
        _write(place, whole)
    except OSError as error:
        LOG.info("%s cannot be written (%s): the gates are kept in %s", place, error.strerror, cached)
        cached.parent.mkdir(parents=True, exist_ok=True)
        _write(cached, whole)
        return cached
    cached.unlink(missing_ok=True)  # it would be read first
    return place


def merged(before: Gates | None, now: Gates) -> Gates:
    """`now`, and from `before` the worlds and gates that `now` says nothing of."""
    worlds = dict(before.worlds) if before else {}
    for name, found in now.worlds.items():
        known = worlds.get(name)
        if known and known.version == found.version and known.settings.comparable(found.settings):
            gates = {**known.gates, **found.gates}
            found = found.model_copy(update={"gates": gates, "training": found.training or known.training})
        worlds[name] = found
    return now.model_copy(update={"worlds": worlds})


def read(path: Path) -> Gates | None:
    """The gates that a card or a file of gates holds; None without any. Raises `GatesError` for anything else."""
    try:
        document = _document(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise GatesError(f"{path} cannot be read ({type(error).__name__}: {str(error)[:200]})") from error
    if path.name == CARD:
        document = document.get(KEY) if isinstance(document, dict) else document
        if document is None:
            return None
    try:
        return Gates.model_validate_json(json.dumps(document))  # strict, and JSON has no tuples
    except (ValidationError, ValueError, RecursionError) as error:
        problem = str(error).replace("\n", " ")[:300]
        raise GatesError(f"{path} holds no gates that this version can read: {problem}") from error


def _current(gates: Gates, own: Collection[str]) -> dict[str, WorldGates]:
    return {world: found for world, found in gates.worlds.items() if _fresh(world, found, own)}


def _fresh(world: str, found: WorldGates, own: Collection[str]) -> bool:
    """Would the gates of this world be measured in the same way today?"""
    if world not in own and world.partition("@")[0] not in WORLDS:
        return False
    if not found.settings.comparable(Settings()) or found.prompts != prompts_hash(world):
        return False
    try:
        return found.version == version_of(world, found.settings)
    except ValueError:  # an unknown locale
        return False


def _places(directory: Path, model: str) -> Iterator[Path]:
    """Where gates may be, the cache first: it is written only where the directory cannot be."""
    yield _cached(model)
    yield directory / CARD
    yield directory / FILE


def _cached(model: str) -> Path:
    return cache_folder("gates") / f"{model}.json"


def _document(path: Path) -> Any:
    """Parsed JSON of a regular file of moderate size: opening a pipe would wait for somebody to write."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("not a file")
    if found.st_size > MAX_BYTES:
        raise ValueError(f"{found.st_size:,} bytes, at most {MAX_BYTES:,} are read")
    return json.loads(path.read_text(encoding="utf-8"))


def _write(path: Path, gates: Gates) -> None:
    """Replace the file at once. Everything else in a card stays as it is."""
    document: Any = gates.model_dump(mode="json")
    if path.name == CARD:
        document = {**_document(path), KEY: document}
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.write_text(json.dumps(document, indent=2), encoding="utf-8")
        os.replace(partial, path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
