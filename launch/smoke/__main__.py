"""`python -m launch.smoke [STUDY ...]`: every bundled study at its smallest size, and a table of how that went."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from envs.escaping import on_one_line
from launch.config.loading import bundled_studies, load_study
from launch.smoke.run import Outcome, smoke
from launch.terminal import say

RECORD, LOG = "outcome.json", "log.txt"
HEAD = f"{'study':<26} {'runs':>5} {'left out':>8} {'seconds':>8} {'of CPU':>8}  result"


def main(words: Sequence[str] | None = None) -> int:
    """0 if every study went through."""
    given = _arguments(words)
    if given.record:
        outcome = smoke(given.studies[0], given.out, given.settings)
        (given.out / RECORD).write_text(outcome.model_dump_json(), encoding="utf-8")
        return int(not outcome.ok)
    names = given.studies or sorted(bundled_studies(), key=lambda name: -len(load_study(name).runs()))
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(given.processes) as pool:
        out = given.out or Path(scratch)
        say(HEAD)
        found = list(pool.map(lambda name: _told(_apart(name, out, given)), names))
    failed = [outcome.study for outcome in found if not outcome.ok]
    say(
        f"{len(found)} studies, {sum(outcome.runs for outcome in found)} runs, "
        f"{(time.perf_counter() - start) / 60:.1f} minutes with {given.processes} processes, "
        f"{sum(outcome.cpu for outcome in found) / 60:.1f} of CPU; "
        + (f"failed: {', '.join(failed)}" if failed else "all went through")
    )
    return int(bool(failed))


def line(outcome: Outcome) -> str:
    """The outcome as a row of the table."""
    result = "ok" if outcome.ok else f"FAILED: {outcome.why}"
    size = f"{outcome.study:<26} {outcome.runs:>5} {outcome.left_out:>8}"
    return f"{size} {outcome.seconds:>8.0f} {outcome.cpu:>8.0f}  {result}"


def _told(outcome: Outcome) -> Outcome:
    say(on_one_line(line(outcome)))
    return outcome


def _apart(name: str, out: Path, given: argparse.Namespace) -> Outcome:
    """Play one study in a process of its own, with one thread, so that what kills it kills nothing else."""
    folder = out.absolute() / Path(name).stem
    folder.mkdir(parents=True)
    limit = ["--settings", str(given.settings)]
    command = [sys.executable, "-m", "launch.smoke", name, "--record", "--out", str(folder), *limit]
    start = time.perf_counter()
    try:
        with (folder / LOG).open("wb") as log:
            done = subprocess.run(
                command, stdout=log, stderr=subprocess.STDOUT, timeout=given.timeout, check=False,
                env=os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
            )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Outcome(study=name, seconds=time.perf_counter() - start, why=f"took more than {given.timeout:g} s")
    record = folder / RECORD
    if not record.is_file():
        return Outcome(
            study=name,
            seconds=time.perf_counter() - start,
            why=f"its process ended with {done.returncode}: {_end(folder)}",
        )
    return Outcome.model_validate_json(record.read_text(encoding="utf-8"))


def _end(folder: Path) -> str:
    lines = (folder / LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "no output"


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m launch.smoke", description=__doc__)
    parser.add_argument("studies", nargs="*", help="bundled studies, or files; none: all bundled ones")
    parser.add_argument("--processes", type=int, default=2, help="studies at a time")
    parser.add_argument("--settings", type=int, default=0, help="arms and points of a study at the most; 0: all")
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds that a study may take")
    parser.add_argument(
        "--out", type=Path, help="directory that is kept, with runs, reports and logs; none: a temporary one"
    )
    parser.add_argument("--record", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
