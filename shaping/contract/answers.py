"""What a plug-in answers, asked twice about the same thing; and whether what it was shown is still the same."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from hashlib import blake2b
from statistics import median
from typing import Any

import numpy as np

from envs.check import RuleResult
from envs.episode import Sealed
from envs.frozen import refuses_writing
from envs.text import message_of


class WriteError(RuntimeError):
    """A hook tried to change what it was shown. The rule `read_only` tells it."""


class Asked:
    """Calls hooks of one plug-in and remembers which changed their arguments, or answered otherwise a second time."""

    def __init__(self, plugin: Any) -> None:
        self.plugin = plugin
        self.changed: dict[str, None] = {}
        self.unsteady: dict[str, None] = {}
        self._durations: dict[str, list[float]] = {}

    def ask(self, hook: str, *arguments: Any) -> Any:
        """The answer to the first of two calls, both from the same state of the plug-in. Raises what the hook does.

        Raises: `WriteError` if the hook tried to change a frozen argument.
        """
        state = self._state()
        answer, kept = self._called(hook, arguments)
        if not kept:
            return answer
        if state:
            after = self._state()
            self.plugin.load_state_dict(state)
        if fingerprint(getattr(self.plugin, hook)(*arguments)) != fingerprint(answer):
            self.unsteady[hook] = None
        if state:
            self.plugin.load_state_dict(after)
        return answer

    def tell(self, hook: str, *arguments: Any) -> None:
        """Call a hook that answers nothing, and may change the plug-in's own state.

        Raises: `WriteError` if the hook tried to change an argument.
        """
        self._called(hook, arguments)

    def _called(self, hook: str, arguments: tuple[Any, ...]) -> tuple[Any, bool]:
        """(the answer, are the arguments as they were?). A change is noted."""
        before = fingerprint(arguments)
        began = time.perf_counter()
        try:
            answer = getattr(self.plugin, hook)(*arguments)
        except Exception as error:
            if not refuses_writing(error):
                raise
            self.changed[hook] = None
            raise WriteError(f"{hook}() tried to change what it was shown") from error
        self._durations.setdefault(hook, []).append(time.perf_counter() - began)
        kept = fingerprint(arguments) == before
        if not kept:
            self.changed[hook] = None
        return answer, kept

    def results(self) -> list[RuleResult]:
        """The rules `pure`, `read_only` and `time`, which nothing breaks: medians of its own hooks."""
        own = [hook for hook in self._durations if _defines(type(self.plugin), hook)]
        took = ", ".join(f"{hook}() {median(self._durations[hook]) * 1e3:.3g} ms" for hook in own)
        return [
            result("pure", (f"{hook}() gave two answers about the same" for hook in self.unsteady)),
            result("read_only", (f"{hook}() changed what it was shown; work on a copy" for hook in self.changed)),
            RuleResult("time", True, took or "no hook of its own was called"),
        ]

    def _state(self) -> Mapping[str, Any]:
        return copy.deepcopy(self.plugin.state_dict()) if hasattr(self.plugin, "state_dict") else {}


def _defines(kind: type, hook: str) -> bool:
    """Is the hook one of the class's own, and not the neutral one of the base classes?"""
    found = next((each for each in kind.__mro__ if hook in vars(each)), object)
    return found.__name__ not in ("Intervention", "Shaper", "Constraint")


def result(rule: str, faults: Iterable[str], ok: str = "ok") -> RuleResult:
    """The first fault; an exception is one, too."""
    try:
        fault = next((fault for fault in faults if fault), "")
    except WriteError:  # told by the rule `read_only`
        fault = ""
    except Exception as error:
        fault = f"raised {type(error).__name__}: {message_of(error)}"
    return RuleResult(rule, not fault, fault or ok)


def fingerprint(value: Any) -> bytes:
    """Equal for equal values, bit by bit: numbers, text, arrays, dataclasses and containers of them."""
    digest = blake2b(digest_size=16)
    if isinstance(value, np.ndarray):
        digest.update(f"{value.dtype}{value.shape}".encode() + np.ascontiguousarray(value).tobytes())
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            digest.update(field.name.encode() + fingerprint(getattr(value, field.name)))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            digest.update(fingerprint(key) + fingerprint(item))
    elif isinstance(value, (list, tuple)):
        for item in value:
            digest.update(fingerprint(item))
    elif not isinstance(value, Sealed | np.random.Generator):
        digest.update(f"{type(value).__name__}|{value!r}".encode())
    return digest.digest()
