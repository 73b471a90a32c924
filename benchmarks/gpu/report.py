"""What the parts of the kit return, and the table made of it."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers

from benchmarks.table import Row, show

PARTS = ("equality", "kernels", "learner", "sampler", "broadcast", "loop")
"""The parts of the kit, in their order."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that is right or wrong."""

    name: str
    """What should hold."""
    ok: bool | None
    """Does it? None: it was not looked at."""
    found: str
    """The figures, or why it was not looked at."""


def broken(name: str, error: Exception) -> Check:
    """Something that did not run at all; what comes after it still does."""
    return Check(name, False, f"{type(error).__name__}: {' '.join(str(error).split())[:500]}")


@dataclass(frozen=True, slots=True)
class Part:
    """The result of one part."""

    name: str
    """Its name in `PARTS`."""
    checks: Sequence[Check] = ()
    """What was checked."""
    rows: Sequence[Row] = ()
    """What was measured."""
    seconds: float = 0.0
    """How long it took."""


def machine(device: torch.device) -> dict[str, Any]:
    """Names and versions that the figures depend on."""
    told: dict[str, Any] = {
        "device": str(device),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "gpus": [],
    }
    for index in range(torch.cuda.device_count() if device.type == "cuda" else 0):
        properties = torch.cuda.get_device_properties(index)
        told["gpus"].append(
            {
                "name": properties.name,
                "gib": round(properties.total_memory / 2**30, 1),
                "capability": f"{properties.major}.{properties.minor}",
            }
        )
    if device.type == "cuda":
        told["cuda"] = torch.version.cuda
    return told


def failed(parts: Sequence[Part]) -> list[str]:
    """Names of the checks that do not hold."""
    return [f"{part.name}: {check.name}" for part in parts for check in part.checks if check.ok is False]


def as_text(of: dict[str, Any], parts: Sequence[Part]) -> str:
    """The report for a terminal."""
    gpus = ", ".join(f"{gpu['name']} ({gpu['gib']} GiB)" for gpu in of["gpus"]) or "no GPU"
    lines = [f"{gpus}; torch {of['torch']}, transformers {of['transformers']}, device {of['device']}"]
    for part in parts:
        lines += ["", f"{part.name} ({part.seconds:.0f} s)"]
        for check in part.checks:
            word = {True: "ok", False: "WRONG", None: "not looked at"}[check.ok]
            lines.append(f"  {word:13} {check.name}: {check.found}")
        if part.rows:
            lines += [f"  {line}" for line in show(part.rows).splitlines()]
    return "\n".join(lines)


def as_page(of: dict[str, Any], parts: Sequence[Part]) -> str:
    """The report as Markdown, for docs/performance.md."""
    gpus = ", ".join(gpu["name"] for gpu in of["gpus"]) or "no GPU (a dry run: the figures mean nothing)"
    lines = [
        f"{gpus}; torch {of['torch']}, transformers {of['transformers']}.",
        "",
        "| check | | found |",
        "|---|---|---|",
    ]
    for part in parts:
        for check in part.checks:
            word = {True: "ok", False: "**wrong**", None: "not looked at"}[check.ok]
            lines.append(f"| {part.name}: {check.name} | {word} | {check.found} |")
    lines += ["", "| row | ours | peer | unit | ratio |", "|---|---|---|---|---|"]
    for part in parts:
        for row in part.rows:
            numbers = [_figure(row.ours), _figure(row.peer), row.unit, _figure(row.ratio)]
            lines.append(f"| {part.name}: {row.name} | {' | '.join(numbers)} |")
    return "\n".join(lines) + "\n"


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
