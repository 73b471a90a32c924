"""From names in a config to objects: built-ins, entry points, `package.module:Class` and `./module.py:Class`."""

from __future__ import annotations

import importlib
import inspect
import os
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ValidationError

from envs import limits
from envs.discovery import subclasses
from envs.limits import NoAnswerError, within
from envs.modules import own_modules
from envs.options import Declared, declared_options
from envs.text import message_of
from launch.config.arms.seats import SeatsConfig
from launch.config.isolation import Isolation
from launch.config.reading.conversions import conversions
from launch.config.study import ArmConfig, EvalConfig, PluginSpec
from launch.errors import ConfigError, UserError, describe, nearest
from launch.isolation.standins import isolated
from shaping.hook_names import misspelt_hook

if TYPE_CHECKING:
    from envs.core import TextEnv
    from shaping.arm import Arm
    from shaping.hooks import RatioMode
    from shaping.sampling.text.split import Splitter


class PluginError(UserError):
    """A plug-in does not import, does not exist, or breaks its contract."""


@dataclass(frozen=True)
class Kind:
    """One sort of plug-in, which is a class."""

    noun: str
    group: str
    """Group of the entry points by which installed packages offer theirs."""
    base: str
    """What it must subclass, as `module:Class`."""
    packages: tuple[str, ...]
    """Packages whose modules hold the built-in ones, one file each."""

    def base_class(self) -> type:
        module, _, name = self.base.partition(":")
        return getattr(importlib.import_module(module), name)


INTERVENTION: Final = Kind(
    "intervention",
    "shaping.interventions",
    "shaping.intervention:Intervention",
    ("shaping.shapers", "shaping.constraints"),
)
REWARD: Final = Kind("reward", "shaping.rewards", "rewards.base:Reward", ("rewards",))
MONITOR: Final = Kind("monitor", "shaping.monitors", "shaping.monitors.base:Monitor", ("shaping.monitors",))
WORLD: Final = Kind("world", "shaping.envs", "envs.core:TextEnv", ("envs.worlds",))
CLAIM: Final = Kind("claim", "shaping.claims", "launch.report.claims.base:Claim", ("launch.report.claims",))
SECTION: Final = Kind("section", "shaping.sections", "launch.report.sections.base:Section", ("launch.report.sections",))
KINDS: Final = (WORLD, INTERVENTION, REWARD, MONITOR, CLAIM, SECTION)
IMPORT_SECONDS: Final = 60.0
"""Seconds that the import of a plug-in's module may take."""
BUILD_SECONDS: Final = 600.0
"""Seconds that the constructor of a plug-in may take; one that loads a model needs minutes."""
_HANGS: Final = f"has not been imported within {IMPORT_SECONDS:.0f} s: does it wait for something?"
_WITH_HOOKS: Final = (REWARD, MONITOR, CLAIM, SECTION)
"""Kinds whose misspelt methods are refused here. `shaping.arm.compose` and `envs.check` look at the others."""


def builtins(kind: Kind) -> dict[str, type]:
    """Name -> class of what ships with the framework, found by scanning. Worlds go by their own `name` ("steward")."""
    try:
        if kind is WORLD:
            from envs import SURVEYS, WORLDS

            return {**WORLDS, **SURVEYS}
        found: dict[str, type] = {}
        for package in kind.packages:
            found |= subclasses(package, kind.base_class())
    except Exception as error:
        raise PluginError(f"the built-in {kind.noun}s cannot be listed: {_brief(error)}") from error
    return found


def installed(kind: Kind) -> dict[str, EntryPoint]:
    """Entry points that other packages register for this kind."""
    return {point.name: point for point in entry_points(group=kind.group)}


