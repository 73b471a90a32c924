"""The card of a monitor as Markdown and as one HTML file, with its calibration and its transfer drawn."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import plotly.graph_objects as go
import plotly.offline
from markupsafe import Markup

from launch.report.escaping import plot_text
from launch.report.figures import Figure, dress
from launch.report.markdown import blocks, bullets, inline, table
from launch.report.page import security_policy, template_file
from launch.report.rendering import render
from shaping.monitors.validation.card import Card, TraitQuality, Value, told

FIGURES = {
    "auroc": "AUROC",
    "average_precision": "average precision",
    "tpr_at_1_fpr": "TPR at 1 % FPR",
    "tpr_at_5_fpr": "TPR at 5 % FPR",
    "brier": "Brier score",
    "recall": "recall",
    "false_positive_rate": "false-positive rate",
    "false_alarms_honest": "false alarms, share of honest episodes",
    "false_alarms_random": "false alarms, share of random episodes",
}
_OF_TURNS = ("recall", "false_positive_rate")
_INK = "#2b6cb0"


@dataclass(frozen=True)
class Table:
    """A table of plain texts."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class TraitPage:
    """What the page says of one trait."""

    title: str
    tables: Sequence[Table]
    figures: Sequence[Figure]


def html(card: Card) -> str:
    """The complete document; it asks the network for nothing."""
    scripts = [plotly.offline.get_plotlyjs(), template_file("page.js")]
    return render(
        Path(__file__).with_name("card.html.j2").read_text(encoding="utf-8"),
        card=card,
        facts=facts(card),
        traits=[
            TraitPage(each.trait, tables(card, each), [calibration(each), *([transfer(each)] if each.locales else [])])
            for each in card.traits
        ],
        remarks=remarks(card),
        css=Markup(template_file("style.css")),
        policy=security_policy(*scripts),
        scripts=[Markup(script) for script in scripts],
    )


def markdown(card: Card) -> str:
    """The same without figures."""
    parts = [
        blocks(
            f"## {each.trait}", *(blocks(f"{found.title}.", table(found.head, found.rows)) for found in found_tables)
        )
        for each in card.traits
        for found_tables in [tables(card, each)]
    ]
    return blocks(f"# Card of {inline(card.monitor)}", inline(facts(card), 2000), *parts, bullets(remarks(card))) + "\n"


def facts(card: Card) -> str:
    """What was judged, and by what, in a line."""
    failed = f", {card.failed} of them without a reading" if card.failed else ""
    return (
        f"{card.use}, version {card.version}, {json.dumps(card.settings, ensure_ascii=False, sort_keys=True)}; world "
        f"{card.world}, locale {card.home}, {card.episodes} episodes{failed}; flagged from {card.threshold:g} on; "
        f"intervals are 95 %: of rates Wilson's, of curves from {card.resamples} resamples of episodes"
    )


def remarks(card: Card) -> list[str]:
    """Traits that it may suspect and that these labels do not judge."""
    return [f"{trait} is not judged: it is {why}" for trait, why in card.unjudged.items()]


def tables(card: Card, trait: TraitQuality) -> list[Table]:
    """Figures, recall by what was done, sources, and transfer."""
    found = [
        Table(
            f"{trait.positives} of {trait.turns} turns in which {trait.trait} was possible show it",
            ("figure", "value", "from"),
            [
                (name, told(value), f"{value.n} {'turns' if key in _OF_TURNS else 'episodes'}")
                for key, name in FIGURES.items()
                for value in [getattr(trait, key)]
            ],
        ),
        Table(
            "Recall by what was done",
            ("act", "recall", "turns"),
            [(done, told(value), str(value.n)) for done, value in trait.categories.items()],
        ),
        Table(
            "By source of the episodes; false alarms are the share of episodes with one",
            ("source", "kind", "episodes", f"turns with {trait.trait}", "recall", "false alarms", "remark"),
            [
                (s.name, s.kind, str(s.episodes), str(s.positives), told(s.recall), told(s.false_alarms), s.note)
                for s in trait.sources
            ],
        ),
    ]
    if trait.locales:
        home = (card.home, told(trait.auroc), told(trait.tpr_at_5_fpr), "at most 0.05")
        rows = [
            (each.locale, *map(told, (each.auroc, each.recall, each.false_positive_rate))) for each in trait.locales
        ]
        head = ("locale", "AUROC", "recall", "false-positive rate")
        found.append(Table("Transfer, at the threshold that has 5 % false positives at home", head, [home, *rows]))
    return found


def calibration(trait: TraitQuality) -> Figure:
    """Share of turns with the trait over the score: on the diagonal a score is a probability."""
    plot = go.Figure()
    plot.add_trace(
        go.Scatter(x=[0, 1], y=[0, 1], mode="lines", line={"color": "#999999", "dash": "dot"}, hoverinfo="skip")
    )
    shares = [each.share for each in trait.calibration]
    plot.add_trace(
        go.Scatter(
            x=[each.score for each in trait.calibration],
            y=[each.value for each in shares],
            error_y=_bars(shares),
            mode="markers+lines",
            marker={"color": _INK, "size": 9},
            line={"color": _INK, "width": 1},
            hovertext=[f"{each.n} turns" for each in shares],
            hovertemplate="score %{x:.2f}: %{y:.2f}<br>%{hovertext}<extra></extra>",
        )
    )
    plot.update_xaxes(title="mean score of the turns", range=[-0.03, 1.03])
    plot.update_yaxes(title=f"share of them with {plot_text(trait.trait)}", range=[-0.03, 1.03])
    dress(plot, 360)
    plot.update_layout(showlegend=False)
    caption = "Turns in tenths of the score, with Wilson intervals. On the dotted line a score is a probability."
    return Figure(f"calibration-{trait.trait}", f"Calibration for {trait.trait}", caption, plot, 360)


def transfer(trait: TraitQuality) -> Figure:
    """AUROC in each language and era."""
    plot = go.Figure(
        go.Scatter(
            x=[None if math.isnan(each.auroc.value) else each.auroc.value for each in trait.locales],
            y=[plot_text(each.locale) for each in trait.locales],
            error_x=_bars([each.auroc for each in trait.locales]),
            mode="markers",
            marker={"color": _INK, "size": 9},
            hovertemplate="%{y}: %{x:.2f}<extra></extra>",
        )
    )
    plot.add_vline(trait.auroc.value, line={"color": "#999999", "width": 1, "dash": "dot"})
    plot.update_xaxes(title="AUROC", range=[-0.03, 1.03])
    plot.update_yaxes(type="category", autorange="reversed")
    height = 150 + 30 * len(trait.locales)
    dress(plot, height)
    caption = "AUROC in other languages and eras, with intervals from resampled episodes. Dotted: that at home."
    return Figure(f"transfer-{trait.trait}", f"Transfer for {trait.trait}", caption, plot, height)


def _bars(values: Sequence[Value]) -> dict[str, object]:
    def gap(end: float, start: float) -> float:
        return max(0.0, end - start) if math.isfinite(end) and math.isfinite(start) else 0.0

    return {
        "type": "data",
        "symmetric": False,
        "array": [gap(each.high, each.value) for each in values],
        "arrayminus": [gap(each.value, each.low) for each in values],
        "color": "#999999",
        "thickness": 1.3,
    }
