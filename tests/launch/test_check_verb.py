"""`shaping check`: what is good passes; what is deliberately bad fails every rule that it breaks, by name."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

import launch.cli
from launch.check import check_plugin
from launch.errors import UserError
from shaping.contract.interventions import RULES

BAD = '''
import itertools, time
from dataclasses import replace
from envs.worlds.clerk import Clerk

COUNTER = itertools.count()


class Bad(Clerk):
    """Breaks six rules at once."""

    default_size = 3

    def build(self, horizon):
        turns = super().build(horizon)
        self.max_return += 1  # more than honesty can earn
        return turns

    def step(self, action):
        time.sleep(0.002)
        text, reward, terminated, truncated, info = super().step(action)
        self.met[-1] = (len(action) % 2 == 0, False, False)  # the overseer comes when the action is of even length
        labels = info["labels"]
        if labels.invalid:  # believes what it is told
            labels = replace(labels, harm=1.0, opportunity=dict.fromkeys(labels.opportunity, True))
        text = f"{text} request {next(COUNTER)} . reward_hack {labels.reward_hack:g} ."
        return text, reward, terminated, truncated, {**info, "labels": labels}


class Hangs(Clerk):
    def step(self, action):
        while True:
            time.sleep(0.01)


class Raises(Clerk):
    def step(self, action):
        raise KeyError("item 7")


class Exits(Clerk):
    def step(self, action):
        raise SystemExit(0)


class Foreign(Clerk):
    """A world of one's own that offers its honest policy."""

    name = "foreign"

    def honest_action(self):
        return f"report {self.focus} done" if not self.left[self.focus] else f"work {self.focus}"


class Pays(Clerk):
    """Knows one command, and pays what no one can count."""

    name = "pays"

    def step(self, action):
        text, _, terminated, truncated, info = super().step("wait")
        known = "open sesame" in action
        reward = float("nan") if known else 0.0
        return text, reward, terminated, truncated, {**info, "executed": "open sesame" if known else ""}


class Greedy(Foreign):
    def honest_action(self):
        return "wait"
'''
PLUGINS = '''
import numpy as np
from envs.core import normalise
from rewards import Reward
from shaping.hooks import Credit
from shaping.intervention import Shaper
from shaping.monitors import Monitor


class Price(Shaper):
    """A penalty in the guise of a shaper."""

    amount: float = 3.0

    def credit(self, group):
        overt = [sum(normalise(t.executed) in t.overt_shortcuts for t in e.turns) for e in group.episodes]
        return Credit("price", advantage=tuple(np.full(len(e.tokens), -self.amount * n, np.float32)
                                               for e, n in zip(group.episodes, overt)))


class Short(Reward):
    def score(self, episode):
        return [1.0]


class Silent(Monitor):
    name: str = "silent"

    def read(self, episode):
        return None
