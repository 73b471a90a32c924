"""The command line of the kit."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import torch

from benchmarks.gpu.report import PARTS, Part, as_page, as_text, broken, failed, machine


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the kit. Returns the exit code: 1 if a check does not hold, 2 if there is no GPU."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda", help="cuda, or cpu for a dry run whose figures mean nothing")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything to FILE")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the tables as Markdown to FILE")
    parser.add_argument("--quick", action="store_true", help="tiny settings")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("no GPU that this torch can use: --device cpu --quick makes a dry run", file=sys.stderr)
        return 2
    of, parts = machine(device), []
    for name in options.only:
        parts.append(_part(name, device, options.quick))
        _write(options.json, options.page, of, parts)  # what is known stays if a later part kills the process
        print(as_text(of, parts) if len(parts) == 1 else as_text(of, parts).split("\n\n")[-1], flush=True)
    if wrong := failed(parts):
        print(f"\n{len(wrong)} checks do not hold: {'; '.join(wrong)}", file=sys.stderr)
    return 1 if wrong else 0


def _part(name: str, device: torch.device, quick: bool) -> Part:
    begun = time.monotonic()
    try:
        run: Callable[[torch.device, bool], Part] = getattr(import_module(f"benchmarks.gpu.{name}"), name)
        part = run(device, quick)
    except Exception as error:  # the other parts are still run
        part = Part(name, [broken("it runs", error)])
    return replace(part, seconds=time.monotonic() - begun)


def _write(to: Path | None, page: Path | None, of: dict[str, Any], parts: Sequence[Part]) -> None:
    if to is not None:
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_text(json.dumps({"machine": of, "parts": [asdict(p) for p in parts]}, indent=2) + "\n")
    if page is not None:
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(as_page(of, parts), encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
