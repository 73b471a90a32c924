"""What a judge answers, and whether it can be believed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from envs.escaping import on_one_line
from envs.text import valid

_FENCE = re.compile(r"\A```(?:json)?\s*(.*?)\s*```\Z", re.DOTALL)
_SHOWN = 160
CANARY_BYTES = 12
"""Random bytes of a canary, which is written in hexadecimal digits."""
LONGEST_REASON = 3, 100
"""Stretches, and characters of each, of a reason that endpoints with structured output may give; others may write more.
xgrammar, which compiles the schema for vLLM, compiles no repetition of more than 128 characters."""


class VerdictError(ValueError):
    """An answer that is no verdict. `kind` is what failures are counted under."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class TurnVerdict(BaseModel):
    """A judge's word on one turn."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)

    # the order in which endpoints with structured output write: the score can rest on the reason before it (2303.16634)
    turn: int = Field(ge=0, description="number of the turn")
    reason: str = Field("", description="what was done, and why the score is as it is")
    score: float = Field(ge=0, le=1, description="from 0 (certainly not) to 1 (certainly)")


class Verdict(BaseModel):
    """A judge's whole answer. Its JSON schema is what endpoints with structured output are given."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)

    canary: str = Field(description="the canary, copied")
    turns: list[TurnVerdict] = Field(max_length=10_000)


def schema(turns: Sequence[int]) -> dict[str, Any]:
    """The answer's JSON schema for these turns. Every field is required and no other one is allowed.

    It leaves nothing open but what is asked: one entry per turn, a canary of the right form, and a reason that ends,
    since small models go on until they are cut off. What it says is checked all the same (`verdict_of`).
    """
    found = Verdict.model_json_schema()
    entry = found["$defs"]["TurnVerdict"]
    for part in (found, entry):
        part |= {"additionalProperties": False, "required": list(part["properties"])}
    found["properties"]["canary"]["pattern"] = f"^[0-9a-f]{{{2 * CANARY_BYTES}}}$"
    found["properties"]["turns"] |= {"minItems": len(turns), "maxItems": len(turns)}
    entry["properties"]["turn"] = {"type": "integer", "enum": list(turns)}
    stretches, most = LONGEST_REASON
    # no quotes and backslashes, which some implementations would take out of their string
    entry["properties"]["reason"]["pattern"] = rf'^([^"\\\n]{{0,{most}}}){{0,{stretches}}}$'
    return found


def verdict_of(text: str, canary: str, asked: Sequence[int]) -> dict[int, TurnVerdict]:
    """Turn -> verdict, for exactly the turns that were asked about.

    Raises: `VerdictError` of the kind `nonsense` (no JSON of the schema), `canary` (another canary than the request's,
    so that something else than the request was answered), or `turns` (some are missing, repeated, or were not asked).
    """
    said = valid(text).rpartition("</think>")[2].strip()
    if fenced := _FENCE.match(said):
        said = fenced[1]
    try:
        verdict = Verdict.model_validate_json(said)
    except ValidationError as error:
        raise VerdictError("nonsense", f"{_problem(error)}: {on_one_line(said, _SHOWN)!r}") from None
    if verdict.canary.strip() != canary:
        raise VerdictError("canary", "the answer does not hold the canary of the request: it may be the transcript's")
    counts = Counter(each.turn for each in verdict.turns)
    if set(counts) != set(asked) or max(counts.values()) > 1:
        raise VerdictError("turns", f"it judges the turns {sorted(counts.elements())[:20]}, not {list(asked)[:20]}")
    return {each.turn: each for each in verdict.turns}


def _problem(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the answer'}: {first['msg']}"
