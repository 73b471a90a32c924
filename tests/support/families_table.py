"""Writes the table of model families into docs/models.md: `make models-table`. A test per family compares its row."""

from __future__ import annotations

from pathlib import Path

from families import FAMILIES, Measured, measure, tiny

PAGE = Path(__file__).resolve().parents[2] / "docs" / "models.md"
START, END = "<!-- families -->", "<!-- /families -->"
TRAIN = {"packed": "packed", "padded": "one sequence per row"}
READS = {"cache": "cached", "whole": "whole sequence per token"}
VLLM = "not run"
"""The column of vLLM says only what was run."""


def row(family: str, found: Measured) -> str:
    """The line of one family. Differences are no part of it: they are rounding, and change with the machine."""
    lora = "–" if found.lora is None else "yes"
    kind = type(tiny(family)).__name__.removesuffix("ForCausalLM").removesuffix("LMHeadModel")
    return f"| {kind} (`{family}`) | {TRAIN[found.layout]} | {READS[found.reads]} | {lora} | {VLLM} |"


def table() -> str:
    """One line per family."""
    from shaping.organisms.config import OrganismConfig
    from shaping.organisms.organism import build

    tokenizer = build(OrganismConfig(hidden=32, layers=1, heads=2, kv_heads=1, vocabulary=320), ["a"]).tokenizer
    head = ["| family | train | sample with transformers | LoRA | sample with vLLM |", "|---" * 5 + "|"]
    return "\n".join([*head, *(row(family, measure(family, tokenizer)) for family in sorted(FAMILIES))])


def rendered(page: str) -> str:
    """The page with its table written again."""
    before, _, rest = page.partition(START)
    return f"{before}{START}\n{table()}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
