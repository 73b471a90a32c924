"""The claims of a study: built from its config, and checked against its arms, axes and metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from envs.text import message_of
from launch.config.model import speaks_dialect
from launch.config.plugins import CLAIM, PluginError, load
from launch.config.study import PluginSpec, StudyConfig
from launch.config.world_locales import spoken
from launch.errors import ConfigError, UserError

_METRICS = ("metrics", "metric", "harm")
"""Fields of claims that name metrics."""


def build_claims(study: StudyConfig) -> list[Any]:
    """Every `launch.report.claims.base.Claim` of the study, in order.

    Raises `ConfigError` that lists, under its key, everything that the study does not have, and `PluginError` for a
    claim that does not load.
    """
    claims, problems, said = [], [], _names_in(study)
    for name, spec in study.claims.items():
        where = f"claims.{name}"
        if "id" in spec.fields:
            raise ConfigError(f"{where}.id: the key {name!r} is the claim's id; leave this out")
        fields = {key: said(value) if key in _METRICS else value for key, value in spec.fields.items()}
        claim = load(PluginSpec(use=spec.use, id=name, **fields), CLAIM, where)
        problems += [f"{where}.{problem}" for problem in _problems(claim, study)]
        claims.append(claim)
    if problems:
        raise ConfigError("\n".join(problems))
    return claims


def _problems(claim: Any, study: StudyConfig) -> list[str]:
    """What `problems` gives. Raises `PluginError` if it raises, or gives anything but texts."""
    who = f"claims.{claim.id}: {type(claim).__name__}.problems()"
    try:
        found = list(claim.problems(study))
    except (UserError, KeyboardInterrupt):
        raise
    except Exception as error:
        raise PluginError(f"{who} raised {type(error).__name__}: {message_of(error)}") from error
    if wrong := [each for each in found if not isinstance(each, str)]:
        raise PluginError(f"{who} gave {wrong[0]!r:.80}; it must give texts, `field: what is wrong`")
    return found


def _names_in(study: StudyConfig) -> Callable[[Any], Any]:
    """What a claim says of metrics, with the names that worlds have in the study.

    A study may start from another model than its author had in mind, which decides in which words worlds speak:
    `deception.steward` is then of `steward@en-prose`.
    """
    if speaks_dialect(study.model):
        return lambda value: value
    worlds = {world for run in study.runs() for world in (*run.train.worlds, *run.eval.worlds)}

    def said(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [said(one) for one in value]
        metric, dot, world = value.rpartition(".") if isinstance(value, str) else ("", "", "")
        (name,) = spoken({world: {}}, dialect=False)
        return f"{metric}.{name}" if dot and world not in worlds and name in worlds else value

    return said
