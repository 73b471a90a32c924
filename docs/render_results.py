"""Writes the tables of results into README.md and docs/results/README.md, from docs/results/STUDY/.

`python -m docs.render_results` after `shaping report docs/results/STUDY/rows --out DIRECTORY` and a copy of its
arms.csv (above a megabyte as arms.csv.gz) and verdicts.json, and `python -m docs.results_made STUDY`, which notes
commit, machine and versions; the table of methods is made from the rows themselves. A test compares pages and files.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from docs.method_checks import Checks
from docs.methods_table import Methods
from docs.methods_table import signed as _signed
from docs.results_made import lines_of
from launch.report.metrics import label

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", ROOT / "docs" / "results" / "README.md")
AT = re.compile(r"\+point=[\w-]+")
"""The point in an arm's name, which stands beside the claim."""
MARK = re.compile(r"<!-- (arms|checks|claims|methods|made) ([\w-]+)((?: [\w/.@-]+)*) -->\n.*?<!-- / -->", re.DOTALL)


def rendered(text: str) -> str:
    """The page with its tables made again.

    They are `<!-- arms STUDY METRIC... -->`, `<!-- claims STUDY -->`, `<!-- methods STUDY -->` and
    `<!-- checks STUDY -->`; beside them stands `<!-- made STUDY -->`: of which runs they are, whether they are stale,
    and how far a rerun may differ.
    """

    def table(found: re.Match[str]) -> str:
        kind, study, metrics = found[1], found[2], found[3].split()
        lines = {
            "arms": lambda: arms(study, metrics),
            "claims": lambda: claims(study),
            "made": lambda: lines_of(study),
            "methods": lambda: Methods.of(ROOT / "docs" / "results" / study).lines(),
            "checks": lambda: Checks.of(ROOT / "docs" / "results" / study).lines(),
        }[kind]()
        return f"<!-- {kind} {study}{found[3]} -->\n" + "\n".join(lines) + "\n<!-- / -->"

    return MARK.sub(table, text)


def arms(study: str, metrics: list[str]) -> Iterator[str]:
    """One line per arm: mean and 95 % interval over its replicates."""
    found: dict[str, dict[str, Mapping[str, str]]] = {}
    for row in csv.DictReader(_arms_csv(ROOT / "docs" / "results" / study).splitlines()):
        found.setdefault(row["arm"], {})[row["metric"]] = row
    yield "| arm | " + " | ".join(_short(metric) for metric in metrics) + " |"
    yield "|---" * (len(metrics) + 1) + "|"
    for arm, by_metric in found.items():
        cells = [_interval(by_metric[metric]) if metric in by_metric else "–" for metric in metrics]
        if any(cell != "–" for cell in cells):
            yield f"| {_words(arm)} | " + " | ".join(cells) + " |"


def _arms_csv(folder: Path) -> str:
    """arms.csv of a study, which is compressed where it is large."""
    packed = folder / "arms.csv.gz"
    return (
        gzip.decompress(packed.read_bytes()).decode() if packed.is_file() else (folder / "arms.csv").read_text("utf-8")
    )


def claims(study: str) -> Iterator[str]:
    """One line per claim and point: the verdict, and the numbers that decide it with the intervals of the rule."""
    document = json.loads((ROOT / "docs" / "results" / study / "verdicts.json").read_text(encoding="utf-8"))
    yield "| claim | verdict | numbers behind it |"
    yield "|---|---|---|"
    for verdict in document["verdicts"]:
        point = f" ({verdict['point']})" if verdict.get("point") else ""
        must = f", must be {verdict['must']}" if verdict.get("must") else ""
        if failed := verdict["controls_failed"]:
            must = f", but proves nothing while {', '.join(failed)} is not as it must be"
        said = f"**{verdict['claim']}**{point}: {verdict['statement']}"
        yield f"| {said} | **{verdict['verdict']}**{must} | {_told(verdict)} |"


def _told(verdict: Mapping[str, Any]) -> str:
    if verdict["verdict"] == "not tested":
        return str(verdict["reason"]).replace("_", " ")
    deciding = [number for number in verdict["numbers"] if number["effect"] is not None]
    return "; ".join(
        f"{AT.sub('', number['contrast']).replace('_', ' ')}, {_short(number['metric'])}: {_difference(number)}"
        for number in deciding
    )


def _difference(number: Mapping[str, Any]) -> str:
    if number["low"] is None:
        return "not compared"
    return f"{_signed(number['mean'])} [{_signed(number['low'])}, {_signed(number['high'])}]"


def _interval(row: Mapping[str, str]) -> str:
    if not row["mean"] or math.isnan(float(row["mean"])):
        return "–"
    if not row["low"]:
        return f"{float(row['mean']):.2f} (one replicate)".replace("-", "−")
    return f"{float(row['mean']):.2f} [{float(row['low']):.2f}, {float(row['high']):.2f}]".replace("-", "−")


def _short(metric: str) -> str:
    if metric.startswith("monitor."):
        return label(metric)
    name, _, world = metric.removeprefix("trained/").partition(".")
    name = {"deception": "lies per chance"}.get(name, name.replace("_", " "))
    return f"{name} in {world}" if world else name


def _words(arm: str) -> str:
    return arm.replace("_", " ").replace("+point=", ", ")


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(rendered(page.read_text(encoding="utf-8")), encoding="utf-8")
