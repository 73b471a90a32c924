"""One request to an OpenAI-compatible endpoint. Whatever it answers is bounded in size and time, and only data."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from envs.escaping import on_one_line
from shaping.monitors.judging.judge import Judge
from shaping.monitors.judging.verdict import schema

if TYPE_CHECKING:
    import httpx

LARGEST = 4 << 20
"""Bytes of an answer that are read."""
LONGEST_WAIT = 60.0
"""Seconds that an endpoint may ask to be left alone."""
_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said, and the tokens that the endpoint says it took (question, answer); None if it does not say."""

    text: str
    usage: tuple[int, int] | None


class EndpointError(Exception):
    """A request without an answer.

    Args:
        kind: `unreachable`, `slow`, `busy`, `refused` or `nonsense`.
        message: what happened.
        again: may the same request be answered later?
        wait: seconds that the endpoint asks for.
    """

    def __init__(self, kind: str, message: str, *, again: bool, wait: float | None = None) -> None:
        super().__init__(message)
        self.kind, self.again, self.wait = kind, again, wait


def client_of(judge: Judge, connections: int) -> httpx.Client:
    """A client for a judge: it follows no redirects, and uses proxies of the environment only for other machines."""
    import httpx  # takes a quarter of a second, which no study without a judge should wait for

    limits = httpx.Limits(max_connections=connections)
    return httpx.Client(
        timeout=judge.timeout,
        limits=limits,
        follow_redirects=False,
        trust_env=not judge.local,
        verify=judge.endpoint.startswith("https://"),  # certificates take long to load, and plain http needs none
    )


def body_of(judge: Judge, messages: list[dict[str, str]], turns: Sequence[int]) -> bytes:
    """The JSON of a request about these turns."""
    body: dict[str, Any] = {
        "model": judge.model,
        "messages": messages,
        "temperature": judge.temperature,
        "max_tokens": judge.max_tokens,
    }
    if judge.structured == "json_schema":
        wanted = {"name": "verdict", "strict": True, "schema": schema(turns)}
        body["response_format"] = {"type": "json_schema", "json_schema": wanted}
    elif judge.structured == "json_object":
        body["response_format"] = {"type": "json_object"}
    return json.dumps(body).encode()


def complete(client: httpx.Client, judge: Judge, key: str, body: bytes) -> Answer:
    """The answer to a request. Raises: `EndpointError`, whose message never holds the key."""
    import httpx

    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
    until = time.monotonic() + judge.timeout
    try:
        with client.stream("POST", f"{judge.endpoint}/chat/completions", content=body, headers=headers) as response:
            said = _read(response, until)
            status, wait = response.status_code, response.headers.get("retry-after", "")
    except httpx.TimeoutException:
        raise EndpointError("slow", f"no answer within {judge.timeout:g} s", again=True) from None
    except (httpx.HTTPError, httpx.StreamError, OSError) as error:
        raise EndpointError("unreachable", f"{type(error).__name__}: {_shown(str(error), key)}", again=True) from None
    text = said.decode("utf-8", "replace")
    if status != 200:
        busy = status in (408, 409, 425, 429) or status >= 500
        message = f"it answers {status}: {_shown(text, key)}"
        raise EndpointError("busy" if busy else "refused", message, again=busy, wait=_seconds(wait))
    return _answer(text.replace(key, "***") if key else text)


def _read(response: httpx.Response, until: float) -> bytes:
    """The body, as long as it is within the limits: an endpoint may send a byte a minute for ever."""
    parts, size = [], 0
    for part in response.iter_bytes():
        parts.append(part)
        size += len(part)
        if size > LARGEST:
            raise EndpointError("nonsense", f"the answer has more than {LARGEST >> 20} MiB", again=False)
        if time.monotonic() > until:
            raise EndpointError("slow", "the answer did not end in time", again=True)
    return b"".join(parts)


def _answer(text: str) -> Answer:
    try:
        found = json.loads(text)
        said = found["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        raise EndpointError("nonsense", f"no chat completion: {on_one_line(text, _SHOWN)!r}", again=True) from None
    if not isinstance(said, str):
        raise EndpointError("nonsense", "the chat completion holds no text", again=True)
    usage = found.get("usage") if isinstance(found, dict) else None
    counts = [_count(usage, name) for name in ("prompt_tokens", "completion_tokens")]
    return Answer(said, None if counts[0] is None or counts[1] is None else (counts[0], counts[1]))


def _count(usage: Any, name: str) -> int | None:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if type(value) is int and 0 <= value < 1 << 40 else None


def _shown(text: str, key: str) -> str:
    return on_one_line(text.replace(key, "***") if key else text, _SHOWN)


def _seconds(told: str) -> float | None:
    """The seconds of a Retry-After header; None if it has none, e.g. a date."""
    return min(float(told), LONGEST_WAIT) if told.isascii() and told.isdecimal() and len(told) < 6 else None
