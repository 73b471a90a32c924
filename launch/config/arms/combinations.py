"""Do the interventions of combined arms go together? Asked when a study is loaded, before anything runs."""

from __future__ import annotations

from itertools import combinations

from launch.config.plugins import INTERVENTION, builtins, load
from launch.config.study import ArmConfig, StudyConfig
from launch.errors import ConfigError
from shaping.arm import compose
from shaping.hooks import InterventionError
from shaping.intervention import Intervention


def check_combinations(study: StudyConfig) -> None:
    """Raises `ConfigError` that names two arms of the factorial whose interventions own one knob.

    Of an isolated study only the built-in ones are looked at here; its dry run builds the others, apart.
    """
    if not study.factorial:
        return
    built = {name: _built(study, name, study.arms[name]) for name in study.factorial}
    for one, other in combinations(built, 2):
        for name in (one, other):
            try:
                compose(name, built[name])
            except InterventionError as error:
                raise ConfigError(f"arms.{name}: {error}") from None
        try:
            compose(f"{one}+{other}", [*built[one], *built[other]])
        except InterventionError as error:
            raise ConfigError(f"factorial: {one!r} and {other!r} cannot be combined: {error}") from None


def _built(study: StudyConfig, name: str, arm: ArmConfig) -> list[Intervention]:
    known = builtins(INTERVENTION)
    return [
        load(spec, INTERVENTION, f"arms.{name}.interventions.{index}")
        for index, spec in enumerate(arm.interventions)
        if not study.isolated or spec.use in known
    ]
