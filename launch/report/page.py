"""The report as one HTML file that asks the network for nothing.

Jinja escapes every value. The page's security policy allows exactly the scripts written here, by their hashes, so
that even text that escaped the escaping could not run.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from pathlib import Path

import plotly.offline
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from launch.report.answer import ASKED
from launch.report.contents import COUNTS, Contents
from launch.report.escaping import inline_json, plain, signed, visible
from launch.report.figures import Figure, figures
from launch.report.grids import language_name
from launch.report.palette import FAMILY_LABELS, styles
from launch.report.table import Interval
from shaping.audits.grid import Estimate

TEMPLATES = Path(__file__).parent / "templates"


def html_page(contents: Contents) -> str:
    """The complete document."""
    plotly_js, page_js = plotly.offline.get_plotlyjs(), (TEMPLATES / "page.js").read_text(encoding="utf-8")
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"text": visible, "number": _number, "signed": _signed, "level": _level, "p": _p}
    environment.filters |= {"odds": _odds, "percent": _percent}
    study = contents.study
    drawn = figures(study, contents.cells, contents.compared, contents.delta)
    page = environment.get_template("page.html.j2").render(
        c=contents,
        study=study,
        asked=ASKED,
        figures={figure.id: figure for figure in drawn},
        styles=styles(study.arms),
        families=FAMILY_LABELS,
        counts=COUNTS,
        config=json.dumps(study.config.model_dump(mode="json"), indent=2, ensure_ascii=False),
        css=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
        policy=_policy(plotly_js, page_js),
        plotly_js=Markup(plotly_js),
        page_js=Markup(page_js),
        json_of=_figure_json,
        language_name=language_name,
    )
    # Half of a surrogate pair cannot be written; it could only come from damaged model text.
    return page.encode("utf-8", errors="replace").decode("utf-8")


def _policy(*scripts: str) -> str:
    """No connection of any kind; only these scripts; styles as plotly sets them; images that figures export."""
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _figure_json(figure: Figure) -> Markup:
    """A figure for a <script type="application/json"> element: safe there by `inline_json`, so not escaped again."""
    return Markup(inline_json(figure.plot.to_json()))


def _number(cell: Interval) -> tuple[str, str]:
    """(mean, interval) for two lines of a table cell."""
    text = plain(*cell[:3])
    mean, _, bounds = text.partition(" ")
    return mean, bounds


def _signed(cell: Interval) -> str:
    return signed(*cell[:3])


def _odds(found: Estimate) -> str:
    return signed(*found[:3], digits=2)


def _percent(share: float) -> str:
    return f"{share:.0%}"


def _level(level: float) -> str:
    return f"{100 * level:.3g}%"


def _p(p: float) -> str:
    return "n/a" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"
