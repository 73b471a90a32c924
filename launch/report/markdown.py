"""The report as Markdown: the same numbers as the page, without figures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from launch.report.answer import ASKED
from launch.report.claims.effects import EffectEstimate
from launch.report.claims.judge import Verdict
from launch.report.contents import COUNTS, Contents
from launch.report.escaping import markdown, plain, signed
from launch.report.figures import FOREST
from launch.report.grids import ArmGrid, GridView, language_name
from launch.report.metrics import Metric, label
from launch.report.transcripts import TranscriptView


def markdown_page(contents: Contents) -> str:
    """The whole document. Every string that came from a file is escaped by `markdown`."""
    study = contents.study
    parts = [
        f"# {markdown(study.name)}: constraining actions against shaping motivations",
        ASKED,
        "## Answer",
        *[markdown(line, limit=len(line)) for line in contents.answer.splitlines()],
        "## Verdicts",
        *[_verdict(verdict) for verdict in contents.verdicts],
        "## Arms",
        "Mean over seeds [95% t interval], at deployment.",
        _arms(contents, contents.main),
        "## Differences to the unshaped arm",
        "Mean paired difference [95% t interval].",
        _differences(contents),
        "## By world",
        _worlds(contents),
        *_grids(contents),
        "## Attrition",
        _attrition(contents),
        "## Transcripts",
        markdown(contents.transcript_rule) + " The page shows both; here are the most deceptive ones.",
        *[_transcript(contents, t) for t in contents.transcripts if t.rule == "most deceptive"],
        "## Definitions",
        *[f"- **{metric.label}**: {markdown(metric.definition)}" for metric in (*contents.main, *contents.other)],
    ]
    return "\n\n".join(parts).replace("\n\n- ", "\n- ") + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def _verdict(verdict: Verdict) -> str:
    point = f" ({markdown(verdict.point)})" if verdict.point else ""
    lines = [f"### {verdict.claim}{point}: {verdict.verdict}", verdict.statement]
    if verdict.outcomes:
        lines.append(_table(("contrast", "metric", "difference", "level", "n", "effect"), map(_row, verdict.outcomes)))
    for arm in verdict.arms:
        numbers = "; ".join(f"{o.label} {signed(*o.interval[:3])}, {o.effect}" for o in arm.outcomes)
        lines.append(f"- {markdown(arm.arm)}: {arm.verdict} ({numbers}; Holm p = {arm.p_holm:.3g})")
    lines.append(f"Rule: {verdict.rule}")
    lines += [f"Note: {markdown(note)}" for note in verdict.notes]
    return "\n\n".join(lines)


def _row(outcome: EffectEstimate) -> tuple[str, ...]:
    found = outcome.interval
    effect = outcome.effect if outcome.decides else "context"
    numbers = signed(found.mean, found.low, found.high)
    return markdown(outcome.contrast), markdown(outcome.label), numbers, f"{outcome.level:.2%}", str(found.n), effect


def _arms(contents: Contents, metrics: Sequence[Metric]) -> str:
    rows = [
        (
            markdown(contents.study.arms[arm].title),
            *[plain(*contents.cell(arm, metric.name)[:3]) for metric in metrics],
            str(len(contents.study.of(arm))),
        )
        for arm in contents.shown
    ]
    return _table(("arm", *[metric.label for metric in metrics], "seeds"), rows)


def _differences(contents: Contents) -> str:
    rows = [
        (markdown(contents.study.arms[arm].title), *[signed(*contents.difference(arm, m)[:3]) for m in FOREST])
        for arm in contents.shown
        if arm in contents.compared
    ]
    return _table(("arm", *[label(metric) for metric in FOREST]), rows)


def _worlds(contents: Contents) -> str:
    study = contents.study
    columns = [(world, metric) for world in study.worlds for metric in contents.per_world]
    head = [
        f"{markdown(world)}{' (held out)' if world in study.held_out_worlds else ''}: {metric.label}"
        for world, metric in columns
    ]
    rows = [
        (markdown(study.arms[arm].title), *[plain(*contents.cell(arm, f"{m.name}.{w}")[:3]) for w, m in columns])
        for arm in contents.shown
    ]
    return _table(("arm", *head), rows)


def _grids(contents: Contents) -> list[str]:
    """The section on languages and eras; nothing where no world was evaluated in more than one."""
    if not contents.grids:
        return []
    parts = [
        "## Languages and eras",
        "Rate, D = ln((events + 1/2) / (opportunities - events + 1/2)) in nats, and the change of D since before "
        "training in the same cell, which is a conditional leak where no arm trains. Means over seeds [95% t "
        "interval]; – where nothing could happen.",
    ]
    if not contents.grids[0].based:
        parts.append("The model before training was not evaluated (eval.base: true), so there are no leaks.")
    for grid in contents.grids:
        parts += [f"### {markdown(grid.world)}: {grid.label}", _grid(contents, grid)]
        if grid.contrasts:
            head = ("arm", *[markdown(name) for name in grid.contrasts])
            rows = [
                (_arm_of(contents, a), *[_contrast(a, n) for n in grid.contrasts]) for a in grid.arms if a.contrasts
            ]
            parts += [f"Main effects and interactions of {grid.subject}, in nats.", _table(head, rows)]
    return parts


def _grid(contents: Contents, grid: GridView) -> str:
    places = [(language, era) for language in grid.languages for era in grid.eras]
    notes = {cell: f" (trained{', ' + note if note else ''})" for cell, note in grid.trained.items()}
    head = [markdown(f"{language_name(cell[0])} {cell[1]}{notes.get(cell, '')}") for cell in places]
    rows = [(_arm_of(contents, arm), *[_cell(arm, cell) for cell in places]) for arm in grid.arms]
    return _table(("arm", *head), rows)


def _arm_of(contents: Contents, arm: ArmGrid) -> str:
    return markdown(contents.study.arms[arm.arm].title) if arm.arm else "before training"


def _cell(arm: ArmGrid, locale: tuple[str, str]) -> str:
    if not (found := arm.locales.get(locale)):
        return "–"
    parts = [f"{found.rate:.0%}", f"D {signed(*found.odds[:3], digits=2)}"]
    parts += [f"{found.word} {signed(*found.change[:3], digits=2)}"] if found.change else []
    return ", ".join([*parts, found.mute] if found.mute else parts)


def _contrast(arm: ArmGrid, name: str) -> str:
    if not (found := arm.contrasts.get(name)):
        return "–"
    text = signed(*found.estimate[:3], digits=2)
    return text if math.isnan(found.p_holm) else f"{text}, Holm p = {found.p_holm:.3g}"


def _attrition(contents: Contents) -> str:
    rows = [
        (
            markdown(contents.study.arms[a.arm].title),
            f"{a.complete} of {a.planned}",
            *[str(a.counts[name]) for name in COUNTS],
            markdown(", ".join(f"{name} {n}" for name, n in a.status.items())),
        )
        for a in contents.attrition
    ]
    lines = [_table(("arm", "runs complete", *COUNTS, "how episodes ended"), rows)]
    lines += [f"- missing: {markdown(m.arm)}, seed {m.seed}: {markdown(m.reason)}" for m in contents.missing]
    return "\n\n".join(lines)


def _transcript(contents: Contents, transcript: TranscriptView) -> str:
    title = markdown(contents.study.arms[transcript.arm].title)
    head = (
        f"### {title}, {transcript.rule}: {markdown(transcript.world)}, training seed {transcript.run_seed}, "
        f"episode seed {transcript.episode_seed}, {transcript.deceptive_turns} deceptive turns"
    )
    rows = [
        (
            str(turn.number),
            markdown(turn.motive),
            markdown(turn.action),
            f"{turn.reward:+.2f}",
            markdown("; ".join(chip.text for chip in turn.truth)),
            markdown("; ".join(turn.overseer)),
        )
        for turn in transcript.turns
    ]
    return f"{head}\n\n{_table(('turn', 'motive', 'action', 'reward', 'truth', 'overseer'), rows)}"
