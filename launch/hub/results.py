"""The results of a study as files for a hub: verdicts, arms, settings and figures, and what a card says of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import yaml

from launch.analysis.charts import Chart
from launch.analysis.opened import OpenStudy, open_study, place_of
from launch.errors import UserError
from launch.report.answer import answer
from launch.report.build import DELTA
from launch.report.claims.verdict import as_json
from launch.report.escaping import json_text, plain
from launch.report.markdown import blocks, bullets, inline, line, table
from launch.report.metrics import label
from launch.report.table import NOTHING, as_csv, summarise, values_of
from launch.slices.rows import write_rows
from launch.slices.source import ROWS, BrokenRunError, open_source
from launch.storage.documents import write_json
from launch.storage.files import make_directory, write_text

SETTINGS = "study-config.json"
CURVES = ("reward", "rate/deception", "rate/reward_hack")
_METRICS = ("proxy_reward", "true_reward", "deception", "reward_hacking", "hidden_gap")
_TAGS = ("shaping", "reinforcement-learning", "ai-safety", "deception")
SUBJECT = (
    "The policies of this study were trained by reinforcement learning in simulated worlds that pay for deception. "
    "They are subjects of research."
)


@dataclass(frozen=True)
class StudyResults:
    """The results of a study, read from where it ran or from rows."""

    place: Path
    """The directory with study.json."""
    opened: OpenStudy

    @classmethod
    def of(cls, directory: Path) -> StudyResults:
        """Raises `UserError` (`StudyDirectoryError`) if the directory holds no study with a complete run."""
        return cls(place_of(directory), open_study(directory))

    def write(self, folder: Path) -> list[str]:
        """Write settings, verdicts.json, arms.csv and figures to a folder. Returns the names of the files."""
        study = self.opened.study
        source = open_source(self.place)
        verdicts = as_json(self.opened.judged, study.name, DELTA)
        make_directory(folder / "figures")
        write_json(folder / SETTINGS, source.recorded)
        write_text(folder / "verdicts.json", json_text(verdicts, indent=1) + "\n")
        write_text(folder / "arms.csv", as_csv(summarise(values_of(study))))
        for name, chart in self.figures.items():
            chart.save(folder / "figures" / f"{name}.svg")
        return [SETTINGS, "verdicts.json", "arms.csv", *(f"figures/{name}.svg" for name in self.figures)]

    def write_rows(self, folder: Path) -> int:
        """Write the rows of the complete runs, from which everything can be computed again. Returns their number."""
        source, count = open_source(self.place), 0
        make_directory(folder)
        write_json(folder / "study.json", {"format": ROWS, "version": 1, "config": source.recorded})
        for run in self.opened.study.runs:
            try:
                rows = source.read(run.arm, run.seed)
            except BrokenRunError as error:
                raise UserError(f"{self.place}: {run.arm}, seed {run.seed} has changed meanwhile: {error}") from error
            make_directory(folder / run.arm)
            write_rows(folder / run.arm / f"seed-{run.seed}.json", source.digest, run.arm, run.seed, rows)
            count += 1
        return count

    @cached_property
    def figures(self) -> Mapping[str, Chart]:
        """File name -> chart, for those that the study has numbers for."""
        return dict(self._figures())

    def _figures(self) -> Iterator[tuple[str, Chart]]:
        known = {key for run in self.opened.study.runs for row in run.train for key in row}
        if any(math.isfinite(o.interval.mean) for v in self.opened.judged for o in v.outcomes if o.decides):
            yield "effects", self.opened.forest()
        for metric in CURVES:
            if metric in known and not self.opened.metrics()[metric].isna().all():
                yield metric.replace("/", "_"), self.opened.curve(metric)

    def markdown(self, prefix: str = "") -> str:
        """Verdicts, figures and the main numbers of the arms. `prefix`: the folder of the files, with a slash."""
        study = self.opened.study
        judged = [
            (each.claim, each.point, each.statement, each.verdict, ", ".join(each.controls_failed) or "–")
            for each in self.opened.judged
        ]
        cells = summarise(values_of(study))
        arms = [
            (
                arm.title,
                arm.role,
                str(len(study.of(name))),
                *(plain(*cells[name].get(m, NOTHING)[:3]) for m in _METRICS),
            )
            for name, arm in study.arms.items()
            if study.of(name)
        ]
        pictures = "\n".join(f"![{inline(c.title)}]({prefix}figures/{n}.svg)\n" for n, c in self.figures.items())
        missing = [f"{each.arm}, seed {each.seed}: {each.reason}" for each in study.missing]
        return blocks(
            "## Results of the study",
            line(study.config.report.question, 1000),
            bullets(answer(self.opened.judged).splitlines()),
            table(("claim", "at", "statement", "verdict", "controls that failed"), judged) if judged else "",
            pictures.strip(),
            "Means over replicates with 95 % intervals, at deployment (no prompt, no mask, no overseer's penalty):",
            table(("arm", "role", "runs", *map(label, _METRICS)), arms),
            "Runs that the study asked for and that are missing:\n\n" + bullets(missing) if missing else "",
            f"Files: `{prefix}verdicts.json` (claims with numbers and rules), `{prefix}arms.csv` (all metrics), "
            f"`{prefix}{SETTINGS}`.",
        )

    def card(self, runs: int) -> str:
        """The README of a folder that holds the results and their rows."""
        study = self.opened.study
        metadata = {
            "pretty_name": f"shaping study: {study.name}",
            "tags": list(_TAGS),
            "configs": [{"config_name": "arms", "data_files": "arms.csv"}],
        }
        how = "\n".join(
            (
                "```python",
                "import shaping",
                "",
                'study = shaping.open_study(".")  # this folder',
                "study.verdicts(), study.metrics(), study.table()",
                "```",
            )
        )
        return (
            f"---\n{yaml.safe_dump(metadata, sort_keys=False)}---\n\n"
            + blocks(
                f"# {line(study.name)}",
                SUBJECT,
                self.markdown(),
                "## Reading it",
                f"`rows/` holds settings, metrics and evaluation of {runs} runs, without episodes and weights.",
                how,
            )
            + "\n"
        )
