"""Writes the table of studies into docs/results/README.md: one row for each bundled study, run or not.

`python -m docs.render_studies` after a study was added, registered or run. What the literature has stands in
docs/results/literature.yaml; all else follows from the studies, docs/results/STUDY and the table of timed runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from docs.marked_tables import between_marks, table_of
from docs.methods_table import signed
from launch.config.loading import bundled_studies, load_study, parse_yaml
from launch.config.study import StudyConfig
from launch.estimate.estimate import duration, estimate
from launch.report.build import DELTA
from launch.report.metrics import label
from launch.report.power_table import power_rows

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
PAGE = RESULTS / "README.md"
MARK = "studies"
CORES = 2
"""Cores that the column of times assumes, one run on each."""
NOTHING = "–"
HEAD = (
    "study", "question", "source", "verdict", "main number", "the literature's", "power", f"time on {CORES} cores",
    "command",
)  # fmt: skip


def table(results: Path = RESULTS) -> str:
    """All studies: those with verdicts first, then those that are registered, then the others."""
    known = parse_yaml((results / "literature.yaml").read_text(encoding="utf-8"), "literature.yaml")
    if strangers := sorted(set(known) - set(bundled_studies())):
        raise ValueError(f"literature.yaml: {strangers[0]} is no bundled study")
    order = sorted(bundled_studies(), key=lambda name: (_state(results / name), name))
    return table_of(HEAD, [list(_row(name, results / name, known.get(name, {}))) for name in order])


def _state(folder: Path) -> int:
    return next((n for n, name in enumerate(("verdicts.json", "preregistration.md")) if (folder / name).is_file()), 2)


def _row(name: str, folder: Path, known: Mapping[str, str]) -> Iterator[str]:
    study = load_study(name)
    claim = known.get("claim", "")
    if claim and claim not in study.claims:
        raise ValueError(f"literature.yaml: {name} has no claim {claim!r}")
    verdicts = _verdicts(folder)
    main = next((each for each in verdicts if each["claim"] == claim), None)
    yield f"[`{name}`]({_page(name, folder)})"
    yield study.report.question or "see [studies](../studies.md#the-bundled-studies)"
    yield ", ".join(f"[{each}](https://arxiv.org/abs/{each})" for each in _sources(known)) or "this project's own"
    yield known.get("state") or _verdict(study, folder, verdicts, main, known.get("note", ""))
    yield known.get("number") or _number(main)
    yield known.get("literature", NOTHING)
    yield _power(study, claim, main)
    yield _time(study)
    yield f"`shaping study {name}`"


def _sources(known: Mapping[str, str]) -> list[str]:
    return [each.strip() for each in known.get("source", "").split(",") if each.strip()]


def _page(name: str, folder: Path) -> str:
    """Its section on the page if it has verdicts, else its registration, else its file."""
    if (folder / "verdicts.json").is_file():
        return f"#{name}"
    registered = folder / "preregistration.md"
    return f"{name}/preregistration.md" if registered.is_file() else f"../../launch/studies/{name}.yaml"


def _verdicts(folder: Path) -> list[dict[str, Any]]:
    file = folder / "verdicts.json"
    return list(json.loads(file.read_text(encoding="utf-8"))["verdicts"]) if file.is_file() else []


def _verdict(
    study: StudyConfig, folder: Path, verdicts: list[dict[str, Any]], main: dict[str, Any] | None, note: str
) -> str:
    """The main claim's word, and how the controls came out; of studies that were not run, that they were not."""
    if not verdicts:
        registered = (folder / "preregistration.md").is_file()
        runs, played = len(study.runs()), len(list((folder / "rows").glob("*/seed-*.json")))
        so_far = f"{played} of {runs} runs so far" if played else "not run"
        return "; ".join(filter(None, ("registered" if registered else "not registered", so_far, note)))
    told = f"**{main['verdict']}** ({main['claim']}: {main['statement'].rstrip('.')})" if main else ""
    if main and (failed := main["controls_failed"]):
        told += f", but proves nothing while {', '.join(failed)} is not as it must be"
    controls = [each for each in verdicts if each["must"]]
    as_must = sum(each["behaved"] for each in controls)
    return "; ".join(filter(None, (told, f"controls {as_must} of {len(controls)} as they must be", note)))


def _number(main: dict[str, Any] | None) -> str:
    """The deciding number that is largest, with the interval of its rule."""
    deciding = [
        each for each in (main or {}).get("numbers", []) if each["effect"] is not None and each["low"] is not None
    ]
    if not deciding:
        return NOTHING
    best = max(deciding, key=lambda each: abs(each["mean"]))
    of = f", largest of {len(deciding)}" if len(deciding) > 1 else ""
    what = label(best["metric"]) if " - " in best["contrast"] else f"{best['contrast']}, {label(best['metric'])}"
    return f"{signed(best['mean'])} [{signed(best['low'])}, {signed(best['high'])}] {what}{of}"


def _power(study: StudyConfig, claim: str, main: dict[str, Any] | None) -> str:
    """Of the main claim at its margin: as measured, else as assumed before."""
    measured = [
        each["power"] for each in (main or {}).get("numbers", []) if each["effect"] is not None and each["power"]
    ]
    if measured:
        least = min(measured, key=lambda power: power["power"])
        return f"{least['power']:.2f} at n = {least['n']}"
    assumed = [row.power for row in power_rows(study, None, DELTA) if row.claim == claim]
    if not assumed:
        return NOTHING
    least_assumed = min(assumed, key=lambda power: power.power)
    return f"{least_assumed.power:.2f} at n = {least_assumed.n} (assumed)"


def _time(study: StudyConfig) -> str:
    found = estimate(study.runs())
    return duration(sum(found.seconds) / CORES) if found.seconds and not found.unknown else NOTHING


def rendered(text: str) -> str:
    """The page with its table made again."""
    return between_marks(text, MARK, table())


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
