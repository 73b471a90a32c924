"""Dotted keys of a nested document: `arms.overseer_penalty.interventions.0.accuracy`."""

from __future__ import annotations

from typing import Any

from launch.errors import ConfigError, nearest


def set_key(document: Any, key: str, value: Any) -> None:
    """Set a value in place.

    All parts but the last must exist, so that a misspelt key creates nothing. A mapping's key may itself contain dots
    (`package.module:Class`): the longest existing key is taken. Raises `ConfigError` for a key that does not exist.
    """
    parts = key.split(".")
    if not all(parts):
        raise ConfigError(f"{key!r}: is not a key; write it as key.path, e.g. train.updates")
    node, start = document, 0
    while True:
        last, start = _step(node, parts, start, key)
        if start == len(parts):
            node[last] = value
            return
        node = node[last]


def keys_below(document: Any, key: str) -> list[str]:
    """The keys that one with a `*` stands for: `train.worlds.*.size` has one for each world."""
    before, star, after = key.partition(".*.")
    if not star:
        return [key]
    node = document
    for part in before.split("."):
        node = node.get(part, {}) if isinstance(node, dict) else {}
    if not isinstance(node, dict) or not node:
        raise ConfigError(f"{key}: {before} holds no keys that the * could stand for")
    return [each for name in node for each in keys_below(document, f"{before}.{name}.{after}")]


def _step(node: Any, parts: list[str], start: int, key: str) -> tuple[Any, int]:
    """The next key or index under `node`, and the number of `parts` up to its end."""
    done = ".".join(parts[:start])
    if isinstance(node, list):
        part = parts[start]
        if not part.isdigit() or int(part) >= len(node):
            raise ConfigError(f"{key}: {done} is a list of {len(node)}; {part!r} is not an index of it")
        return int(part), start + 1
    if isinstance(node, dict):
        for stop in range(len(parts), start, -1):
            if (name := ".".join(parts[start:stop])) in node:
                return name, stop
        if start == len(parts) - 1:
            return parts[start], start + 1
        where = ".".join(parts[: start + 1])
        raise ConfigError(f"{key}: unknown key {where}{nearest(parts[start], node)}")
    raise ConfigError(f"{key}: {done} holds the value {node!r}, which has no keys")