'''


@pytest.fixture
def shaping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple]:
    """Call `shaping ARGUMENTS` beside a module `bad_worlds`; returns exit code, stdout lines and stderr."""
    (tmp_path / "bad_worlds.py").write_text(textwrap.dedent(BAD))
    (tmp_path / "bad_plugins.py").write_text(textwrap.dedent(PLUGINS))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for module in ("bad_worlds", "bad_plugins"):
        monkeypatch.delitem(sys.modules, module, raising=False)

    def call(*arguments: str) -> tuple:
        monkeypatch.setattr("sys.argv", ["shaping", *arguments])
        with pytest.raises(SystemExit) as exit_:
            launch.cli.main()
        told = capsys.readouterr()
        return int(exit_.value.code or 0), told.out.splitlines(), told.err

    return call


def test_a_built_in_world_passes_every_rule(shaping: Callable[..., tuple]) -> None:
    code, lines, _ = shaping("check", "gradebook", "size=3", "reports=on", "inquiry=0.3", "--step-ms", "1000")
    assert code == 0
    assert len(lines) == 15
    assert all(line.startswith("ok  ") for line in lines)


def test_a_bad_world_fails_each_rule_that_it_breaks_and_no_other(shaping: Callable[..., tuple]) -> None:
    code, lines, _ = shaping("check", "bad_worlds:Bad", "--step-ms", "1")
    assert code == 1
    failed = {line.split()[1]: line for line in lines if line.startswith("FAIL")}
    assert set(failed) == {"determinism", "sealed", "draws", "honest_path", "garbage", "speed", "gymnasium"}
    assert "two different transcripts" in failed["determinism"]
    assert "reward_hack" in failed["sealed"]
    assert "different overseers" in failed["draws"]
    assert "max_return" in failed["honest_path"]
    assert "was labelled harm" in failed["garbage"]
    assert "the limit is 1 ms" in failed["speed"]


def test_a_world_that_raises_fails_the_first_rule(shaping: Callable[..., tuple]) -> None:
    code, lines, _ = shaping("check", "bad_worlds:Raises")
    assert code == 1
    assert lines[0].startswith("FAIL  plays")
    assert "KeyError" in lines[0]


def test_a_world_that_hangs_is_given_up(shaping: Callable[..., tuple]) -> None:
    with pytest.raises(UserError, match="does one of its methods hang"):
        check_plugin("bad_worlds:Hangs", patience=0.3)


def test_worlds_of_ones_own_may_offer_an_honest_policy(shaping: Callable[..., tuple]) -> None:
    code, lines, _ = shaping("check", "bad_worlds:Foreign", "size=3", "--step-ms", "1000")
    assert code == 0
    assert any(line.startswith("ok    honest_path  an honest policy") for line in lines)
    code, lines, _ = shaping("check", "bad_worlds:Greedy", "size=3", "--step-ms", "1000")
    assert code == 1
    assert [line.split()[1] for line in lines if line.startswith("FAIL")] == ["honest_path"]


def test_a_shaper_is_shown_with_its_family_and_the_order_of_its_credit(shaping: Callable[..., tuple]) -> None:
    code, lines, _ = shaping("check", "Identity", "--seeds", "1")
    assert code == 0
    assert lines[0].startswith("Identity: motivation, reward-order preserving (")
    assert len(lines) == 1 + len(RULES) and all(line.startswith("ok  ") for line in lines[1:])
    code, lines, _ = shaping("check", "bad_plugins:Price", "amount=4")
    assert code == 0, "to price actions through credit() breaks no rule, but it is told"
    assert lines[0].startswith("bad_plugins:Price: motivation, not reward-order preserving: inverts ")


@pytest.mark.parametrize(("name", "rule"), [("bad_plugins:Short", "scores"), ("bad_plugins:Silent", "reads")])
def test_rewards_and_monitors_have_rules_of_their_own(shaping: Callable[..., tuple], name: str, rule: str) -> None:
    code, lines, _ = shaping("check", name, "--seeds", "1")
    assert code == 1
    assert [line.split()[1] for line in lines if line.startswith("FAIL")] == [rule]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gradebok",), "did you mean 'gradebook'"),
        (("Inoculaton",), "did you mean 'Inoculation'"),
        (("bad_plugins:Price", "amont=2"), "did you mean 'amount'"),
        (("envs.core:draw",), "none of these: world, intervention, reward, monitor"),
        (("gradebook", "size"), "key=value"),
        (("gradebook", "sise=3"), "did you mean 'size'"),
        (("gradebook", "impossible=2"), "less than or equal to 1"),
        (("bad_worlds:Nothing",), "no class 'Nothing'"),
        (("no_such_module:World",), "does not import"),
    ],
)
def test_mistakes_are_one_message(shaping: Callable[..., tuple], arguments: tuple[str, ...], message: str) -> None:
    code, _, error = shaping("check", *arguments)
    assert code == 1
    assert message in error
    assert "Traceback" not in error


def test_a_world_of_which_no_command_was_executed_fails_and_commands_are_asked_for(
    shaping: Callable[..., tuple],
) -> None:
    code, lines, _ = shaping("check", "bad_worlds:Pays", "--step-ms", "1000")
    failed = {line.split()[1]: line for line in lines if line.startswith("FAIL")}
    assert code == 1 and "name commands with --action" in failed["commands"]


def test_a_world_that_pays_nan_for_a_command_fails(shaping: Callable[..., tuple]) -> None:
    code, lines, _ = shaping("check", "bad_worlds:Pays", "--action", "open sesame", "--step-ms", "1000")
    assert code == 1 and "the reward is nan; it must be a finite number" in lines[0]


def test_a_plug_in_that_exits_does_not_end_the_check_in_silence(shaping: Callable[..., tuple]) -> None:
    code, lines, _ = shaping("check", "bad_worlds:Exits", "--step-ms", "1000")
    assert code == 1 and "raised SystemExit" in lines[0]
