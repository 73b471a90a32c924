"""Read a study into records, or say in one message why it cannot be read.

Runs that did not finish are listed, not raised: a report shows them as attrition.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from launch.config.arms.axes import arm_of, keys_of
from launch.config.study import Role, StudyConfig
from launch.looks.record import NAME as LOOKS
from launch.looks.record import seeds_so_far
from launch.report.files.run_files import DamagedFileError, check_rows, is_measurement
from launch.slices.join import open_slices, read_run, relative
from launch.slices.rows import RunRows
from launch.slices.source import BrokenRunError, Source, StudyDirectoryError
from launch.storage.rundir import EVALUATION, METRICS

Record = Mapping[str, Any]


@dataclass(frozen=True)
class ArmInfo:
    """What a report needs to know about an arm at one point of the study's axes (`cell`: axis -> value)."""

    name: str
    label: str = ""
    family: str = "control"
    role: Role = "treatment"
    oracle: bool = False
    spent_monitors: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    """Where each method gets its labels from, in words."""
    sweep_point: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The label, with what a reader must know about how it was trained."""
        remarks = [f"{axis} = {value}" for axis, value in self.sweep_point.items()]
        remarks += ["oracle: reads ground truth"] if self.oracle else []
        remarks += [f"trained against monitor {name}" for name in self.spent_monitors]
        return (self.label or self.name) + (f" ({'; '.join(remarks)})" if remarks else "")

    @property
    def base(self) -> str:
        """The arm's key in the study, without its point of the axes."""
        return arm_of(self.name)

    @property
    def group(self) -> str:
        """Where figures list it: controls as control, the reference as unshaped, treatments by their family."""
        if self.role in ("control", "positive_control"):
            return "control"
        return "unshaped" if self.role == "reference" else self.family


@dataclass(frozen=True)
class Run:
    """One complete run: the lines of metrics.jsonl, and those of eval.jsonl after training and before it (`base`).

    Of eval.jsonl it has the cell `own`, which makes the plain metrics.
    """

    arm: str
    seed: int
    directory: Path | None
    """Where its episodes lie; None: its rows alone were kept."""
    record: Record
    result: Record
    train: tuple[Record, ...]
    evaluation: tuple[Record, ...]
    base: tuple[Record, ...] = ()
    subject: str = ""
    """The model that it started from, e.g. `organism-2`."""

    @property
    def summary(self) -> dict[str, float]:
        """Metrics that are numbers; null stands for `not measurable` and becomes NaN."""
        return {str(k): number(v) for k, v in self.result["summary"].items() if v is None or is_measurement(v)}


@dataclass(frozen=True)
class Missing:
    """A run that the study asked for and that cannot be used."""

    arm: str
    seed: int
    reason: str


