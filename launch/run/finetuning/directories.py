"""What a run keeps of its stages: the directories of finished ones, and what each has measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launch.config.plugins import build_arm
from launch.config.stages import described, name_of
from launch.config.study import RunConfig
from launch.run.finetuning.stage_runs import Start, arm_in
from launch.run.models.origin import changes
from launch.storage.resume import log_to_stderr
from launch.storage.rundir import RunDirectory
from shaping.audits.conduct.cells import AFTER_PREFIX, parse
from shaping.audits.metrics import metrics_of
from shaping.labels.describe import labels_in_words
from shaping.models.lora.adapter_checkpoint import stored_adapters

Stages = Sequence[dict[str, Any]]
"""Results of the stages before the last."""


def finished_stage(directory: RunDirectory, run: RunConfig, model: Path) -> dict[str, Any] | None:
    """The result of a stage that is finished; None if it must be played.

    One that was made with another config, start model, data or plug-ins is set aside.
    """
    status = directory.status(weights=True)
    if status == "changed":
        log_to_stderr(directory.set_aside(directory.damage(weights=True)))
        return None
    if status != "complete":
        return None
    record = directory.record()
    differing = [] if record["config"] == run.recorded else ["its settings differ"]
    if differing := differing or changes(record, run, model):
        log_to_stderr(directory.set_aside(f"it was made with something else: {differing[0]}"))
        return None
    directory.forget_state()
    return directory.result()


def after(start: Start, directory: RunDirectory) -> Start:
    """What the next stage starts from: the same base with the adapters that were trained, or the model as it is now."""
    checkpoint = directory.checkpoint
    return Start(checkpoint) if stored_adapters(checkpoint) is None else Start(start.model, str(checkpoint))


def with_stages(run: RunConfig, result: dict[str, Any], before: Stages) -> dict[str, Any]:
    """The result of a run with its stages: `after/<stage>/<metric>` of each, and what the whole arm is.

    `before`: results of the stages before this one. Without stages `result` is returned as it is.
    """
    if run.within is None:
        return result
    whole = run.within.run
    if run.stages != whole.stages:  # not the last one
        return {**result, "after": measured(result["summary"])}
    stages = described(whole.stages)
    summary = dict(result["summary"])
    for stage, own in zip(stages, [*before, {**result, "after": measured(summary)}], strict=True):
        stage["updates"] = own["updates"]
        config = next(each for each in whole.stages if name_of(each) == stage["name"])
        stage["interventions"] = [spec.use for spec in arm_in(config, whole.arm_config).interventions]
        summary |= {f"{AFTER_PREFIX}{stage['name']}/{metric}": value for metric, value in own["after"].items()}
    spent = [name for own in before for name in own["spent_monitors"]]
    return {
        **result,
        **_of_whole_arm(run, whole),
        "spent_monitors": list(dict.fromkeys([*spent, *result["spent_monitors"]])),
        "untested": list(dict.fromkeys([line for own in before for line in own["untested"]] + result["untested"])),
        "stages": stages,
        "summary": summary,
    }


def _of_whole_arm(run: RunConfig, whole: RunConfig) -> dict[str, Any]:
    """What the report says of an arm, where the last stage has not all of its interventions."""
    if run.arm_config == whole.arm_config:
        return {}
    arm = build_arm(whole.arm, whole.arm_config, whole.isolation, whole.learner.ratio, whole.seats)
    return {
        "family": arm.family if whole.arm_config.role != "reference" or arm.interventions else "unshaped",
        "oracle": arm.oracle,
        "labels": labels_in_words(arm.interventions),
    }


def measured(summary: dict[str, float]) -> dict[str, float]:
    """Those metrics of a summary that its evaluation has measured, in all of its cells."""
    own = {metric.name for metric in metrics_of("evaluation")}
    return {name: value for name, value in summary.items() if parse(name).metric in own}
