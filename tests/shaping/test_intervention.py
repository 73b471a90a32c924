"""The contract of plug-ins: neutral defaults, one owner per knob, nothing silently ignored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations_with_replacement
from typing import Any, ClassVar

import numpy as np
import pytest
from plugin_settings import needed
from pydantic import PrivateAttr, ValidationError

import shaping.constraints
import shaping.shapers
from envs.discovery import subclasses
from envs.episode import Context, Episode
from shaping.arm import compose
from shaping.hooks import (
    ActionDecision,
    ActivationEdit,
    Gates,
    Group,
    GroupInfo,
    InterventionError,
    Knob,
    Phase,
    TurnContext,
)
from shaping.intervention import Constraint, Intervention, Shaper

MakeEpisode = Callable[..., Episode]
BUILT_IN: list[type[Intervention]] = [
    *subclasses("shaping.shapers", Shaper).values(),
    *subclasses("shaping.constraints", Constraint).values(),
]
HOOK_OF = {
    Knob.SAMPLING_CONTEXT: "sampling_context",
    Knob.TRAINING_CONTEXT: "training_context",
    Knob.RATIO: "ratio_mode",
    Knob.GATES: "gates",
    Knob.ACTIONS: "allow",
}
BRIEF = GroupInfo("steward", seed=3, group=1, update=0)
TURN = TurnContext("steward", seed=3, turn=0, observation="", overt_shortcuts=("grab 2",))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def group_of(episodes: Sequence[Episode]) -> Group:
    returns = np.array([e.proxy_return for e in episodes])
    return Group(tuple(e.redacted() for e in episodes), returns, returns - returns.mean())


class Edit(Shaper):
    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.TRAINING_EDITS})

    def edits(self, phase: Phase) -> Sequence[ActivationEdit]:
        return [ActivationEdit(0, "add", np.ones(2, np.float32))] if phase == "training" else []


class Counter(Shaper):
    _count: int = PrivateAttr(0)

    def state_dict(self) -> Mapping[str, Any]:
        return {"count": self._count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._count = state.get("count", 0)


@pytest.mark.parametrize(("a", "b"), list(combinations_with_replacement(BUILT_IN, 2)))
def test_two_owners_of_one_knob_are_refused_and_other_pairs_compose(
    a: type[Intervention], b: type[Intervention]
) -> None:
    shared, pair = a.owns & b.owns, [a(**needed(a)), b(**needed(b))]
    if not shared:
        assert compose("pair", pair).interventions
        return
    with pytest.raises(InterventionError, match=f"{a.__name__} and {b.__name__} both own the knob") as caught:
        compose("pair", pair)
    assert any(knob.value in str(caught.value) for knob in shared) and "'pair'" in str(caught.value)


def test_two_shapers_of_contexts_are_among_the_pairs_that_conflict() -> None:
    inoculation, recontextualization = shaping.shapers.Inoculation(), shaping.shapers.Recontextualization()
    with pytest.raises(InterventionError, match="both own the knob"):
        compose("a", [inoculation, recontextualization])


@pytest.mark.parametrize(("knob", "hook"), list(HOOK_OF.items()))
def test_an_override_that_is_not_declared_is_refused(knob: Knob, hook: str) -> None:
    silent = type("Silent", (Constraint,), {hook: lambda self, *args: None})
    with pytest.raises(InterventionError, match=rf"overrides {hook}\(\) but does not list Knob.{knob.name}"):
        compose("a", [silent()])
    declared = type("Declared", (silent,), {"owns": frozenset({knob})})
    assert compose("a", [declared()]).owner[knob].__class__ is declared


@pytest.mark.parametrize("hook", ["allow", "cost"])
def test_a_shaper_can_neither_veto_nor_price_an_action(hook: str) -> None:
    veto = type("Veto", (Shaper,), {hook: lambda self, *args: None, "owns": frozenset({Knob.ACTIONS})})
    with pytest.raises(InterventionError, match=rf"is a Shaper and may not define {hook}\(\)"):
        compose("a", [veto()])


@pytest.mark.parametrize(
    ("name", "hook"),
    [
        ("sampling_contxt", "sampling_context"),
        ("trainning_context", "training_context"),
        ("gate", "gates"),
        ("credits", "credit"),
        ("auxilary_loss", "auxiliary_loss"),
        ("load_statedict", "load_state_dict"),
        ("adaptors", "adapters"),
    ],
)
def test_a_method_that_is_almost_called_like_a_hook_is_refused_with_the_hook(name: str, hook: str) -> None:
    for method in (lambda self, *args: None, classmethod(lambda cls: None), staticmethod(lambda: None)):
        slip = type("Slip", (Shaper,), {name: method})
        below = type("Below", (slip,), {})
        with pytest.raises(InterventionError, match=rf"Below defines {name}\(\), .* did you mean {hook}\(\)\?"):
            compose("a", [below()])


@pytest.mark.parametrize(("base", "name"), [(Constraint, "alow"), (Constraint, "costs"), (Shaper, "alow")])
def test_the_hooks_of_constraints_are_known_to_both_kinds(base: type[Intervention], name: str) -> None:
    with pytest.raises(InterventionError, match="which is no hook and would never be called"):
        compose("a", [type("Slip", (base,), {name: lambda self, *args: None})()])


@pytest.mark.parametrize(
    ("former", "today"), [("acting_context", "sampling_context"), ("learning_context", "training_context")]
)
def test_a_former_name_of_a_hook_is_refused_with_the_name_of_today(former: str, today: str) -> None:
    with pytest.raises(InterventionError, match=rf"Old defines {former}\(\), which is called {today}\(\) today"):
        compose("a", [type("Old", (Shaper,), {former: lambda self, *args: None})()])


def test_other_public_methods_and_private_ones_are_a_plug_ins_own_affair() -> None:
    own = dict.fromkeys(("share", "labelled", "cast", "prompt_of", "_credits", "__len__"), lambda self: 1)
    assert compose("a", [type("Own", (Shaper,), own)()]).family == "motivation"


def test_a_plug_in_is_exactly_one_of_shaper_and_constraint() -> None:
    for bases in ((Intervention,), (Shaper, Constraint)):
        with pytest.raises(InterventionError, match="either Shaper or Constraint"):
            compose("a", [type("Odd", bases, {})()])


def test_owns_must_hold_knobs() -> None:
    with pytest.raises(InterventionError, match="must be a frozenset of Knob"):
        compose("a", [type("Odd", (Shaper,), {"owns": frozenset({"gate"})})()])


def test_unknown_fields_and_negative_weights_are_refused() -> None:
    with pytest.raises(ValidationError, match="acuracy"):
        shaping.constraints.OverseerPenalty(acuracy=0.5)  # type: ignore[call-arg]
    with pytest.raises(ValidationError, match="weight"):
        shaping.constraints.OverseerPenalty(weight=-1)


def test_edits_come_from_the_owner_of_the_phase_only() -> None:
    assert len(compose("a", [Edit()]).edits("training")) == 1
    assert compose("a", [Edit()]).edits("sampling") == []
    wrong = type("Wrong", (Edit,), {"owns": frozenset({Knob.SAMPLING_EDITS})})
    with pytest.raises(InterventionError, match="returns edits for 'training'"):
        compose("a", [wrong()]).edits("training")
    with pytest.raises(InterventionError, match=r"Knob\.SAMPLING_EDITS or Knob\.TRAINING_EDITS"):
        compose("a", [type("Silent", (Edit,), {"owns": frozenset()})()])


def test_contexts_may_differ_only_if_the_ratio_mode_is_explicit() -> None:
    class Relearn(Shaper):
        owns: ClassVar[frozenset[Knob]] = frozenset({Knob.TRAINING_CONTEXT})

        def training_context(self, info: GroupInfo, drawn: Context, rng: np.random.Generator) -> Context:
            return Context("other", "other")

    with pytest.raises(InterventionError, match="define ratio_mode"):
        compose("a", [Relearn()]).contexts(BRIEF, rng())
    explicit = type("Explicit", (Relearn,), {"owns": Relearn.owns | {Knob.RATIO}})
    assert compose("a", [explicit()]).contexts(BRIEF, rng()) == (Context(), Context("other", "other"))


def test_state_goes_round() -> None:
    counter = Counter()
    counter._count = 4
    arm, fresh = (compose("a", [shaping.shapers.Identity(), c]) for c in (counter, Counter()))
    assert arm.state_dict() == {"1.Counter": {"count": 4}}
    fresh.load_state_dict(arm.state_dict())
    assert fresh.state_dict() == arm.state_dict()


def test_a_plug_in_without_state_refuses_any() -> None:
    plain = shaping.shapers.Identity()
    plain.load_state_dict(plain.state_dict())
    with pytest.raises(ValueError, match="Identity keeps no state"):
        plain.load_state_dict({"count": 1})
    with pytest.raises(InterventionError, match="the checkpoint holds state for"):
        compose("a", [plain]).load_state_dict({"0.Other": {"count": 1}})


def test_an_arm_without_interventions_changes_nothing(make_episode: MakeEpisode) -> None:
    arm = compose("unshaped", [])
    assert arm.contexts(BRIEF, rng()) == (Context(), Context())
    assert arm.ratio_mode() == "sampler" and arm.allow(TURN, "grab 2") == ActionDecision()
    assert arm.gates(make_episode()) == Gates() and arm.edits("sampling") == [] and not arm.oracle
    assert arm.family == "control" and arm.state_dict() == {}


def test_families() -> None:
    shaper, constraint = shaping.shapers.Inoculation(), shaping.constraints.ActionMask()
    assert compose("a", [shaper]).family == "motivation"
    assert compose("a", [constraint]).family == "constraint"
    assert compose("a", [shaper, constraint]).family == "mixed"


def test_the_identity_changes_no_bit_of_advantage_or_weight(make_episode: MakeEpisode) -> None:
    episodes = [make_episode([0.0, 1.0]), make_episode([2.0])]
    credit = shaping.shapers.Identity().credit(group_of(episodes))
    for episode, added, factor in zip(episodes, credit.advantage, credit.weight, strict=True):
        odd = np.resize(np.array([-0.0, 0.0, 1e-45, -1.5, 3e38], np.float32), len(episode.tokens))
        assert (odd + added).tobytes() == odd.tobytes() and (odd * factor).tobytes() == odd.tobytes()
