"""Whatever a hook answers, the error names its class and the hook, what came and what was wanted.

Worlds on the base class, claims and credit; the other hooks are in `test_plugin_values.py`.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pytest
from claim_tables import claim, table
from plugin_trials import learned, played_group

from envs.episode import Episode, RolloutStatus
from envs.worlds.clerk import Clerk
from launch.report.claims.base import ClaimError
from launch.report.claims.effects import Comparison
from launch.report.claims.kinds.lowers import Lowers
from shaping.arm import Arm, compose
from shaping.contract.groups import small_policy
from shaping.hooks import Credit, InterventionError
from shaping.intervention import Shaper
from shaping.monitors.base import Monitor, MonitorError
from shaping.monitors.turn_scores import shown_to, suspected
from shaping.sampling.play import EpisodeRequest, play
from shaping.sampling.scripted_engine import ScriptedEngine
from shaping.sampling.text.render import Renderer

HOOKS = {
    "build": ("many", "a whole number from 1"),
    "briefing": (None, "text"),
    "state": (7, "text"),
    "commands": ("wait", "a tuple of texts"),
    "possible": (["hram"], "traits"),
    "shortcuts": (None, "a tuple of texts"),
    "act": (None, "True or False"),
    "power": (1.5, "a number in [0, 1]"),
    "resource_share": ("half", "a number in [0, 1]"),
    "privileges": (float("nan"), "a number in [0, 1]"),
}


class Says:
    def act(self) -> str:
        return "ACTION: wait"


class Odd(Clerk):
    """A clerk that answers one hook as the test wants it."""

    name: ClassVar[str] = "odd"


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_of_a_world_is_told_by_name(hook: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answer, wanted = HOOKS[hook]
    monkeypatch.setattr(Odd, hook, lambda self, *given: answer)
    renderer = Renderer(small_policy().tokenizer)
    options = {"size": 2, "loophole": "off"} if hook == "commands" else {"size": 2}
    if hook == "commands":  # asked by personas, and where a reply was no answer to an inquiry
        world = Odd(**options)
        world.reset(seed=0)
        with pytest.raises(RuntimeError, match=rf"Odd\.{hook}\(\) returned .*must return {wanted}"):
            world.actions()
        return
    (episode,) = asyncio.run(
        play(
            [EpisodeRequest(partial(Odd, **options), 0)],
            ScriptedEngine(lambda env: Says(), renderer),
            renderer,
            Arm("a"),
        )
    )
    assert episode.status is RolloutStatus.ERROR
    assert f"Odd.{hook}() returned {answer if hook != 'possible' else 'hram'!r}"[:40] in episode.error
    assert wanted in episode.error


def test_a_list_is_as_good_as_a_tuple_or_an_array(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Odd, "possible", lambda self: ["deception"])
    world = Odd(size=2)
    world.reset(seed=0)
    assert world.step("ACTION: wait")[4]["labels"].opportunity["deception"]
    group = played_group()
    by_list, by_array = (learned(compose("a", [Credits(made=made)]), group)["loss"] for made in ("list", "array"))
    assert by_list == by_array


class Credits(Shaper):
    made: str = "list"

    def credit(self, group: Any) -> Any:
        rows = [[0.1 * n] * len(e.tokens) for n, e in enumerate(group.episodes)]
        odd: dict[str, Any] = {
            "list": rows,
            "array": tuple(np.array(row, np.float32) for row in rows),
            "text": ["all"] * len(rows),
            "ragged": [[[1.0], [1.0, 2.0]]] * len(rows),
            "number": 1.0,
        }
        return Credit("mine", advantage=odd[self.made])


@pytest.mark.parametrize("made", ["text", "ragged", "number"])
def test_credit_that_is_no_array_is_told_with_class_and_hook(made: str) -> None:
    with pytest.raises(InterventionError, match=r"Credits\.credit\(\), credit 'mine': advantage .*(must hold)"):
        learned(compose("a", [Credits(made=made)]), played_group())


class Sees(Monitor):
    name: str = "sees"

    def suspects(self) -> Any:
        return ["hram"]

    def view(self, episode: Episode) -> Any:
        return "an episode"

    def read(self, episode: Episode) -> list[Any]:
        return []


def test_what_a_monitor_suspects_and_views_is_checked() -> None:
    with pytest.raises(MonitorError, match=r"Sees\.suspects\(\) returned \['hram'\]; it must return traits"):
        suspected(Sees())
    with pytest.raises(MonitorError, match=r"Sees\.view\(\) returned 'an episode'; it must return an Episode"):
        shown_to(Sees(), played_group()[0])


CLAIMS: dict[str, tuple[str, Any, str]] = {
    "no rule": ("rule", None, "it must return str"),
    "no words": ("rule", " ", "returned no words"),
    "no list": ("comparisons", "all", "it must return list or tuple"),
    "no comparison": ("comparisons", [1], "must return a list of Comparison"),
    "a strange arm": ("comparisons", [Comparison("deception", "x", {"nobody": 1.0})], "compares 'nobody'"),
    "no finding": ("weigh", ("supported", []), "it must return Finding"),
    "a reason of no text": ("lacks", 3, "it must return str"),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_a_hook_of_a_claim_is_told_by_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hook, answer, message = CLAIMS[name]
    kind = type("Odd", (Lowers,), {hook: lambda self, *given: answer})
    with pytest.raises(ClaimError, match=rf"claim 'C': .*Odd\.{hook}\(\).*{message}"):
        claim(kind, treatment="mask", metrics=["deception"]).judge(table({"mask": 0.1, "unshaped": 0.5}))
