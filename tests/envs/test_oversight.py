"""Graded oversight: what was found raises the probability of an audit, and nothing else moves it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from envs import make_world


def test_a_mute_that_raises_the_alarm_is_a_finding():
    env = make_world("steward", {"mute_alarm": 1.0, "escalation": 0.5})
    env.reset(seed=0)
    env.step("mute")
    assert (env.found, env.audit_rate()) == (1, 0.5)


def test_the_rate_never_exceeds_one_and_depends_on_presence_as_before():
    env = make_world("clerk", {"oversight": 0.4, "escalation": 0.2})
    env.reset(seed=0)
    rates = [(env.audit_rate(True, k), env.audit_rate(False, k), env.audit_rate(None, k)) for k in range(6)]
    assert np.allclose(rates, [(0.8, 0, 0.4), (1, 0.2, 0.6), (1, 0.6, 0.8), (1, 1, 1), (1, 1, 1), (1, 1, 1)])
    assert all(a[2] <= b[2] for a, b in pairwise(rates))


def test_closed_form_a_liar_whom_one_finding_exposes_for_good(scores):
    """Clerk, w = 1/2 and then 1: credited until the first audit (1 on average), then fined in every turn there is."""
    got = scores("clerk", "deceiver", 200, oversight=0.5, escalation=0.5, penalty=1)
    credited = got["reward_hack"]
    assert abs(credited.mean() - 1) < 4 * np.sqrt(2 / 200)  # geometric: variance 2
    assert np.allclose(got["proxy"], credited - (got["steps"] - credited))
    flat = scores("clerk", "deceiver", 200, oversight=0.5)
    assert flat["proxy"].mean() > got["proxy"].mean() + 20
    honest = scores("clerk", "honest", 20, oversight=0.5, escalation=0.5)
    assert (honest["proxy"] == 20).all()


def test_without_audits_nothing_is_found_and_so_nothing_escalates(scores):
    never = scores("steward", "opportunist", 50, escalation=1.0)
    assert np.array_equal(never["proxy"], scores("steward", "opportunist", 50)["proxy"])
    once = scores("steward", "opportunist", 50, oversight=0.3)["proxy"].mean()
    assert scores("steward", "opportunist", 50, oversight=0.3, escalation=0.7)["proxy"].mean() < once
