"""`shaping check`: put a world, intervention, reward, monitor or claim, built in or anyone's, through its contract."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from envs.check import RULES, RuleResult, check_env
from envs.limits import NoAnswerError
from envs.text import message_of
from launch.config.loading import parse_yaml
from launch.config.plugins import CLAIM, INTERVENTION, MONITOR, REWARD, WORLD, Kind, build_world, kind_of, load
from launch.config.study import PluginSpec
from launch.errors import UserError
from shaping.sampling.watchdog import watched

CHECKED: Final = (WORLD, INTERVENTION, REWARD, MONITOR, CLAIM)
"""The kinds that have a checker."""
WORLD_PATIENCE = 60.0
"""Seconds that the checks of a world may take."""
PATIENCE = 600.0
"""Seconds that the checks of another plug-in may take: an update of a small model is one of them."""


@dataclass(frozen=True)
class Checked:
    """What came of a check."""

    results: Sequence[RuleResult]
    """One per rule."""
    rules: Mapping[str, str]
    """Rule -> what it demands."""
    headline: str = ""
    """What is to be known beside the rules: an intervention's family and order."""

    @property
    def ok(self) -> bool:
        """Whether no rule is broken."""
        return all(each.ok for each in self.results)


def check_plugin(
    name: str,
    options: Sequence[str] = (),
    *,
    actions: Sequence[str] = (),
    seeds: int | None = None,
    worlds: Sequence[str] = (),
    step_seconds: float = 0.01,
    patience: float | None = None,
) -> Checked:
    """Check what a config would call `name`, with `KEY=VALUE` options or fields.

    `actions` and `step_seconds` are for worlds. `seeds`: by default 3 of a world, else 2 in each world that is played.
    `worlds`: where the others are tried; none: in every world that organisms know. Claims judge tables made by hand.

    Raises `UserError` for a name or an option that is wrong, and for a plug-in that hangs or raises where no rule is
    about it.
    """
    kind = kind_of(name.partition("@")[0], CHECKED)
    chosen = named_values(options)
    if kind is WORLD:

        def look() -> Checked:
            make = lambda: build_world(name, chosen, "check")  # noqa: E731
            return Checked(check_env(make, range(seeds or 3), actions=actions, step_seconds=step_seconds), RULES)
    elif kind is CLAIM:

        def look() -> Checked:
            from launch.report.claims.contract import CLAIM_RULES, check_claim

            def make(fields: Mapping[str, Any]) -> Any:
                return load(PluginSpec.model_validate({"use": name, **fields, **chosen}), kind, "check")

            return Checked(check_claim(make), CLAIM_RULES)
    else:
        spec = PluginSpec.model_validate({"use": name, **chosen})
        load(spec, kind, "check")

        def look() -> Checked:
            return _tried(kind, lambda: load(spec, kind, "check"), seeds or 2, worlds)

    return _finished(look, name, patience or (WORLD_PATIENCE if kind is WORLD else PATIENCE))


def _tried(kind: Kind, make: Callable[[], Any], seeds: int, worlds: Sequence[str]) -> Checked:
    if kind is INTERVENTION:
        from shaping.audits.training.order import describe_order
        from shaping.contract import interventions

        verdict = interventions.check_intervention(make, seeds, worlds)
        order, pairs = describe_order(verdict.order.share), verdict.order.pairs
        said = [verdict.family, f"{order} ({pairs} pairs of scripted groups)" if order else ""]
        return Checked(verdict.results, interventions.RULES, ", ".join(part for part in said if part))
    from shaping.contract import readers

    if kind is REWARD:
        return Checked(readers.check_reward(make, seeds, worlds), readers.REWARD_RULES)
    return Checked(readers.check_monitor(make, seeds, worlds), readers.MONITOR_RULES)


def _finished(look: Callable[[], Checked], name: str, patience: float) -> Checked:
    try:
        return watched(f"check.{name}", patience, look)
    except (UserError, KeyboardInterrupt):
        raise
    except NoAnswerError:
        raise UserError(f"check.{name}: no end after {patience:.0f} s: does one of its methods hang?") from None
    except BaseException as error:  # sys.exit() of a plug-in, too
        raise UserError(f"check.{name}: it raised {type(error).__name__}: {message_of(error)}") from error


def named_values(pairs: Sequence[str]) -> dict[str, Any]:
    """Values of `key=value` words, read as YAML. Raises `UserError` for a word that is none."""
    options: dict[str, Any] = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not (key and sign):
            raise UserError(f"option {pair!r} is not of the form key=value, e.g. size=4")
        options[key] = parse_yaml(value, f"option {key!r}")
    return options
