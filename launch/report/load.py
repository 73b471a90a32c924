"""Read a study directory into records, or say in one message why it cannot be read.

Runs that did not finish are listed, not raised: a report shows them as attrition.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from envs.escaping import placeless
from launch.config.study import Role, StudyConfig
from launch.errors import RunDirectoryError, describe
from launch.report.run_files import (
    DamagedFileError,
    ResultFile,
    RunFile,
    check_kinds,
    check_rows,
    checked,
    is_measurement,
    read_json,
)
from launch.storage import jsonl
from launch.storage.rundir import EVALUATION, METRICS, RESULT, RunDirectory
from launch.storage.studydir import StudyDirectory

Record = Mapping[str, Any]


class StudyDirectoryError(RunDirectoryError):
    """The directory is not one a report can be made from; the message names it and the remedy."""


class _BrokenRunError(Exception):
    """Why one run cannot be used."""


@dataclass(frozen=True)
class ArmInfo:
    """What a report needs to know about an arm at one point of the study's axes (`cell`: axis -> value)."""

    name: str
    label: str = ""
    family: str = "control"
    role: Role = "treatment"
    oracle: bool = False
    spent_monitors: tuple[str, ...] = ()
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
        return self.name.partition("+")[0]

    @property
    def group(self) -> str:
        """Where figures list it: controls as control, the reference as unshaped, treatments by their family."""
        if self.role in ("control", "positive_control"):
            return "control"
        return "unshaped" if self.role == "reference" else self.family


@dataclass(frozen=True)
class Run:
    """One complete run: the lines of metrics.jsonl, and those of eval.jsonl after training and before it (`base`)."""

    arm: str
    seed: int
    directory: Path
    record: Record
    result: Record
    train: tuple[Record, ...]
    evaluation: tuple[Record, ...]
    base: tuple[Record, ...] = ()

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
    """A study directory, read. `arms` keeps the order of the configuration."""

    name: str
    directory: Path
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
    def trained_worlds(self) -> tuple[str, ...]:
        """Names of the worlds that an arm trains in, as the runs recorded them; before that, as the config has them."""
        recorded = [run.result.get("trained_worlds") for run in self.runs]
        lists = [names if isinstance(names, list) else list(self.config.train.worlds) for names in recorded]
        return tuple(dict.fromkeys(str(name) for names in lists for name in names))

    @property
    def worlds(self) -> tuple[str, ...]:
        """Worlds of the evaluation, the trained ones first, each in the order of the configuration."""
        found = {str(line["world"]) for run in self.runs for line in run.evaluation if "world" in line}
        planned = dict.fromkeys([*self.trained_worlds, *self.config.eval.worlds, *sorted(found)])
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


def load(directory: Path) -> Study:
    """Read `directory`. Raises `StudyDirectoryError` if it is no study or holds no complete run."""
    config = _study_config(directory)
    planned = _planned_arms(config)
    runs: list[Run] = []
    missing: list[Missing] = []
    for arm, seed in _expected(directory, config):
        try:
            runs.append(_run(directory, arm, seed, planned))
        except (_BrokenRunError, DamagedFileError) as error:
            missing.append(Missing(arm, seed, _relative(str(error), directory)))
        except Exception as error:  # no file of one run keeps a report from the others
            why = f"cannot be read: {type(error).__name__}: {error}"
            missing.append(Missing(arm, seed, _relative(why, directory)))
    if not runs:
        first = f" ({missing[0].arm}, seed {missing[0].seed}: {missing[0].reason})" if missing else ""
        raise StudyDirectoryError(
            f"{directory}: the study has no complete run{first}, so there is nothing to report; run the study again "
            "in the same directory: finished runs are kept and the others are made up"
        )
    found = {run.arm: [each for each in runs if each.arm == run.arm] for run in runs}
    arms = planned | {name: _arm_info(planned.get(name), members) for name, members in found.items()}
    return Study(config.name, directory, config, arms, tuple(runs), tuple(missing))


def _relative(text: str, directory: Path) -> str:
    """A message for a page that others read: paths begin at the study."""
    for prefix in {str(directory), str(directory.absolute()), str(directory.resolve())}:
        text = text.replace(f"{prefix}/", "").replace(prefix, directory.name)
    return placeless(text)


def _planned_arms(config: StudyConfig) -> dict[str, ArmInfo]:
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


