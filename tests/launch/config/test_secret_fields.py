"""Fields that hold secrets are found by their names, in any spelling, and by values that look like keys of services."""

from __future__ import annotations

from typing import Any

import pytest

from launch.config.reading.secret_fields import is_secret, refuse_secrets
from launch.errors import ConfigError


@pytest.mark.parametrize(
    "name", ["api_key", "apiKey", "API-KEY", "token", "hfToken", "db_password", "clientSecret", "private_key", "auth"]
)
def test_names_of_secrets_are_known_in_any_spelling(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize(
    "name", ["max_tokens", "token_budget", "pad_token", "eos_token", "key", "author", "secretary", "compass", "tokens"]
)
def test_other_names_are_not(name: str) -> None:
    assert not is_secret(name)


def told(document: Any) -> str:
    with pytest.raises(ConfigError) as raised:
        refuse_secrets(document, "mine.yaml")
    assert "hush" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"tracking": [{"use": "wandb", "api_key": "hush"}]}, "tracking.0.api_key: a secret does not belong into a"),
        ({"tracking": [{"use": "wandb", "settings": {"api_key": "hush"}}]}, "set WANDB_API_KEY in the environment"),
        ({"tracking": [{"use": "trackio", "token": "hush"}]}, "set HF_TOKEN in the environment"),
        ({"tracking": [{"use": "my.trackers:Mine", "apiKey": "hush"}]},
         "let my.trackers:Mine read it from the environment, e.g. from API_KEY"),
        ({"arms": {"a": {"reward": {"use": "m:R", "login": {"user": "me", "password": 123456}}}}},
         "arms.a.reward.login.password: "),
        ({"axes": {"arms.a.reward.token": ["hush", "hush2"]}}, "axes.arms.a.reward.token: "),
        ({"eval": {"worlds": {"m:W": {"keys": ["x", "sk-hush0123456789abcdef"]}}}}, "eval.worlds.m:W.keys: "),
        ({"tracking": [{"use": "trackio", "server_url": "https://me:hush@host/x"}]}, "tracking.0.server_url: "),
        ({"model": "https://me:hush@host/model"}, "model: "),
    ],
)  # fmt: skip
def test_a_secret_is_named_by_its_key_and_never_shown(document: Any, message: str) -> None:
    assert message in told(document)


def test_all_secrets_are_named_at_once() -> None:
    assert len(told({"a": {"token": "hush"}, "b": [{"password": "hush"}]}).splitlines()) == 2


def test_names_of_arms_empty_fields_and_switches_are_no_secrets() -> None:
    refuse_secrets({"arms": {"secret": {"role": "control"}, "token": {"label": "x"}}}, "mine.yaml")
    refuse_secrets({"a": {"token": None, "password": "", "secret": False, "credentials": {}}}, "mine.yaml")
    refuse_secrets({"learner": {"ratio_level": "token"}, "train": {"max_tokens": 3}, "output": "s3://bucket/x"}, "x")
