"""Makes `play_worlds` importable, and what every test of sampling needs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from shaping.learning.policy import Policy
from shaping.sampling.render import Renderer

#: The organism's template, except that earlier replies lose what stands before their action.
FORGETFUL = (
    "{% for m in messages %}<|{{ m.role }}|>"
    "{% if m.role == 'assistant' %}{{ m.content.split('</think>')[-1].split('ACTION:')[-1] }}"
    "{% else %}{{ m.content }}{% endif %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture(scope="session")
def policy(make_policy: Callable[..., Policy]) -> Policy:
    return make_policy()


@pytest.fixture(scope="session")
def renderer(policy: Policy) -> Renderer:
    return Renderer(policy.tokenizer)


@pytest.fixture(scope="session")
def forgetful(make_policy: Callable[..., Policy]) -> Renderer:
    """A renderer whose template breaks the prefix."""
    tokenizer = make_policy().tokenizer
    tokenizer.chat_template = FORGETFUL
    return Renderer(tokenizer)
