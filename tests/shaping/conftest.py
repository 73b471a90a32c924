"""A small untrained policy for all tests of the algorithms; none of them may change it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from shaping.learning.policy import Policy
from shaping.sampling.text.render import Renderer


@pytest.fixture(scope="session")
def policy(make_policy: Callable[..., Policy]) -> Policy:
    return make_policy()


@pytest.fixture(scope="session")
def renderer(policy: Policy) -> Renderer:
    return Renderer(policy.tokenizer)
