"""Writes the table of model families into docs/models.md: `make models-table`. A test per family compares its row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from families import FAMILIES, Measured, measure, tiny

PAGE = Path(__file__).resolve().parents[2] / "docs" / "models.md"
START, END = "<!-- families -->", "<!-- /families -->"
TRAIN = {"packed": "packed", "padded": "one sequence per row"}
READS = {"cache": "cached", "whole": "whole sequence per token"}
SEEN = PAGE.with_name("models_vllm.json")
"""What vLLM was seen to do: `make models-table`. The columns of vLLM say only that."""
CLOSE = 2e-3
"""Largest difference of log-probs of vLLM in float32, which sums in another order."""
SPREAD = 0.1, 5.6
"""Nats that sampled tokens must have on average: not all of them certain, and not all equally likely."""
MOVED = 0.05
"""Difference of log-probs that a direction must make at the most."""


def vllm_columns(seen: dict[str, Any] | None) -> tuple[str, str]:
    """(sampling, steering) of a family with vLLM."""
    if seen is None:
        return "not run", "not run"
    if "refused" in seen:
        return "–", "–"
    assert SPREAD[0] < seen["spread"] < SPREAD[1] and seen.get("moved", 1.0) > MOVED, "nothing would show"
    plain = "yes" if seen["apart"] < CLOSE else f"differs ({seen['apart']:.2g})"
    if "steered" not in seen:
        return plain, "–"
    return plain, "yes" if seen["steered"] < CLOSE else f"differs ({seen['steered']:.2g})"


def row(family: str, found: Measured) -> str:
    """The line of one family. Differences are no part of it: they are rounding, and change with the machine."""
    lora = "–" if found.lora is None else "yes"
    assert found.steer is None or found.steer < CLOSE
    steer = "–" if found.steer is None else "yes"
    served, steered = vllm_columns(json.loads(SEEN.read_text(encoding="utf-8"))["families"].get(family))
    kind = type(tiny(family)).__name__.removesuffix("ForCausalLM").removesuffix("LMHeadModel")
    own = f"{TRAIN[found.layout]} | {READS[found.reads]} | {lora} | {steer}"
    return f"| {kind} (`{family}`) | {own} | {served} | {steered} |"


def table() -> str:
    """One line per family."""
    from shaping.organisms.config import OrganismConfig
    from shaping.organisms.organism import build

    tokenizer = build(OrganismConfig(hidden=32, layers=1, heads=2, kv_heads=1, vocabulary=320), ["a"]).tokenizer
    columns = "train | sample with transformers | LoRA | steering | sample with vLLM | steering with vLLM"
    head = [f"| family | {columns} |", "|---" * 7 + "|"]
    return "\n".join([*head, *(row(family, measure(family, tokenizer)) for family in sorted(FAMILIES))])


def rendered(page: str) -> str:
    """The page with its table written again."""
    before, _, rest = page.partition(START)
    return f"{before}{START}\n{table()}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
