"""`controls: auto`: the arms that show what a method's effect is not due to, from what its class says that it needs.

A method lists kinds in `needs` and says by which of its fields it becomes its own control (`shaping.controls`). The
arms have the role control, which is never a treatment, and say which arms they belong to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from envs.calls import call
from launch.config.arms.arms import ArmConfig, Derived
from launch.config.fields import PluginSpec
from launch.config.plugins import INTERVENTION, builtins, load, options_of
from launch.config.study import StudyConfig
from launch.errors import ConfigError, nearest
from shaping.controls import MEANING, ControlKind
from shaping.intervention import Intervention

WITHOUT_SHORTCUT = {"train.worlds.*.loophole": "off"}
"""What makes a world one without its shortcut."""
UNTRAINED = {"train.updates": 0}
_REWARD_MODES = {
    ControlKind.RANDOM_REWARD: "matched",
    ControlKind.SHUFFLED_REWARD: "shuffle",
    ControlKind.EXCHANGED_REWARD: "exchange",
}
"""Control of an arm -> what `RandomReward` pays in it."""


@dataclass(frozen=True)
class Need:
    """A control that an arm needs, and the method that asks for it."""

    arm: str
    kind: ControlKind
    method: str
    """Name of its class; empty where the study lists the kind."""
    index: int
    """Place of the method among the arm's interventions."""
    replaced: PluginSpec | None = None
    """What takes the method's place; None for kinds that are not of a method."""

    @property
    def because(self) -> str:
        asked = f"{self.arm} uses {self.method}" if self.method else f"the study lists it for {self.arm}"
        return f"because {asked}, to tell its effect from {MEANING[self.kind].apart_from}"


def with_controls(study: StudyConfig) -> StudyConfig:
    """The study with an arm for each control that is asked for and that it does not have.

    Raises `ConfigError` for a name that is taken, a method that needs a control without having it, and a kind that no
    arm can have. What has been added before, as study.json records it, stays.
    """
    if study.controls == "written" or any(arm.derived and arm.derived.by == "controls" for arm in study.arms.values()):
        return study
    if own := next((name for name, arm in study.arms.items() if arm.seats), ""):
        raise ConfigError(
            f"controls: arms.{own}.seats has interventions of single seats, whose controls nothing derives: write the "
            "arms of the controls, and set controls to written"
        )
    needs = list(_needs(study))
    if isinstance(study.controls, list) and (idle := set(study.controls) - {need.kind for need in needs}):
        raise ConfigError(f"controls: no arm of the study can have the control {min(idle).value!r}; leave it out")
    arms = dict(study.arms)
    for need in needs:
        if refused(study, need):
            continue
        made = _arm(study, need)
        if twin := next((name for name, arm in arms.items() if _same(arm, made)), ""):
            arms[twin] = _shared(arms[twin], need)
        else:
            arms[_free_name(study, arms, need)] = made
    document = study.model_dump(mode="json")
    document["arms"] = {name: arm.model_dump(mode="json") for name, arm in arms.items()}
    return StudyConfig.model_validate(document)


def control_lines(study: StudyConfig) -> Iterator[str]:
    """For a dry run: every control that was added, with its reason, and those that cannot be had here."""
    added = [(name, arm.derived) for name, arm in study.arms.items() if arm.derived and arm.derived.by == "controls"]
    if study.controls == "written" or not (added or any(True for _ in _needs(study))):
        return
    yield f"controls that were added: {len(added)}"
    yield from (f"  {name}: {derived.why}" for name, derived in added)
    for need in _needs(study):
        if reason := refused(study, need):
            yield f"  no {need.kind.value} for {need.arm}: {reason}"


def refused(study: StudyConfig, need: Need) -> str:
    """Why a control that is needed cannot be made in this study; empty if it can."""
    if need.kind in _REWARD_MODES:
        paid = study.arms[need.arm].reward.use
        if paid != "EnvReward":
            return f"RandomReward deals out the world's reward, and this arm is paid by {paid}"
    if need.kind in (ControlKind.NO_LOOPHOLE, ControlKind.BENIGN):
        for world in _trained_worlds(study):
            if "loophole" not in options_of(world).names:
                return f"the world {world} has no option `loophole` that would take its shortcut away"
    return ""


def _needs(study: StudyConfig) -> Iterator[Need]:
    """What the treatments need that stand in the file; combinations are made of these."""
    listed = study.controls if isinstance(study.controls, list) else []
    for name, arm in study.arms.items():
        if arm.role != "treatment" or arm.derived is not None:
            continue
        methods = _methods(study, name, arm)
        for index, method in methods:
            for kind in listed or _kinds(method):
                if MEANING[kind].scope == "method":
                    if replaced := _replaced(method, arm.interventions[index], kind, needed=not listed):
                        yield Need(name, kind, type(method).__name__, index, replaced)
                elif not listed:
                    yield Need(name, kind, type(method).__name__, index)
        yield from (Need(name, kind, "", 0) for kind in listed if MEANING[kind].scope != "method")


