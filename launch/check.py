"""`shaping check`: put a world, built in or anyone's, through `envs.check.check_env`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from envs.check import RuleResult, check_env
from launch.config.loading import parse_yaml
from launch.config.plugins import build_world
from launch.errors import UserError
from launch.preflight import run_within


def check_world(
    name: str,
    options: Sequence[str] = (),
    *,
    actions: Sequence[str] = (),
    seeds: int = 3,
    step_seconds: float = 0.01,
    patience: float = 60.0,
) -> list[RuleResult]:
    """One result per rule for a world named as in a config, with `KEY=VALUE` options.

    Raises `UserError` for a name or an option that is wrong, and for a world that hangs or raises where no rule is
    about it.
    """
    chosen = _options(options)
    build_world(name, chosen, "check").close()
    found: list[RuleResult] = []

    def judge() -> None:
        found.extend(
            check_env(
                lambda: build_world(name, chosen, "check"), range(seeds), actions=actions, step_seconds=step_seconds
            )
        )

    try:
        run_within(patience, judge)
    except UserError:
        raise
    except TimeoutError:
        raise UserError(f"check.{name}: no end after {patience:.0f} s: does reset() or step() hang?") from None
    except Exception as error:
        raise UserError(f"check.{name}: the world raised {type(error).__name__}: {error}") from error
    return found


def _options(pairs: Sequence[str]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not (key and sign):
            raise UserError(f"option {pair!r} is not of the form key=value, e.g. size=4")
        options[key] = parse_yaml(value, f"option {pair!r}")
    return options
