"""Old names in a study: each is refused with its new name, so that no old file is misread."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from launch.errors import ConfigError

KEYS = {
    "organism": "model (a directory, a hub id, or {organism: {...}})",
    "train.learners": "train.learner_group",
    "train.learner_group.room": "train.learner_group.placement_timeout",
    "learner.credit": "learner.advantage_level",
    "learner.average": "learner.loss_aggregation",
    "learner.average_length": "learner.aggregation_length",
    "learner.critic.lam": "learner.critic.gae_lambda",
}
"""Old dotted key -> new key."""
VALUES = {
    "learner.kl_context": {"acting": "sampling", "learning": "training"},
}
"""Dotted key -> old value -> new value."""
PLUGINS = {"Outcome": "EnvReward"}
"""Old class of a plug-in -> new class."""
FIELDS = {("Recontextualization", "generation"): "sampling"}
"""(plug-in, old field) -> new field."""
FIELD_VALUES = {
    ("Inoculation", "at"): {"update": "training"},
    ("Inoculation", "ratio"): {"cross": "sampler", "recompute": "recomputed"},
    ("Recontextualization", "ratio"): {"cross": "sampler", "recompute": "recomputed"},
}
"""(plug-in, field) -> old value -> new value."""


def refuse_renamed(document: Mapping[str, Any], source: str) -> None:
    """Raise `ConfigError` that lists every old name in `document` with its new one."""
    lines = [*_keys(document), *(line for use in _plugins(document) for line in _plugin(*use))]
    if lines:
        raise ConfigError("\n".join(f"{source}: {line}" for line in lines))


def refuse_renamed_key(key: str, source: str) -> None:
    """Raise `ConfigError` if the dotted key of an override or an axis is an old one."""
    for old, new in KEYS.items():
        if key == old or key.startswith(f"{old}."):
            raise ConfigError(f"{source}: {old} was renamed: write {new}")


def _keys(document: Mapping[str, Any]) -> Iterator[str]:
    for old, new in KEYS.items():
        if _at(document, old) is not _ABSENT:
            yield f"{old} was renamed: write {new}"
    for key, values in VALUES.items():
        value = _at(document, key)
        if isinstance(value, str) and value in values:
            yield f"{key}: {value!r} was renamed: write {values[value]!r}"


def _plugins(document: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """(where, name, fields) of every plug-in of the arms."""
    arms = document.get("arms")
    for name, arm in arms.items() if isinstance(arms, Mapping) else ():
        if not isinstance(arm, Mapping):
            continue
        listed = arm.get("interventions")
        specs = [(f"interventions.{i}", spec) for i, spec in enumerate(listed if isinstance(listed, list) else [])]
        for where, spec in [*specs, ("reward", arm.get("reward"))]:
            if isinstance(spec, str):
                yield f"arms.{name}.{where}", spec, {}
            elif isinstance(spec, Mapping) and isinstance(spec.get("use"), str):
                yield f"arms.{name}.{where}", spec["use"], spec


def _plugin(where: str, use: str, fields: Mapping[str, Any]) -> Iterator[str]:
    if use in PLUGINS:
        yield f"{where}: {use} was renamed: write {PLUGINS[use]}"
    for field, value in fields.items():
        if new := FIELDS.get((use, field)):
            yield f"{where}.{field} was renamed: write {new}"
        values = FIELD_VALUES.get((use, field), {})
        if isinstance(value, str) and value in values:
            yield f"{where}.{field}: {value!r} was renamed: write {values[value]!r}"


_ABSENT = object()


def _at(document: Any, key: str) -> Any:
    for part in key.split("."):
        if not isinstance(document, Mapping) or part not in document:
            return _ABSENT
        document = document[part]
    return document