def _study_config(directory: Path) -> StudyConfig:
    path = directory / "study.json"
    remedy = "give the directory that `shaping study` wrote (it holds study.json and runs/)"
    if not directory.is_dir():
        raise StudyDirectoryError(f"{directory}: there is no such directory; {remedy}")
    if not path.is_file():
        what = "is empty" if not any(directory.iterdir()) else "has no study.json, so no study wrote it"
        raise StudyDirectoryError(f"{directory}: the directory {what}; {remedy}")
    try:
        record = read_json(path, directory)
    except DamagedFileError as error:
        raise StudyDirectoryError(
            f"{directory}: {error}; it was cut off or overwritten: run the study again in the same directory, which "
            "writes it once more"
        ) from error
    if not isinstance(record, dict) or record.get("format") != "shaping-study":
        raise StudyDirectoryError(f"{path}: not a study record (no format marker 'shaping-study'); {remedy}")
    if record.get("version") != 1:
        raise StudyDirectoryError(
            f"{path}: format version {record.get('version')!r}, but this program reads version 1; "
            "make the report with the version that wrote it"
        )
    fields = record.get("config", {k: v for k, v in record.items() if k in StudyConfig.model_fields})
    try:
        return StudyConfig.model_validate(fields)
    except ValidationError as error:
        raise StudyDirectoryError(
            f"{path}: the study's configuration does not validate:\n{describe(error, StudyConfig)}\n"
            "make the report with the version that wrote it"
        ) from error


def _expected(directory: Path, config: StudyConfig) -> list[tuple[str, int]]:
    """Every (arm, seed) that the configuration asks for, then those that have a directory all the same."""
    planned = [(run.point_name, run.seed) for run in config.runs()]
    order = {name: i for i, (name, _) in enumerate(planned)}
    found = [(p.parent.name, int(p.name.partition("-")[2])) for p in StudyDirectory(directory).run_directories()]
    return sorted(dict.fromkeys(planned + found), key=lambda run: (order.get(run[0], len(order)), run))


def _run(study: Path, arm: str, seed: int, planned: Mapping[str, ArmInfo]) -> Run:
    path = study / "runs" / arm / f"seed-{seed}"
    directory = RunDirectory(path)
    check_kinds(path, study)
    for name, kind in ((RESULT, ResultFile), ("run.json", RunFile)):
        if (path / RESULT).is_file() and (path / name).is_file():
            checked(name, read_json(path / name, study), kind)
    try:
        status, result = directory.status(), directory.result()
    except RunDirectoryError as error:
        raise _BrokenRunError(str(error)) from error
    if status != "complete" or result is None:
        reasons = {
            "absent": "not started",
            "foreign": "the directory holds something else, not a run",
            "changed": f"changed since its end: {directory.damage()}",
        }
        raise _BrokenRunError(reasons.get(status, "interrupted or still running"))
    # The record may name the arm with or without its point on the axes.
    if result.get("arm", arm) not in (arm, arm.split("+")[0]) or result.get("seed", seed) != seed:
        raise _BrokenRunError(f"result.json is of arm {result.get('arm')!r}, seed {result.get('seed')!r}: copied here?")
    if result.get("summary") is None:
        raise _BrokenRunError("result.json has no summary")
    record = directory.record()
    _check_role(_role(record), planned.get(arm))
    rows, conditions = _lines(path / METRICS), _lines(path / EVALUATION, needed="world")
    train = tuple(line for line in rows if line.get("phase", "train") == "train")
    base = tuple(line for line in conditions if line.get("phase") == "base")
    after = tuple(line for line in conditions if line.get("phase") != "base")
    return Run(arm, seed, path, record, result, train, after, base)


def _lines(path: Path, needed: str = "") -> list[dict[str, Any]]:
    try:
        rows = jsonl.read(path)
    except jsonl.JsonLinesError as error:
        raise _BrokenRunError(str(error)) from error
    check_rows(path.name, rows, needed=needed)
    return rows


def _check_role(role: Role | None, planned: ArmInfo | None) -> None:
    """What an arm is for is written in study.json, and no run can change it."""
    if role is None:
        raise _BrokenRunError("run.json gives its arm no role: another version wrote it")
    if planned is not None and role != planned.role:
        raise _BrokenRunError(f"run.json gives its arm the role {role}, and study.json {planned.role}")
    if planned is None and role == "reference":
        raise _BrokenRunError("run.json gives its arm the role reference, which in study.json another arm has")


def _arm_info(planned: ArmInfo | None, runs: Sequence[Run]) -> ArmInfo:
    """An arm of complete runs. What study.json says of it holds; its family is that of most runs."""
    first = runs[0]
    families = Counter(str(run.result.get("family") or "control") for run in runs)
    named = planned is not None and planned.label != planned.base
    spent = (str(name) for run in runs for name in run.result.get("spent_monitors") or ())
    return ArmInfo(
        name=first.arm,
        label=planned.label if planned and named else str(first.result.get("label") or first.arm.split("+")[0]),
        family=families.most_common(1)[0][0],
        role=planned.role if planned else _role(first.record) or "treatment",
        oracle=any(run.result.get("oracle", False) for run in runs),
        spent_monitors=tuple(dict.fromkeys(spent)),
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