def _kinds(method: Intervention) -> list[ControlKind]:
    """What a method says that it needs. Raises `ConfigError` for what is no kind of control."""
    known = [kind.value for kind in ControlKind]
    for kind in type(method).needs:
        if kind not in known:
            raise ConfigError(
                f"controls: {type(method).__name__}.needs names {str(kind)!r}, which is no kind of control"
                f"{nearest(str(kind), known)}"
            )
    return [ControlKind(kind) for kind in type(method).needs]


def _methods(study: StudyConfig, name: str, arm: ArmConfig) -> list[tuple[int, Intervention]]:
    """(place, intervention) of an arm. In an isolated study only those that are built in are asked."""
    known = builtins(INTERVENTION)
    return [
        (index, load(spec, INTERVENTION, f"arms.{name}.interventions.{index}"))
        for index, spec in enumerate(arm.interventions)
        if not study.isolated or spec.use in known
    ]


def _replaced(method: Intervention, spec: PluginSpec, kind: ControlKind, *, needed: bool) -> PluginSpec | None:
    """The method as its own control. Raises `ConfigError` if it needs one that it does not have."""
    changes = call(ConfigError, method, "control_fields", kind)
    if changes is not None and not isinstance(changes, Mapping):
        raise ConfigError(
            f"controls: {type(method).__name__}.control_fields() returned {changes!r:.80}; it must return a mapping of "
            "fields, or None"
        )
    if changes is None:
        if needed:
            raise ConfigError(
                f"controls: {type(method).__name__} needs the control {kind.value!r}, but its control_fields() has no "
                "setting for it: give it the usual field (docs/plugins.md), or leave the kind out of its `needs`"
            )
        return None
    return PluginSpec(**{"use": spec.use, **spec.fields, **changes})


def _arm(study: StudyConfig, need: Need) -> ArmConfig:
    own = study.arms[need.arm]
    reference = next(arm for arm in study.arms.values() if arm.role == "reference")
    interventions, reward, settings = list(own.interventions), own.reward, dict(own.set)
    match need.kind:
        case kind if kind in _REWARD_MODES:
            reward = PluginSpec(use="RandomReward", mode=_REWARD_MODES[kind])
        case ControlKind.PROMPTED:
            settings |= {**UNTRAINED, "eval.prompted": True}
        case ControlKind.BENIGN:
            settings |= WITHOUT_SHORTCUT
        case ControlKind.BASE | ControlKind.NO_LOOPHOLE:
            interventions, reward = list(reference.interventions), reference.reward
            settings = {**reference.set, **(UNTRAINED if need.kind is ControlKind.BASE else WITHOUT_SHORTCUT)}
        case _:
            assert need.replaced is not None
            interventions[need.index] = need.replaced
    what = MEANING[need.kind].what
    return ArmConfig(
        label=what if MEANING[need.kind].scope == "study" else f"{own.label or need.arm}: {what}",
        role="control",
        interventions=interventions,
        reward=reward,
        set=settings,
        derived=Derived(by="controls", of=[need.arm], kind=need.kind.value, why=need.because),
    )


def _same(arm: ArmConfig, other: ArmConfig) -> bool:
    """Would both train and evaluate alike?"""
    return arm.role != "reference" and all(
        getattr(arm, field) == getattr(other, field) for field in ("interventions", "reward", "set")
    )


def _shared(arm: ArmConfig, need: Need) -> ArmConfig:
    """An arm that serves another treatment, too. One that stands in the file stays as it is."""
    if arm.derived is None or arm.derived.by != "controls" or need.arm in arm.derived.of:
        return arm
    why = f"{arm.derived.why}; {need.because.partition(', to tell')[0]}"
    serves = arm.derived.model_copy(update={"of": [*arm.derived.of, need.arm], "why": why})
    return arm.model_copy(update={"derived": serves})


def _free_name(study: StudyConfig, arms: Mapping[str, ArmConfig], need: Need) -> str:
    """`prompt-irrelevant`, or `base` for a control of the study. Raises `ConfigError` if that name is taken."""
    name = need.kind.value if MEANING[need.kind].scope == "study" else f"{need.arm}-{need.kind.value}"
    if name in study.arms:
        raise ConfigError(f"controls: {need.kind.value!r} would be the arm {name!r}, which exists: rename it")
    return name if name not in arms else f"{name}-{need.index + 1}"


def _trained_worlds(study: StudyConfig) -> list[str]:
    """Every world that some run trains in: those of the study, and those that a point or an arm sets in their place."""
    settings = [*(point.set for point in study.points.values()), *(arm.set for arm in study.arms.values())]
    replaced = [each["train.worlds"] for each in settings if isinstance(each.get("train.worlds"), Mapping)]
    return list(dict.fromkeys(str(world) for worlds in (study.train.worlds, *replaced) for world in worlds))
