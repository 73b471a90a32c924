"""The claims of a study: built from its config, and checked against its arms, axes and metrics."""

from __future__ import annotations

from typing import Any

from launch.config.plugins import CLAIM, load
from launch.config.study import PluginSpec, StudyConfig
from launch.errors import ConfigError


def build_claims(study: StudyConfig) -> list[Any]:
    """Every `launch.report.claims.base.Claim` of the study, in order.

    Raises `ConfigError` that lists, under its key, everything that the study does not have, and `PluginError` for a
    claim that does not load.
    """
    claims, problems = [], []
    for name, spec in study.claims.items():
        where = f"claims.{name}"
        if "id" in spec.fields:
            raise ConfigError(f"{where}.id: the key {name!r} is the claim's id; leave this out")
        claim = load(PluginSpec(use=spec.use, id=name, **spec.fields), CLAIM, where)
        problems += [f"{where}.{problem}" for problem in claim.problems(study)]
        claims.append(claim)
    if problems:
        raise ConfigError("\n".join(problems))
    return claims
