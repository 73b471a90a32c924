"""Commands that are written as tool calls: `{"name": "report", "arguments": {"item": 3, "as": "done"}}`.

The command of a call is its name and the values of its arguments in their order, here `report 3 done`. A tool that is
called `action` or `command` only passes a command on, so that its values alone are the command: `{"action": "work 2"}`.
A call stands between tags (`<tool_call>`), or it is all that the end of a text, or what follows the action marker, has
to say; there it may stand in a code fence. What is no JSON, or is cut off, is no call.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

_TAGGED = re.compile(r"<(tool_call|function_call)>(.*?)</\1>", re.DOTALL | re.IGNORECASE)
_LEAD = re.compile(r"^[ \t`]*(?:\[tool_calls\]|<\|python_tag\|>)?[ \t]*(?=[\[{])", re.MULTILINE | re.IGNORECASE)
_AROUND = "` \t\r\n"
"""What may stand behind a call without tags."""
_PASSES_ON = frozenset({"action", "command"})
"""Names of tools that have no meaning of their own."""
LONGEST = 4000
"""Characters of the longest call between no tags; longer ones are not looked for."""


class Call(NamedTuple):
    """A call in a text."""

    start: int
    """Where it begins, with its tag."""
    stop: int
    """Where it ends, with its tag."""
    inner: tuple[int, int]
    """Where its JSON stands."""
    command: str
    """Its command as it was written."""


def last_call(text: str, start: int, stop: int) -> Call | None:
    """The last call in a part of a text."""
    if text.find("{", start, stop) < 0:
        return None
    tagged = [found for found in _TAGGED.finditer(text, start, stop) if command_of(found[2])]
    if bare := bare_call(text, tagged[-1].end() if tagged else start, stop):
        return bare
    if not tagged:
        return None
    found = tagged[-1]
    return Call(found.start(), found.end(), found.span(2), command_of(found[2]))


def bare_call(text: str, start: int, stop: int) -> Call | None:
    """A call without tags that is all that the end of a part of a text says; code fences do not count."""
    part = text[start:stop].rstrip(_AROUND)
    if not part.endswith(("}", "]")) or len(part) > LONGEST:
        return None
    for lead in _LEAD.finditer(part):
        if command := command_of(part[lead.end() :]):
            end = start + len(part)
            return Call(start + lead.start(), end, (start + lead.end(), end), command)
    return None


def command_of(text: str) -> str:
    """The command of a call in JSON; empty if it is none. It may hold signs that no command has."""
    try:
        call = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    if isinstance(call, list) and call:
        call = call[-1]
    if not isinstance(call, dict):
        return ""
    call = call["function"] if isinstance(call.get("function"), dict) else call
    name = call.get("name")
    if name is None and len(call) == 1 and {*call} <= _PASSES_ON:
        name, call = "command", {"arguments": call}
    given: Any = next((call[key] for key in ("arguments", "parameters", "input") if key in call), {})
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            return ""
    if not isinstance(name, str) or not name.strip():
        return ""
    said = [str(value) for value in _values(given)]
    name = name.replace("_", " ").strip()
    return " ".join(said if name.lower() in _PASSES_ON and said else [name, *said])


def _values(given: Any) -> Iterator[Any]:
    values = given.values() if isinstance(given, dict) else given if isinstance(given, list) else [given]
    for value in values:
        if isinstance(value, list):
            yield from value
        elif value is not None:
            yield value
