"""How the published results of a study were made, and whether the study, its claims, worlds or subjects have changed.

`python -m docs.results_made STUDY ...` writes docs/results/STUDY/made.json from the rows there: the commit whose
sources the runs had, their machines and versions, the registered digest, and digests of transcripts and subjects. It is
kept with the rows; `docs.render_results` writes it beside every table and calls a table stale if something differs by
now.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from launch.config.loading import load_study
from launch.config.model import Organisms
from launch.config.reading.digests import digest
from launch.config.reading.published import without_places
from launch.config.study import StudyConfig
from launch.slices.source import study_digest
from launch.storage.versions import PACKAGES
from shaping.models.model_files import hashes
from shaping.organisms.corpus.corpus_options import SIZES
from shaping.organisms.corpus.dialect import dialect_hashes
from shaping.organisms.shipped import COUNT, shipped

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
WEIGHTS = "model.safetensors"
NAMED = ("torch", "transformers", "numpy")
"""Packages that a page names; made.json has all."""
Document = Mapping[str, Any]


def made(study: str, results: Path = RESULTS) -> dict[str, Any]:
    """What made.json says of the runs whose rows are kept. Raises `ValueError` if a commit cannot be found."""
    folder = results / study / "rows"
    records = [json.loads(path.read_text(encoding="utf-8"))["record"] for path in sorted(folder.glob("*/seed-*.json"))]
    recorded = recorded_study(folder)
    sources = sorted({record["versions"]["source"] for record in records})
    machines = {_machine(record["versions"]): record["versions"]["packages"] for record in records}
    worlds = sorted(_worlds(recorded))
    return {
        "study": study_digest(without_places(json.loads((folder / "study.json").read_text())["config"])),
        "runs": len(records),
        "commits": [commit_of(source) for source in sources],
        "sources": sources,
        "machines": [{"machine": machine, "packages": packages} for machine, packages in machines.items()],
        "transcripts": dialect_hashes(worlds),
        "subjects": sorted({record["model"][WEIGHTS] for record in records}),
        "claims": _claims(recorded),
    }


def changes(study: str, results: Path = RESULTS) -> list[str]:
    """What differs by now from what the published runs were of: the study, its claims, transcripts, subjects."""
    written = json.loads((results / study / "made.json").read_text(encoding="utf-8"))
    before, now = recorded_study(results / study / "rows"), load_study(study, [])
    lines = []
    if _runs(before) != _runs(now):
        lines.append("the study")
    if _claims(before) != _claims(now):
        lines.append("its claims")
    spoken = transcripts()
    if other := [world for world, known in written["transcripts"].items() if spoken.get(world) != known]:
        lines.append(f"what is said in {', '.join(other)}")
    # weights of other models lie elsewhere
    if now.model == Organisms(organism="shipped") and set(written["subjects"]) - subjects():
        lines.append("its subjects")
    return lines


def lines_of(study: str, results: Path = RESULTS) -> Iterator[str]:
    """What stands beside a table: of which runs it is, whether it is stale, and how far a rerun may differ."""
    written = json.loads((results / study / "made.json").read_text(encoding="utf-8"))
    if stale := changes(study, results):
        have = "have" if len(stale) > 1 else "has"
        yield f"**Stale:** {', '.join(stale)} {have} another digest by now; run it again."
        yield ""
    machines = "; ".join(f"{each['machine']}{_packages(each['packages'])}" for each in written["machines"])
    yield (
        f"Of {written['runs']} runs at commit {', '.join(commit[:7] for commit in written['commits'])} "
        f"(study {written['study'][:8]}); {machines}."
    )
    rerun = results / study / "rerun.json"
    yield from (
        _rerun(json.loads(rerun.read_text(encoding="utf-8")))
        if rerun.is_file()
        else ("No rerun on another machine was measured; the [quickstart's](#quickstart) says how far one may differ.",)
    )


def _packages(packages: Document) -> str:
    return "".join(f", {name} {packages[name]}" for name in NAMED if packages.get(name))


def _rerun(found: Document) -> Iterator[str]:
    moved = "; ".join(
        f"{', '.join(each['metrics'])} by at most {each['by']:.2f}{each['where']}" for each in found["moved"]
    )
    yield f"How far a rerun may differ: {found['how']}, {found['verdicts']}. Means of arms moved: {moved}."


def recorded_study(rows: Path) -> StudyConfig:
    """The config of the rows as today's code reads it, so that a new key with its default makes no difference."""
    return StudyConfig.model_validate(json.loads((rows / "study.json").read_text(encoding="utf-8"))["config"])


def _runs(config: StudyConfig) -> str:
    """Digest of all runs that it asks for, in full: of what the numbers depend on."""
    return digest([without_places(run.model_dump(mode="json")) for run in config.runs()])


def _claims(config: StudyConfig) -> str:
    return digest(config.model_dump(mode="json")["claims"])


def _worlds(config: StudyConfig) -> set[str]:
    """Worlds of the corpus that it trains or evaluates in."""
    named = {name for run in config.runs() for name in (*run.train.worlds, *run.eval.worlds)}
    return {name.partition("@")[0] for name in named} & set(SIZES)


@cache
def transcripts() -> dict[str, str]:
    """World -> digest of its seeded transcripts, as it speaks now."""
    return dialect_hashes(tuple(SIZES))


@cache
def subjects() -> set[str]:
    """Digests of the weights of the organisms in the package."""
    return {hashes(shipped(number))[WEIGHTS] for number in range(COUNT)}


def _machine(versions: Document) -> str:
    return f"Python {versions['python']} on {versions['platform'].partition('-')[0]} {versions['machine']}"


@cache
def commit_of(source: str) -> str:
    """The first commit whose Python files have this hash (`launch.storage.versions.source_hash`)."""
    blobs: dict[str, bytes] = {}
    for commit in _git("log", "--reverse", "--format=%H").split():
        files = {}
        for line in _git("ls-tree", "-r", commit, *PACKAGES).splitlines():
            told, _, path = line.partition("\t")
            if path.endswith(".py"):
                files[path] = told.split()[2]
        found = hashlib.blake2b(digest_size=16)
        for package in PACKAGES:
            for path in sorted((path for path in files if path.startswith(f"{package}/")), key=Path):
                if (blob := files[path]) not in blobs:
                    blobs[blob] = _bytes("cat-file", "blob", blob)
                found.update(path.encode() + b"\0" + blobs[blob] + b"\0")
        if found.hexdigest() == source:
            return commit
    raise ValueError(f"no commit has the sources {source}: commit what the runs were of, and play them from that")


def _git(*words: str) -> str:
    return _bytes(*words).decode()


def _bytes(*words: str) -> bytes:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, check=True).stdout


if __name__ == "__main__":
    for each in sys.argv[1:]:
        (RESULTS / each / "made.json").write_text(json.dumps(made(each), indent=1) + "\n", encoding="utf-8")
