"""A study for notebooks: its runs, metrics, episodes and verdicts, from where it ran or from rows that were kept."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from envs.episode import Episode
from envs.escaping import on_one_line
from envs.store import StoreError, read_episodes
from launch.analysis import frames
from launch.analysis.charts import Chart
from launch.analysis.drawn import curves, effects
from launch.analysis.episodes import Episodes, chosen
from launch.errors import UserError, nearest
from launch.report.build import DELTA
from launch.report.claims.judge import Verdict, judge_study
from launch.report.escaping import visible
from launch.report.files.episode_files import try_reading
from launch.report.files.load import Run, Study, load
from launch.report.table import Values, values_of
from shaping.audits.played import OWN, cells_of

if TYPE_CHECKING:
    from pandas import DataFrame

Phase = Literal["evaluation", "training"]
_FILES = {"evaluation": "eval.parquet", "training": "train-*.parquet"}


def open_study(directory: Path | str, *slices: Path | str) -> OpenStudy:
    """Open a study: the directory that `shaping study` wrote, or rows of it (`docs/results/NAME`); slices are joined.

    Raises: `UserError` (`StudyDirectoryError`) if there is no study, or none of its runs is complete.
    """
    return OpenStudy(load(*(place_of(Path(each).expanduser()) for each in (directory, *slices))))


def place_of(directory: Path) -> Path:
    """The directory with study.json: this one, or its `rows/` where results keep them beside their tables."""
    rows = directory / "rows"
    return rows if not (directory / "study.json").is_file() and (rows / "study.json").is_file() else directory


class OpenStudy:
    """A study that was read. Frames are pandas', and new at each call; nothing in a directory is changed."""

    def __init__(self, study: Study) -> None:
        self.study = study
        """What reports are made from."""
        self._tried: dict[Path, tuple[int, int]] = {}
        """Episode file -> time and size with which another process has read it without harm."""

    @property
    def name(self) -> str:
        return self.study.name

    @property
    def runs(self) -> DataFrame:
        """One row per run that was planned or found: arm, seed, role, family, axes, subject, updates, status.

        `status` is `complete`, or why the run cannot be used.
        """
        return frames.runs(self.study)

    @property
    def arms(self) -> list[str]:
        """Names of the arms, as in the columns `arm`; with their point where the study has axes."""
        return list(self.study.arms)

    def metrics(self, arm: str | None = None) -> DataFrame:
        """One row per update of every complete run: arm, seed, and the columns of metrics.jsonl."""
        return frames.updates(self._runs(arm))

    def evaluation(self, arm: str | None = None) -> DataFrame:
        """One row per evaluation condition of every complete run: arm, seed, and the columns of eval.jsonl."""
        return frames.evaluation(self._runs(arm))

    def summary(self, arm: str | None = None) -> DataFrame:
        """One row per complete run: arm, seed, and the metrics that reports may quote of it."""
        return frames.summary(self._runs(arm), self._values)

    def table(self) -> DataFrame:
        """Arm x metric: mean, bounds of the 95 % interval over replicates, and their number, as in arms.csv."""
        return frames.table(self._values)

    def verdicts(self) -> DataFrame:
        """One row per claim and point: verdict, statement, what it says of the numbers, and the fate of controls."""
        return frames.verdicts(self.judged)

    def effects(self) -> DataFrame:
        """One row per number behind a verdict: claim, metric, contrast, mean, bounds, n, level, effect, p."""
        return frames.effects(self.judged)

    def episodes(
        self,
        arm: str | None = None,
        world: str | None = None,
        label: str | None = None,
        *,
        seed: int | None = None,
        phase: Phase = "evaluation",
    ) -> Episodes:
        """Episodes that the runs have saved.

        Args:
            arm: of this arm alone.
            world: of this world alone.
            label: those with a turn that shows this trait, e.g. `deception`.
            seed: of the run of this seed alone.
            phase: `evaluation`: what the trained policy played without prompts and interventions; `training`: the
                updates that were saved (`train.save_episodes_every`, and the last).
        Raises: `UserError` if there is no such arm, world, label or phase; if a file is damaged; and if rows alone were
        kept, which hold no episodes.
        """
        if phase not in _FILES:
            raise UserError(f"phase: {phase!r} is none of {', '.join(_FILES)}")
        runs = [run for run in self._runs(arm) if seed is None or run.seed == seed]
        kept = [run.directory for run in runs if run.directory is not None]
        if runs and not kept:
            raise UserError(f"{self.study.directory}: rows hold no episodes; open the directory in which the study ran")
        paths = [path for place in kept for path in sorted((place / "episodes").glob(_FILES[phase]))]
        found = self._read(paths, phase)
        worlds = {episode.world for episode in found}
        if world is not None and world not in worlds:
            raise UserError(f"world: no episode is of {world!r}{nearest(world, worlds)}")
        return chosen(found, world=world, label=label)

    def curve(self, metric: str, arms: Sequence[str] = ()) -> Chart:
        """The learning curve of a column of `metrics()`: smoothed mean over replicates, and its 95 % interval."""
        for arm in arms:
            self._runs(arm)
        known = {key for run in self.study.runs for row in run.train for key in row}
        if metric not in known:
            raise UserError(f"metric: no update has {metric!r}{nearest(metric, known)}")
        return curves(self.study, metric, arms)

    def forest(self) -> Chart:
        """The effects behind the verdicts with their intervals."""
        return effects(self.judged, self.name)

    @cached_property
    def judged(self) -> list[Verdict]:
        """The study's claims, judged by its rules on the runs that are complete."""
        return judge_study(self.study, self._values, DELTA)

    @cached_property
    def _values(self) -> Values:
        return values_of(self.study)

    def _runs(self, arm: str | None) -> list[Run]:
        if arm is None:
            return list(self.study.runs)
        if arm not in self.study.arms:
            raise UserError(f"arm: {self.name} has no {arm!r}{nearest(arm, self.study.arms)}")
        return list(self.study.of(arm))

    def _read(self, paths: Sequence[Path], phase: str) -> list[Episode]:
        stamps = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in paths}
        new = [path for path, stamp in stamps.items() if self._tried.get(path) != stamp]
        for path, problem in try_reading(new).items():  # once: it takes another process
            if problem:
                raise UserError(on_one_line(f"{path}: {problem}"))
            self._tried[path] = stamps[path]
        try:
            every = [episode for path in paths for episode in read_episodes(path)]
        except StoreError as error:
            raise UserError(on_one_line(str(error))) from error
        return every if phase == "training" else [episode for episode in every if OWN in cells_of(episode)]

    def __repr__(self) -> str:
        runs, missing = len(self.study.runs), len(self.study.missing)
        lacking = f", {missing} missing" if missing else ""
        return f"<study {self.name}: {len(self.study.arms)} arms, {runs} complete runs{lacking}>"

    def _repr_html_(self) -> str:
        from markupsafe import escape

        rows = "".join(
            f"<tr><td>{escape(visible(name))}</td><td>{escape(visible(arm.title))}</td><td>{escape(arm.role)}</td>"
            f"<td>{len(self.study.of(name))}</td></tr>"
            for name, arm in self.study.arms.items()
        )
        head = "<tr><th>arm</th><th>label</th><th>role</th><th>complete runs</th></tr>"
        return f"<p>{escape(visible(repr(self)))}</p><table><thead>{head}</thead><tbody>{rows}</tbody></table>"