def find_class(use: str, kind: Kind) -> type:
    """The class that a config names. Modules in the current directory are found, too."""
    if ":" in use:
        found = import_class(use, kind.noun)
    elif use in (known := builtins(kind)):
        found = known[use]
    elif use in (points := installed(kind)):
        try:
            found = within(IMPORT_SECONDS, points[use].load)
        except NoAnswerError:
            raise PluginError(f"{kind.noun} {use!r} ({points[use].value}) {_HANGS}") from None
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a module may call sys.exit()
            raise PluginError(f"{kind.noun} {use!r} ({points[use].value}) does not load: {_brief(error)}") from error
    else:
        raise PluginError(
            f"unknown {kind.noun} {use!r}{nearest(use, [*known, *points])}; "
            f"your own is named as package.module:Class or ./module.py:Class, `shaping list` shows the others"
        )
    base = kind.base_class()
    if not isinstance(found, type) or not issubclass(found, base):
        raise PluginError(f"{kind.noun} {use!r}: it is not a subclass of {base.__module__}.{base.__name__}")
    if kind in _WITH_HOOKS and (fault := misspelt_hook(found, base)):
        raise PluginError(f"{kind.noun} {use!r}: {fault}")
    return found


def kind_of(use: str, kinds: Sequence[Kind]) -> Kind:
    """Which of `kinds` it is that a config would name so."""
    if ":" in use:
        found = import_class(use, "plug-in")
        for kind in kinds:
            if isinstance(found, type) and issubclass(found, kind.base_class()):
                return kind
        raise PluginError(f"plug-in {use!r} is none of these: {', '.join(kind.noun for kind in kinds)}")
    names = {kind: {*builtins(kind), *installed(kind)} for kind in kinds}
    for kind, known in names.items():
        if use in known:
            return kind
    every = [name for known in names.values() for name in known]
    raise PluginError(
        f"unknown plug-in {use!r}{nearest(use, every)}; your own is named as package.module:Class or ./module.py:Class"
    )


def import_class(use: str, noun: str) -> Any:
    """What `package.module:Class` or `./module.py:Class` names. `noun` says in messages what it was meant to be."""
    module, class_name = own_modules.split(use)
    if module in ("__main__", "__mp_main__"):
        raise PluginError(
            f"{noun} {use!r}: {module} is the program that was started, which is another one in each worker: put "
            "the class into a module of its own, and name that"
        )
    try:
        found = within(IMPORT_SECONDS, lambda: own_modules.import_module(module, class_name))
        return own_modules.class_in(found, module, class_name)
    except NoAnswerError:
        raise PluginError(f"{noun} {use!r}: module {module!r} {_HANGS}") from None
    except own_modules.OwnModuleError as error:
        raise PluginError(f"{noun} {use!r}: {error}") from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a module may call sys.exit()
        missing = own_modules.not_found(error, module)
        raise PluginError(f"{noun} {use!r}: module {module!r} does not import: {_brief(error)}{missing}") from error


def load(spec: PluginSpec, kind: Kind, where: str, isolation: Isolation | None = None, arm: str = "") -> Any:
    """Build a plug-in with its fields. `where` (a dotted key) goes into the message if that fails.

    With `isolation`, one that is not built in is neither imported nor built here, but in a process of its own.
    """
    if isolation is not None and spec.use not in builtins(kind):
        return isolated(kind.noun, spec.use, spec.fields, where, arm, isolation)
    try:
        found = find_class(spec.use, kind)
    except PluginError as error:
        raise PluginError(f"{where}: {error}") from error.__cause__
    place = f"{where} ({spec.use})"
    try:
        return within(BUILD_SECONDS, lambda: _build(found, spec.fields, place))
    except NoAnswerError:
        raise PluginError(f"{place}: it has not been built within {BUILD_SECONDS:.0f} s: does it hang?") from None


def _build(found: type, fields: Mapping[str, Any], where: str) -> Any:
    try:
        built = found(**fields)
        if converted := list(conversions(fields, _settings(built))):
            raise ConfigError(_under(where, "\n".join(converted)))
        return built
    except ValidationError as error:
        model = found if issubclass(found, BaseModel) else getattr(found, "Options", BaseModel)
        raise ConfigError(_under(where, describe(error, model))) from None
    except (UserError, KeyboardInterrupt):
        raise
    except ValueError as error:  # how worlds refuse an option
        raise ConfigError(f"{where}: {message_of(error)}") from error
    except BaseException as error:  # a constructor may call sys.exit()
        raise PluginError(f"{where}: it cannot be built: {_brief(error)}") from error


def _settings(built: Any) -> Any:
    """Where a plug-in's fields are found once it is built: in itself, or in the options of a world."""
    return built if isinstance(built, BaseModel) else getattr(built, "options", None)


