"""Nothing that a plug-in returns is believed unchecked.

Promised: what it returns is checked by type, shape and value before anything is learned from it; a fault is told with
class and entry. Returns of any size are normalised alike, and what counts as "without variance" is the same in training
and in the metric. (What it may not change: `test_plugin_writes.py`.)
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from plugin_trials import learned, played_group

from envs.core import TextEnv
from envs.episode import Context, Episode, Labels, RolloutStatus
from launch.config.compatibility import check_rollout
from launch.config.loading import parse_study
from launch.errors import ConfigError
from launch.study import run_study
from rewards.base import Reward, RewardError, scored
from shaping.arm import Arm, compose
from shaping.contract.groups import small_policy
from shaping.hooks import ActivationEdit, Credit, GroupInfo, InterventionError, Knob, LossTerm, TurnContext
from shaping.intervention import Intervention, Shaper
from shaping.learning.credit.advantages import estimate, varies, zero_variance
from shaping.learning.credit.credit import CreditError, assign_credit
from shaping.sampling.play import EpisodeRequest, play
from shaping.sampling.scripted_engine import ScriptedEngine
from shaping.sampling.text.render import Renderer

WORLDS = {"clerk": {"size": 2, "horizon": 3}}
SMALL: dict[str, Any] = {
    "name": "hostile",
    "seeds": 1,
    "model": {
        "organism": {
            "hidden": 32,
            "layers": 1,
            "heads": 2,
            "kv_heads": 1,
            "vocabulary": 400,
            "episodes": 12,
            "steps": 2,
        }
    },
    "train": {"worlds": WORLDS, "updates": 1, "groups": 1, "group_size": 2, "max_tokens": 8},
    "eval": {"worlds": WORLDS, "episodes": 1, "access_episodes": 0},
}
INFO = GroupInfo("clerk", 0, 0, 0)
TURN = TurnContext("clerk", 0, 0, "turn .", ("grab 1",))


@pytest.fixture(scope="module")
def group() -> tuple[Episode, ...]:
    return played_group()


# Rewards --------------------------------------------------------------------------------------------------------------


class Pays(Reward):
    answer: ClassVar[Callable[[Sequence[Episode]], Any]]

    def score(self, episode: Episode) -> Any:
        raise NotImplementedError

    def score_group(self, episodes: Sequence[Episode]) -> Any:
        return type(self).answer(episodes)


def with_second(value: Any) -> Callable[[Sequence[Episode]], Any]:
    """Right for all episodes but number 1."""
    return lambda group: [value(e) if n == 1 else np.zeros(len(e.turns)) for n, e in enumerate(group)]


BAD_ANSWERS: dict[str, tuple[Callable[[Sequence[Episode]], Any], str]] = {
    "nan": (with_second(lambda e: np.full(len(e.turns), np.nan)), "episode 1 .*turn 0 of the rewards is nan"),
    "inf": (with_second(lambda e: np.full(len(e.turns), -np.inf)), "episode 1 .*turn 0 of the rewards is -inf"),
    "77 numbers": (with_second(lambda e: np.zeros(77)), r"episode 1 .*rewards of shape \(77,\)"),
    "a column": (with_second(lambda e: np.zeros((len(e.turns), 1))), r"episode 1 .*rewards of shape \(\d+, 1\)"),
    "a number": (with_second(lambda e: 1.0), r"episode 1 .*rewards of shape \(\)"),
    "text": (with_second(lambda e: ["1.0"] * len(e.turns)), "episode 1 .*rewards of type <U3"),
    "nothing": (with_second(lambda e: None), r"episode 1 .*rewards of shape \(\)"),
    "too many digits": (with_second(lambda e: [10**400] * len(e.turns)), "episode 1 .*rewards of type object"),
    "fractions": (with_second(lambda e: [Fraction(1, 3)] * len(e.turns)), "episode 1 .*rewards of type object"),
    "complex": (with_second(lambda e: [1j] * len(e.turns)), "episode 1 .*rewards of type complex128"),
    "ragged": (with_second(lambda e: [[1.0], [1.0, 2.0]]), "episode 1 .*no array"),
    "a sum beyond doubles": (with_second(lambda e: np.full(len(e.turns), 1.7e308)), "episode 1 .*their sum is not"),
    "one too few": (lambda group: [np.zeros(len(e.turns)) for e in group[1:]], "returned 5 arrays for .* 6 episodes"),
    "a dictionary": (lambda group: {n: np.zeros(len(e.turns)) for n, e in enumerate(group)}, "returned dict"),
    "none": (lambda group: None, "returned NoneType"),
    "an exit": (lambda group: exit(3), r"score_group\(\) raised SystemExit: 3"),
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
def test_a_reward_is_told_what_is_wrong_with_its_answer(
    name: str, group: tuple[Episode, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, message = BAD_ANSWERS[name]
    monkeypatch.setattr(Pays, "answer", staticmethod(answer), raising=False)
    with pytest.raises(RewardError, match=f"Pays.*{message}"):
        scored(Pays(), group)


def test_lists_of_numbers_are_taken_for_arrays(group: tuple[Episode, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pays, "answer", staticmethod(lambda g: [[1] * len(e.turns) for e in g]), raising=False)
    assert [paid.tolist() for paid in scored(Pays(), group)] == [[1.0] * len(e.turns) for e in group]


# Advantages -----------------------------------------------------------------------------------------------------------

ESTIMATORS = ("dr_grpo", "grpo", "reinforce_pp", "rloo")
RETURNS = st.lists(st.floats(-8, 8).map(lambda x: round(x, 3)), min_size=2, max_size=8)


@given(RETURNS, st.integers(-900, 900), st.sampled_from(ESTIMATORS))
def test_the_size_of_returns_does_not_matter(returns: list[float], power: int, algorithm: Any) -> None:
    values, together = np.array(returns), np.zeros(len(returns), np.int64)
    ours, theirs = (estimate(algorithm, v, together) for v in (values, np.ldexp(values, power)))
    exact = ours if algorithm in ("grpo", "reinforce_pp") else np.ldexp(ours, power)
    assert_array_equal(theirs, exact)
    assert varies(values) == varies(np.ldexp(values, power))


@given(st.lists(RETURNS, min_size=1, max_size=4), st.floats(1e-200, 1e200), st.sampled_from(ESTIMATORS))
def test_groups_without_variance_are_exactly_those_that_get_no_advantage(
    several: list[list[float]], size: float, algorithm: Any
) -> None:
    returns = np.concatenate([np.array(own) * size for own in several])
    numbers = np.repeat(np.arange(len(several)), [len(own) for own in several])
    advantages = estimate(algorithm, returns, numbers)
    without = [not advantages[numbers == n].any() for n in range(len(several))]
    assert zero_variance(returns, numbers) == np.mean(without)


def test_returns_of_a_ten_millionth_are_learned_from(group: tuple[Episode, ...]) -> None:
    arm = compose("arm", [])
    usual, tiny = (learned(arm, group, paid) for paid in (1.0, 2.0**-23))
    assert tiny["loss"] == usual["loss"] and tiny["grad_norm"] == usual["grad_norm"] > 0


def test_advantages_beyond_32_bits_are_an_error_and_no_silent_zero(group: tuple[Episode, ...]) -> None:
    renderer = Renderer(small_policy().tokenizer)
    rewards = [1e200 * (1 + n) * np.ones(len(e.turns)) for n, e in enumerate(group)]
    with pytest.raises(CreditError, match="dr_grpo gives advantages beyond the range of 32-bit numbers"):
        assign_credit(group, rewards, Arm("arm"), renderer, algorithm="dr_grpo")


# Losses, modes, contexts ----------------------------------------------------------------------------------------------


class Adds(Shaper):
    term: ClassVar[Callable[[torch.Tensor], Any]]

    def auxiliary_loss(self, policy: Any, batch: Sequence[Any]) -> Any:
        return type(self).term(sum(p.sum() for p in policy.model.parameters()))


TERMS: dict[str, tuple[Callable[[torch.Tensor], Any], str]] = {
    "nan": (lambda x: LossTerm("mine", x * float("nan")), "total is nan"),
    "inf": (lambda x: LossTerm("mine", x * float("inf")), "both must be finite"),
    "detached": (lambda x: LossTerm("mine", x.detach()), "detached"),
    "a constant": (lambda x: LossTerm("mine", torch.zeros(())), "detached"),
    "a vector": (lambda x: LossTerm("mine", x.repeat(3)), r"shape \(3,\)"),
    "a float": (lambda x: LossTerm("mine", 1.0), "no tensor"),  # type: ignore[arg-type]
    "a coefficient": (lambda x: LossTerm("mine", x, float("nan")), "coefficient nan"),
    "a tensor": (lambda x: x, "returned Tensor; return LossTerm"),
}


@pytest.mark.parametrize("name", TERMS)
def test_an_auxiliary_loss_that_would_train_nothing_is_refused(
    name: str, group: tuple[Episode, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    term, message = TERMS[name]
    monkeypatch.setattr(Adds, "term", staticmethod(term), raising=False)
    with pytest.raises(InterventionError, match=rf"Adds\.auxiliary_loss\(\).*{message}"):
        learned(compose("arm", [Adds()]), group)


class Answers(Shaper):
    """Answers one hook as the test wants it."""

    owns: ClassVar[frozenset[Knob]] = frozenset(Knob) - {Knob.ACTIONS}
    said: ClassVar[dict[str, Any]] = {}

    def sampling_context(self, info: Any, rng: Any) -> Any:
        return self.said.get("sampling_context", Context())

    def training_context(self, info: Any, drawn: Any, rng: Any) -> Any:
        return self.said.get("training_context", drawn)

    def ratio_mode(self) -> Any:
        return self.said.get("ratio_mode", "sampler")

    def gates(self, episode: Any) -> Any:
        return self.said.get("gates", ())

    def edits(self, phase: Any) -> Any:
        return self.said.get("edits", ())

    def adapters(self) -> Any:
        return self.said.get("adapters", ())

    def state_dict(self) -> Any:
        return self.said.get("state_dict", {})


ASKED: dict[str, Callable[[Arm, Episode], Any]] = {
    "sampling_context": lambda arm, e: arm.contexts(INFO, np.random.default_rng(0)),
    "training_context": lambda arm, e: arm.contexts(INFO, np.random.default_rng(0)),
    "ratio_mode": lambda arm, e: arm.ratio_mode(),
    "gates": lambda arm, e: arm.gates(e),
    "edits": lambda arm, e: arm.edits("training"),
    "adapters": lambda arm, e: arm.adapters(),
    "state_dict": lambda arm, e: arm.state_dict(),
}


@pytest.mark.parametrize("answer", ["cross", None, 7, ["sampler"], b"none"])
@pytest.mark.parametrize("hook", ASKED)
def test_an_answer_that_is_none_of_those_a_hook_can_give_is_refused_by_name(
    hook: str, answer: Any, group: tuple[Episode, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Answers, "said", {hook: answer})
    with pytest.raises(InterventionError, match=rf"Answers\.{hook}\(\) (returned|is) "):
        ASKED[hook](compose("arm", [Answers()]), group[0])


class Crosses(Shaper):
    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.RATIO})

    def ratio_mode(self) -> Any:
        return "cross"


def test_an_unknown_ratio_mode_is_refused_before_anything_starts() -> None:
    arms = {"arm": {"role": "reference", "interventions": ["Identity"]}}
    (run,) = parse_study({**SMALL, "arms": arms}, "test").runs()
    with pytest.raises(ConfigError, match=r"arms\.arm: .*Crosses\.ratio_mode\(\) is 'cross'; choose one of sampler"):
        check_rollout(run, compose("arm", [Crosses()]))


@pytest.mark.parametrize("direction", [np.full(4, np.nan), np.ones((2, 2)), "north"])
def test_an_edit_in_no_direction_is_refused(direction: Any) -> None:
    with pytest.raises(InterventionError, match="no vector of finite numbers"):
        ActivationEdit(0, "add", direction)


@pytest.mark.parametrize("kind", ["advantage", "weight", "imitation"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_credit_is_a_finite_number_per_token(kind: str, value: float, group: tuple[Episode, ...]) -> None:
    class Credits(Shaper):
        def credit(self, shown: Any) -> Credit:
            return Credit("mine", **{kind: tuple(np.full(len(e.tokens), value) for e in shown.episodes)})

    with pytest.raises(InterventionError, match=f"credit 'mine': {kind} must hold"):
        learned(compose("arm", [Credits()]), group)


def test_hooks_are_called_by_no_other_way_than_the_one_that_names_them() -> None:
    root, hooks = Path(__file__).parents[2], [*ASKED, "allow", "cost", "credit", "readings", "auxiliary_loss", "deploy"]
    assert all(hasattr(Intervention, hook) for hook in ASKED)
    calls = tuple(f"{who}.{hook}(" for hook in hooks for who in ("intervention", "owner", "constraint", " i"))
    for path in [*(root / "shaping").rglob("*.py"), *(root / "launch").rglob("*.py")]:
        if "contract" not in path.parts:
            found = [call for call in calls if call in path.read_text(encoding="utf-8")]
            assert not found, f"{path.name} calls a plug-in's hook without envs.calls.call: {found}"


# Worlds ---------------------------------------------------------------------------------------------------------------


class Says:
    def act(self) -> str:
        return "ACTION: a"


class Odd(TextEnv):
    """One turn, with these labels and this `max_return`."""

    name: ClassVar[str] = "odd"

    def __init__(self, best: Any = 1.0, **labels: Any) -> None:
        super().__init__()
        self.max_return, self.labels = best, labels

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return "say a word .", {}

    def step(self, action: str) -> Any:
        return "bye .", 1.0, True, False, {"labels": Labels(**self.labels)}


ODD: dict[str, tuple[dict[str, Any], str]] = {
    "a negative count": ({"harm": -5.0}, "label harm is -5.0; it must be a count"),
    "a count of nan": ({"deception": float("nan")}, "label deception is nan"),
    "a power of 7": ({"power": 7.0}, r"label power is 7.0; it must be in \[0, 1\]"),
    "a step of power beyond 1": ({"d_power": -3.0}, r"label d_power is -3.0; it must be in \[-1, 1\]"),
    "a true reward of nan": ({"true_reward": float("nan")}, "label true_reward is nan"),
    "an unknown outcome": ({"outcome": "odd"}, "label outcome is 'odd'; it must be empty or one of literal"),
    "an unknown trait": ({"opportunity": {"hram": True}}, "label opportunity names 'hram', which is no trait"),
    "no honest return": ({"best": 0.0}, "the max_return is 0; it must be above 0"),
    "an honest return of nan": ({"best": float("nan")}, "the max_return is nan"),
}


@pytest.mark.parametrize("name", ODD)
def test_labels_out_of_range_cost_the_episode_that_has_them_and_no_other(name: str) -> None:
    settings, message = ODD[name]
    renderer = Renderer(small_policy().tokenizer)
    requests = [EpisodeRequest(partial(Odd, **given), 0) for given in ({}, settings)]
    engine = ScriptedEngine(lambda env: Says(), renderer)
    good, bad = asyncio.run(play(requests, engine, renderer, Arm("arm")))
    assert good.status is RolloutStatus.COMPLETED and bad.status is RolloutStatus.ERROR and not bad.turns
    assert re.search(f"Odd.*{message}", bad.error), bad.error


# A whole run ----------------------------------------------------------------------------------------------------------


def test_an_arm_with_such_a_plug_in_fails_by_name_before_it_learns_and_the_others_finish(tmp_path: Path) -> None:
    arms = {
        "unshaped": {"role": "reference"},
        "writes": {"role": "treatment", "interventions": [{"use": "writing_plugins:Writes", "hook": "credit"}]},
        "nan": {"role": "treatment", "reward": {"use": "writing_plugins:PaysNaN"}},
    }
    told = run_study(parse_study({**SMALL, "arms": arms, "output": str(tmp_path)}, "test"))
    assert told.finished == ["unshaped/seed-0"]
    failed = {failure.name: failure.message for failure in told.failed}
    assert "Writes.credit() raised TypeError" in failed["writes/seed-0"]
    assert "PaysNaN, episode 0 (world 'clerk'" in failed["nan/seed-0"]
    for name in failed:
        rows = told.directory / "runs" / name / "metrics.jsonl"
        assert not rows.exists() or not rows.read_bytes(), "nothing was learned"
