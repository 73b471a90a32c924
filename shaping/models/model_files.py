"""The files that a model is made of: their hashes, and whether its weights are whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

_PATTERNS = (
    *("*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json"),
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt", "*.model"),
    *("chat_template*", "additional_chat_templates/*"),
)
"""Weights, config, tokenizer and chat template. Cards and other notes in the directory are no part of the model."""
INDEX = "model.safetensors.index.json"
"""Says in which files weights stand that are more than one file."""
_HEAD = 8
"""Bytes that hold the length of the header of a safetensors file."""
_hashed: dict[Path, tuple[list[tuple[str, int, int]], dict[str, str]]] = {}


def hashes(directory: Path) -> dict[str, str]:
    """File name -> hash of its bytes, for every file of the model.

    Files are read as streams, once per process unless their size or time changes.
    """
    files = {path.relative_to(directory).as_posix(): path for path in sorted(set(_files(directory)))}
    states = [(name, path.stat().st_size, path.stat().st_mtime_ns) for name, path in files.items()]
    key = directory.resolve()
    if key not in _hashed or _hashed[key][0] != states:
        _hashed[key] = states, {name: content_hash(path) for name, path in files.items()}
    return dict(_hashed[key][1])


def content_hash(path: Path) -> str:
    """Hash of a file's bytes, read as a stream."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def changed(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """The files that differ between two answers of `hashes`, each with how."""
    names = sorted({*before, *now})
    how = {name: "is missing" if name not in now else "is new" if name not in before else "differs" for name in names}
    return [f"{name} {how[name]}" for name in names if before.get(name) != now.get(name)]


def indexed_weights(directory: Path) -> set[str] | None:
    """Names of the weight files that the index names; None if there is no index."""
    path = directory / INDEX
    return set(json.loads(path.read_text(encoding="utf-8")).get("weight_map", {}).values()) if path.is_file() else None


def damaged_weights(directory: Path) -> str:
    """The first weight file that is cut off or damaged, and how; empty if all are as long as they say."""
    for path in sorted(directory.glob("*.safetensors")):
        if how := _damage(path):
            return f"{path} {how}"
    return ""


def shapes(directory: Path) -> dict[str, list[int]]:
    """Tensor name -> shape, from the headers of the weight files."""
    found: dict[str, list[int]] = {}
    for path in sorted(directory.glob("*.safetensors")):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(_HEAD), "little")))
        found |= {name: list(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}
    return found


def float_types(directory: Path) -> set[str]:
    """The floating-point types of a model's weights as safetensors calls them, from the headers of its files."""
    found: set[str] = set()
    for path in sorted(directory.glob("*.safetensors")):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(_HEAD), "little")))
        found |= {entry["dtype"] for name, entry in header.items() if name != "__metadata__"}
    return {kind for kind in found if "F" in kind}


def _files(directory: Path) -> Iterator[Path]:
    for pattern in _PATTERNS:
        for path in directory.glob(pattern):
            if path.is_file() and not path.name.startswith("."):
                yield path


def _damage(path: Path) -> str:
    """How a safetensors file is damaged, from its header and its size; its tensors are not read."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_HEAD), "little")
        if size < _HEAD or length > size - _HEAD:
            return f"is cut off: it has {size} bytes, which do not hold its header"
        try:
            header = json.loads(file.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
            expected = _HEAD + length + max(ends, default=0)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
            return "is damaged: its header is not that of a safetensors file"
    return f"is cut off: it has {size} of {expected} bytes" if size < expected else ""