@dataclass(frozen=True)
class Study:
    """A study, read. `arms` keeps the order of the configuration."""

    name: str
    directory: Path
    """The directory; of several, the one that has taken looks, or the first."""
    config: StudyConfig
    arms: Mapping[str, ArmInfo]
    runs: tuple[Run, ...]
    missing: tuple[Missing, ...] = field(default=())

    def of(self, arm: str) -> tuple[Run, ...]:
        return tuple(run for run in self.runs if run.arm == arm)

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(sorted({run.seed for run in self.runs}))

    @property
    def subjects(self) -> Mapping[int, str]:
        """Seed -> the model that its runs started from. Where an axis sets the model, all of theirs."""
        found: dict[int, dict[str, None]] = {seed: {} for seed in self.seeds}
        for run in self.runs:
            found[run.seed][run.subject] = None
        return {seed: " / ".join(names) for seed, names in found.items()}

    @property
    def trained_worlds(self) -> tuple[str, ...]:
        """Names of the worlds that an arm trains in, as the runs recorded them; before that, as the config has them."""
        recorded = [run.result.get("trained_worlds") for run in self.runs]
        lists = [
            names if isinstance(names, list) else list(self.config.spoken(self.config.train.worlds))
            for names in recorded
        ]
        return tuple(dict.fromkeys(str(name) for names in lists for name in names))

    @property
    def worlds(self) -> tuple[str, ...]:
        """Worlds of the evaluation, the trained ones first, each in the order of the configuration."""
        found = {str(line["world"]) for run in self.runs for line in run.evaluation if "world" in line}
        planned = dict.fromkeys([*self.trained_worlds, *self.config.spoken(self.config.eval.worlds), *sorted(found)])
        return tuple(world for world in planned if world in found)

    @property
    def held_out_worlds(self) -> tuple[str, ...]:
        trained = set(self.trained_worlds)
        return tuple(world for world in self.worlds if world not in trained)

    @property
    def references(self) -> tuple[ArmInfo, ...]:
        """The reference arm, once per point on the axes that multiply it."""
        return tuple(arm for arm in self.arms.values() if arm.role == "reference")

    @property
    def reference_label(self) -> str:
        """What the reference arm is called, whatever the point of the axes."""
        return next((arm.label or arm.base for arm in self.references), "the reference")

    def reference(self, arm: ArmInfo) -> ArmInfo | None:
        """The reference arm at the same point of the axes; axes that multiply only `arm` do not count."""
        fitting = [r for r in self.references if all(arm.sweep_point.get(k) == v for k, v in r.sweep_point.items())]
        return max(fitting, key=lambda r: len(r.sweep_point), default=None)


def load(*directories: Path) -> Study:
    """Read the study in a directory, or its slices in several: where it ran, or rows of it.

    Raises `StudyDirectoryError` if a directory holds no study, if they are of different ones or disagree about a run,
    and if there is no complete run.
    """
    sources = open_slices(directories)
    main = next((each for each in directories if (each / LOOKS).is_file()), directories[0])
    config, where = sources[0].config, ", ".join(map(str, directories))
    planned = planned_arms(config)
    subjects = {(run.point_name, run.seed): run.subject for run in config.runs()}
    runs: list[Run] = []
    missing: list[Missing] = []
    for arm, seed in _expected(sources, config, main):
        try:
            runs.append(_run(read_run(sources, arm, seed), arm, seed, planned, subjects.get((arm, seed), "")))
        except StudyDirectoryError:
            raise
        except (BrokenRunError, DamagedFileError) as error:
            missing.append(Missing(arm, seed, relative(str(error), directories[0])))
        except Exception as error:  # no file of one run keeps a report from the others
            why = f"cannot be read: {type(error).__name__}: {error}"
            missing.append(Missing(arm, seed, relative(why, directories[0])))
    if not runs:
        first = f" ({missing[0].arm}, seed {missing[0].seed}: {missing[0].reason})" if missing else ""
        raise StudyDirectoryError(
            f"{where}: the study has no complete run{first}, so there is nothing to report; run the study again "
            "in the same directory: finished runs are kept and the others are made up"
        )
    _check_subjects(where, config, runs)
    found = {run.arm: [each for each in runs if each.arm == run.arm] for run in runs}
    arms = planned | {name: _arm_info(planned.get(name), members) for name, members in found.items()}
    return Study(config.name, main, config, arms, tuple(runs), tuple(missing))


def planned_arms(config: StudyConfig) -> dict[str, ArmInfo]:
    """The arms that the study asks for, as far as they are known before a run of theirs is complete."""
    return {
        run.point_name: ArmInfo(
            run.point_name,
            run.arm_config.label or run.arm,
            role=run.arm_config.role,
            sweep_point=run.sweep_point,
        )
        for run in config.runs()
    }


def _expected(sources: Sequence[Source], config: StudyConfig, directory: Path) -> list[tuple[str, int]]:
    """Every (arm, seed) that the configuration asks for, then those that are there all the same."""
    wanted = set(seeds_so_far(config, directory))
    planned = [(run.point_name, run.seed) for run in config.runs() if run.seed in wanted]
    order = {name: i for i, (name, _) in enumerate(planned)}
    found = [run for source in sources for run in source.found()]
    return sorted(dict.fromkeys(planned + found), key=lambda run: (order.get(run[0], len(order)), run))


