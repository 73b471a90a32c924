"""The verbs `audit` and `lead` of the command line. Nothing heavy is imported before one of them runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from envs.escaping import on_one_line
from launch.errors import UserError
from launch.terminal import say


def audit(
    files: Annotated[list[Path], typer.Argument(help="episode files (Parquet), or folders that hold some")],
    out: Annotated[Path | None, typer.Option(help="file for all numbers: .csv or .json")] = None,
    intervals: Annotated[bool, typer.Option(help="95 % intervals over seeds; without them it is faster")] = True,
    by_world: Annotated[bool, typer.Option("--by-world", help="print every world, too")] = False,
) -> None:
    """Compute every audit of stored episodes, wherever they come from, and print or export them."""
    from envs.store import StoreError
    from launch.audit.tables import export, lines, parquet_files
    from shaping.audits.columns import stored_columns
    from shaping.audits.logs import audit as audited

    if out is not None and out.suffix not in (".csv", ".json"):
        raise UserError(f"--out is {out}: give a name that ends in .csv or .json")
    paths = parquet_files(files)
    try:
        columns, sealed = stored_columns(paths)
    except (StoreError, FileNotFoundError) as error:
        raise UserError(str(error)) from error
    found = audited(columns, intervals=intervals)
    say(on_one_line(f"{len(columns):,} episodes in {len(paths)} files, {int(columns.failed.sum()):,} of them failed"))
    if sealed:
        say(f"left out: {sealed:,} episodes without ground truth")
    for line in lines(found, by_world=by_world):
        say(on_one_line(line, len(line)))
    if out is not None:
        export(found, out)
        say(on_one_line(f"written: {out}"))


def lead(
    study_dirs: Annotated[list[Path], typer.Argument(help="where `shaping study` or `shaping rows` wrote")],
    updates: Annotated[
        int | None, typer.Option(min=1, help="updates that the rule looks at; default: the study's")
    ] = None,
    rule: Annotated[str, typer.Option(help="pooled or streak; default: the study's gauge.rule")] = "",
    json_file: Annotated[Path | None, typer.Option("--json", help="file for the numbers")] = None,
) -> None:
    """Say by how many updates the alarm of the gauge of selection came before the behaviour, over finished runs."""
    from launch.report.files.load import load
    from launch.report.leads import LEAD_HEAD, as_json, have_scores, leads_of, rule_in_words
    from launch.report.markdown import table
    from shaping.audits.training.alarm import Gauge

    study = load(*study_dirs)
    if rule not in ("", "pooled", "streak"):
        raise UserError(f"--rule is {rule!r}: write pooled or streak")
    changed = {"rule": rule} if rule else {}
    gauge = Gauge.model_validate(
        {**study.config.gauge.model_dump(), **changed, **({"updates": updates} if updates else {})}
    )
    say(on_one_line(f"alarm: {rule_in_words(gauge)}" + ("" if have_scores(study.runs) else "; scores are estimated")))
    found = {name: leads_of(study.of(name), gauge) for name in study.arms} | {"all arms": leads_of(study.runs, gauge)}
    rows = [
        (name, each.column, *each.cells)
        for name, leads in found.items()
        for each in leads
        if name == "all arms" or each.found.left or each.found.false_alarms
    ]
    if not rows:
        raise UserError("no run has the columns selection/<trait> and a behaviour in enough updates")
    for line in table(("arm", "behaviour", *LEAD_HEAD), rows).splitlines():
        say(on_one_line(line, len(line)))
    if json_file is not None:
        document = {"gauge": gauge.model_dump(), "arms": {name: as_json(leads) for name, leads in found.items()}}
        json_file.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