def build_arm(
    name: str,
    config: ArmConfig,
    isolation: Isolation | None = None,
    ratio: RatioMode | None = None,
    seats: SeatsConfig | None = None,
) -> Arm:
    """The arm's interventions, checked for conflicts; `ratio` (`learner.ratio`) overrides their ratio mode."""
    from shaping.arm import compose
    from shaping.hooks import InterventionError
    from shaping.seated_arm import compose_seats

    def of(specs: Sequence[PluginSpec], where: str) -> list[Any]:
        return [load(spec, INTERVENTION, f"{where}.{index}", isolation, name) for index, spec in enumerate(specs)]

    built = of(config.interventions, f"arms.{name}.interventions")
    try:
        if seats is not None:
            own = {seat: of(specs, f"arms.{name}.seats.{seat}") for seat, specs in config.seats.items()}
            return compose_seats(name, built, own, seats.learned, ratio=ratio)
        return compose(name, built, ratio=ratio)
    except InterventionError as error:
        raise PluginError(str(error)) from None


def build_reward(name: str, config: ArmConfig, isolation: Isolation | None = None) -> Any:
    """What pays in this arm (a `rewards.Reward`)."""
    return load(config.reward, REWARD, f"arms.{name}.reward", isolation, name)


def build_monitors(config: EvalConfig) -> list[Any]:
    """The monitors (`shaping.monitors.Monitor`) that read the evaluation."""
    return [load(spec, MONITOR, f"eval.monitors.{index}") for index, spec in enumerate(config.monitors)]


def build_splitter(name: str) -> Splitter:
    """What splits completions into motive and action, by the name that `rollout.splitter` gives it."""
    from shaping.sampling.text.split import SPLITTERS, Splitter

    if name in SPLITTERS:
        return SPLITTERS[name]()
    where = "rollout.splitter"
    try:
        found = import_class(name, "splitter")
    except PluginError as error:
        raise PluginError(f"{where}: {error}") from error.__cause__
    if not (isinstance(found, type) and issubclass(found, Splitter)):
        known = ", ".join(SPLITTERS)
        raise PluginError(
            f"{where}: {name!r} is no subclass of shaping.sampling.text.split.Splitter; built-in ones: {known}"
        )
    built: Splitter = _build(found, {}, f"{where} ({name})")
    return built


def options_of(name: str) -> Declared:
    """The options that a world declares, by the name that a config calls it."""
    return declared_options(find_class(name.partition("@")[0], WORLD))


def build_world(name: str, options: Mapping[str, Any], where: str = "worlds") -> TextEnv:
    """A world by built-in name, entry point or package.module:Class, with its options; `@` and a cell for a skin."""
    from envs.skins import check_takes_locale, resolve
    from envs.worlds.base import World

    try:
        base, given = resolve(name, options)
        found = find_class(base, WORLD)
        check_takes_locale(name, found)
    except PluginError as error:
        raise PluginError(f"{where}: {error}") from error.__cause__
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None
    declared = declared_options(found)
    if not issubclass(found, World) and (unknown := declared.unknown(given)):  # built-in ones tell it themselves
        known = f"its options are {', '.join(declared.names)}" if declared.names else "it has none"
        raise ConfigError(f"{where}.{name}: the world has no option {unknown[0]!r}; {known}")
    world: TextEnv = _build(found, given, f"{where}.{name}")
    return world


def one_line(found: Any) -> str:
    """The first line of a docstring."""
    return (inspect.getdoc(found) or "").partition("\n")[0]


def _brief(error: BaseException) -> str:
    """The error and the line of the user's code that raised it, without the frames of the import machinery."""
    frames = [
        f
        for f in traceback.extract_tb(error.__traceback__)
        if not f.filename.startswith(("<frozen", __file__, own_modules.__file__, limits.__file__))
    ]
    frames = [f for f in frames if os.sep + "importlib" + os.sep not in f.filename]
    place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    if isinstance(error, SyntaxError) and error.filename:
        place = f" ({error.filename}, line {error.lineno})"
    return f"{type(error).__name__}: {error.msg if isinstance(error, SyntaxError) else message_of(error)}{place}"


def _under(where: str, lines: str) -> str:
    return "\n".join(f"{where}: {line}" for line in lines.splitlines())