def _run(rows: RunRows, arm: str, seed: int, planned: Mapping[str, ArmInfo], subject: str) -> Run:
    result = rows.result
    # The record may name the arm with or without its point on the axes.
    if result.get("arm", arm) not in (arm, arm_of(arm)) or result.get("seed", seed) != seed:
        raise BrokenRunError(f"result.json is of arm {result.get('arm')!r}, seed {result.get('seed')!r}: copied here?")
    if result.get("summary") is None:
        raise BrokenRunError("result.json has no summary")
    _check_role(_role(rows.record), planned.get(arm))
    check_rows(METRICS, rows.metrics)
    check_rows(EVALUATION, rows.evaluation, needed="world")
    train = tuple(line for line in rows.metrics if line.get("phase", "train") == "train")
    base = tuple(line for line in rows.evaluation if line.get("phase") == "base")
    after = tuple(line for line in rows.evaluation if line.get("phase") != "base")
    started = str(result.get("subject") or subject)
    return Run(arm, seed, rows.directory, rows.record, result, train, after, base, started)


def _check_role(role: Role | None, planned: ArmInfo | None) -> None:
    """What an arm is for is written in study.json, and no run can change it."""
    if role is None:
        raise BrokenRunError("run.json gives its arm no role: another version wrote it")
    if planned is not None and role != planned.role:
        raise BrokenRunError(f"run.json gives its arm the role {role}, and study.json {planned.role}")
    if planned is None and role == "reference":
        raise BrokenRunError("run.json gives its arm the role reference, which in study.json another arm has")


def _check_subjects(where: str, config: StudyConfig, runs: Sequence[Run]) -> None:
    """Arms are compared within a seed: all its runs start from one model, unless an axis or a point says otherwise."""
    varied = [key for axis in config.axes for key in keys_of(axis)] + [k for p in config.points.values() for k in p.set]
    if any(key.split(".")[0] == "model" for key in varied):
        return
    first: dict[int, Run] = {}
    for run in runs:
        other = first.setdefault(run.seed, run)
        if run.subject != other.subject:
            raise StudyDirectoryError(
                f"{where}: the runs of seed {run.seed} did not start from one model: {other.arm} from "
                f"{other.subject}, {run.arm} from {run.subject}, so that no difference between them is that of the "
                "arms; one of the two was copied here from another study: remove it and run the study again"
            )


def _arm_info(planned: ArmInfo | None, runs: Sequence[Run]) -> ArmInfo:
    """An arm of complete runs. What study.json says of it holds; its family is that of most runs."""
    first = runs[0]
    families = Counter(str(run.result.get("family") or "control") for run in runs)
    named = planned is not None and planned.label != planned.base
    spent = (str(name) for run in runs for name in run.result.get("spent_monitors") or ())
    return ArmInfo(
        name=first.arm,
        label=planned.label if planned and named else str(first.result.get("label") or arm_of(first.arm)),
        family=families.most_common(1)[0][0],
        role=planned.role if planned else _role(first.record) or "treatment",
        oracle=any(run.result.get("oracle", False) for run in runs),
        spent_monitors=tuple(dict.fromkeys(spent)),
        labels=tuple(dict.fromkeys(str(told) for run in runs for told in run.result.get("labels") or ())),
        sweep_point=planned.sweep_point if planned else _config(first.record).get("sweep_point") or {},
    )


def _config(record: Record) -> Mapping[str, Any]:
    """The resolved config that a run was started with."""
    config = record.get("config", record)
    return config if isinstance(config, dict) else {}


def _role(record: Record) -> Role | None:
    """The role of the run's arm, or None if its record has none of today's."""
    own = _config(record).get("arm_config")
    role = own.get("role") if isinstance(own, dict) else None
    return next((known for known in get_args(Role) if known == role), None)


def number(value: Any) -> float:
    """The value as a float; NaN for null and for anything that is not a number."""
    return float(value) if is_measurement(value) else math.nan
