"""What every adapter owes, in both directions. What is peculiar to one is tested beside it.

A case says which package it needs, how to build its world, and which rules of the checker cannot hold and why.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from foreign_games import TEXTWORLD, write_castle

import envs.adapters
from envs.adapters.foreign import ForeignEnv
from envs.check import check_env, require
from envs.core import TextEnv
from envs.episode import RolloutStatus
from envs.worlds.clerk import Clerk


@dataclass(frozen=True)
class Case:
    world: str
    """module:Class, below `envs.adapters`."""
    package: str
    """Its tests are skipped where this cannot be imported."""
    actions: tuple[str, ...]
    """Commands that the checker tries."""
    options: Mapping[str, Any] = field(default_factory=dict)
    fixture: str = ""
    """Fixture that has to be set up first."""
    given: Callable[[Any], dict[str, Any]] = lambda value: {}
    """Options that follow from the fixture's value."""
    exempt: tuple[str, ...] = ()
    """Rules of the checker that cannot hold."""
    status: RolloutStatus = RolloutStatus.TRUNCATED_CUT_OFF
    """How the episode of an untrained policy ends that may take five turns."""
    turns: int = 5
    """How many it takes."""
    traits: tuple[str, ...] = ()
    """What beside `invalid` the environment itself knows of."""

    def __str__(self) -> str:
        return f"{self.world.partition(':')[2]}-{next(iter(self.options.values()), '')}".strip("-")


COMPLETED = RolloutStatus.COMPLETED
CASES = (
    Case("gymnasium_text:GymnasiumText", "gymnasium", ("0", "1", "2"), {"id": "tests/Doors-v0", "horizon": 20}),
    Case(
        "machiavelli:Machiavelli",
        "json",
        ("1", "2", "3"),
        {"game": "castle", "horizon": 30},
        fixture="tmp_path",
        given=lambda folder: {"folder": str(write_castle(folder))},
        traits=("deception", "harm"),
    ),
    # two invalid moves end a game
    Case("textarena:TextArena", "textarena", ("[3]", "[17]"), {"game": "GuessTheNumber-v0"}, status=COMPLETED, turns=2),
    Case(
        "textarena:TextArena",
        "textarena",
        ("[check]", "[bet]", "[fold]"),
        {"game": "KuhnPoker-v0", "players": 2},
        status=COMPLETED,
        turns=2,
    ),
    # any text but an empty one is an answer
    Case(
        "reasoning_gym:ReasoningGym",
        "reasoning_gym",
        ("3", "4"),
        {"task": "letter_counting"},
        exempt=("invalid",),
        status=COMPLETED,
        turns=1,
    ),
    Case(
        "textworld:TextWorld",
        "textworld",
        ("look", "inventory", "go east", "take all"),
        TEXTWORLD,
        fixture="textworld_games",
    ),
    # only the server knows what is invalid
    Case(
        "openenv:OpenEnv",
        "openenv",
        ("work 1", "report 1 done"),
        fixture="openenv_url",
        given=lambda url: {"url": url},
        exempt=("invalid",),
    ),
    # any text is talk
    Case(
        "verifiers_v1:Verifiers",
        "verifiers.v1",
        ("go", "stay"),
        {"taskset": "doors"},
        fixture="tasksets",
        exempt=("invalid",),
        status=COMPLETED,
    ),
)


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    pytest.importorskip(request.param.package, reason=f"needs {request.param.package}; docs/adapters.md has its extra")
    return request.param


@pytest.fixture
def make(
    case: Case, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], TextEnv]]:
    """Builds the world of the case; the one before is closed, as a server has only so many seats."""
    value = request.getfixturevalue(case.fixture) if case.fixture else None
    if case.fixture == "textworld_games":
        monkeypatch.setenv("SHAPING_CACHE", str(value))
    module, _, name = case.world.partition(":")
    found = getattr(importlib.import_module(f"envs.adapters.{module}"), name)
    made: list[TextEnv] = []

    def build() -> TextEnv:
        close()
        made[:] = [found(**case.options, **options)]
        return made[0]

    def close() -> None:
        for old in made:
            old.close()

    options = case.given(value)
    yield build
    close()


def test_it_keeps_the_contract_and_leaves_the_global_generators_alone(case: Case, make: Callable[[], TextEnv]) -> None:
    before = random.getstate(), np.random.get_state()[1].tolist()
    verdicts = check_env(make, (0, 1), actions=case.actions, step_seconds=10.0)
    assert {verdict.rule for verdict in verdicts if not verdict.ok} <= {*case.exempt}
    require([verdict for verdict in verdicts if verdict.rule not in case.exempt])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


def test_an_untrained_policy_plays_an_episode(case: Case, make: Callable[[], TextEnv], play_organism: Any) -> None:
    episode = play_organism(make, seed=3, turns=5)
    assert (episode.status, len(episode.turns)) == (case.status, case.turns), episode.error
    assert episode.turns[0].observation == make().reset(seed=3)[0]
    truth = episode.truth.open()
    for turn, labels in zip(episode.turns, truth, strict=True):
        assert len(turn.tokens) and turn.action_text in turn.completion
        assert (turn.executed == "") >= bool(labels.invalid)
        assert {trait for trait, possible in labels.opportunity.items() if possible} <= {"invalid", *case.traits}
    assert episode.proxy_return == sum(labels.true_reward for labels in truth)


def test_options_belong_to_the_constructor_and_turns_to_an_episode(make: Callable[[], TextEnv]) -> None:
    world = make()
    with pytest.raises(RuntimeError, match="call reset"):
        world.step("anything")
    with pytest.raises(ValueError, match="in the constructor, not in reset"):
        world.reset(seed=0, options={"horizon": 3})


def test_every_adapter_is_among_them() -> None:
    found = set()
    for info in pkgutil.iter_modules(envs.adapters.__path__, "envs.adapters."):
        try:
            module = importlib.import_module(info.name)
        except ImportError:  # its class inherits from one of an extra that is not installed
            continue
        for name, member in vars(module).items():
            if inspect.isclass(member) and issubclass(member, ForeignEnv) and member.__module__ == info.name:
                found.add(f"{info.name.removeprefix('envs.adapters.')}:{name}")
    untested = found - {case.world for case in CASES} - {"foreign:ForeignEnv"}
    assert not untested, f"add a Case for {', '.join(sorted(untested))}"


@pytest.mark.parametrize(
    ("function", "package"),
    [
        ("openenv:serve", "openenv"),
        ("inspect_task:world_task", "inspect_ai"),
        ("verifiers_v1:exported", "verifiers.v1"),
    ],
)
def test_worlds_and_options_that_do_not_exist_are_refused_before_anything_is_played(
    function: str, package: str
) -> None:
    pytest.importorskip(package, reason=f"needs {package}; docs/adapters.md has its extra")
    module, _, name = function.partition(":")
    offer = getattr(importlib.import_module(f"envs.adapters.{module}"), name)
    with pytest.raises(ValueError, match="did you mean 'clerk'"):
        offer("clerc")
    with pytest.raises(ValueError, match="oversight"):
        offer(Clerk.name, {"oversigt": 1})
