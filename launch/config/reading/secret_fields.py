"""Secrets are refused in configs, which are kept with the results, sent to trackers and published with the report."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from launch.errors import ConfigError

_FIELD = re.compile(
    r"(?:^|_)(?:(?:api|access|private|secret|auth|license)_?key|api_?token|token|secrets?|pass_?word|passwd|pass|pwd"
    r"|passphrase|credentials?|auth|authorization|bearer)$"
)
_TEXT_TOKEN = re.compile(r"(?:^|_)(?:pad|eos|bos|unk|sep|cls|mask|stop|end|start|special|image|turn|think)_token$")
"""Fields about tokens of a tokenizer."""
_VALUE = re.compile(
    r"(?<![A-Za-z0-9])(?:sk-[A-Za-z0-9_-]{16,}|hf_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{16,}|glpat-[A-Za-z0-9_-]{16,}"
    r"|xox[abp]-[A-Za-z0-9-]{10,}|AKIA[A-Z0-9]{16})|-----BEGIN [A-Z ]*PRIVATE KEY|://[^/\s@]*:[^/\s@]+@"
)
"""What keys of well-known services look like, and an address with a password."""
_VARIABLES = {"wandb": "WANDB_API_KEY", "trackio": "HF_TOKEN", "tensorboard": "HF_TOKEN"}


def refuse_secrets(document: Any, source: str) -> None:
    """Raise `ConfigError` that names every field which holds a secret, and the variable to set; no value is shown."""
    if lines := [_message(key, use) for key, use in _secrets(document, "", "")]:
        raise ConfigError("\n".join(f"{source}: {line}" for line in lines))


def is_secret(name: str) -> bool:
    """Whether a field of this name holds a secret: `api_key`, `hfToken`, `db-password`; not `pad_token`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).replace("-", "_").lower()
    return bool(_FIELD.search(words)) and not _TEXT_TOKEN.search(words)


def _secrets(value: Any, key: str, use: str) -> Iterator[tuple[str, str]]:
    """(dotted key, plug-in that it belongs to) of every secret below `key`."""
    if isinstance(value, Mapping):
        named = value.get("use")
        for name, inside in value.items():
            where = f"{key}.{name}" if key else str(name)
            yield from _secrets(inside, where, named if isinstance(named, str) else use)
    elif isinstance(value, list) and any(isinstance(each, (Mapping, list)) for each in value):
        for index, inside in enumerate(value):
            yield from _secrets(inside, f"{key}.{index}", use)
    else:
        values = value if isinstance(value, list) else [value]
        given = [each for each in values if each not in (None, "") and not isinstance(each, bool)]
        field = key.rpartition(".")[2]
        if given and (is_secret(field) or any(_VALUE.search(each) for each in given if isinstance(each, str))):
            yield key, use


def _message(key: str, use: str) -> str:
    if variable := _VARIABLES.get(use):
        remedy = f"set {variable} in the environment"
    elif use:
        remedy = f"let {use} read it from the environment, e.g. from {_variable(key)}"
    else:
        remedy = f"set {_variable(key)} in the environment"
    return (
        f"{key}: a secret does not belong into a config, which is kept and published with the results: "
        f"leave it out, and {remedy} (docs/tracking.md)"
    )


def _variable(key: str) -> str:
    if key.split(".")[0] == "model":
        return "HF_TOKEN"
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key.rpartition(".")[2])
    return re.sub(r"[^A-Z0-9]+", "_", words.upper()).strip("_") or "A_VARIABLE"
