"""The frames of a report: one HTML file that asks the network for nothing, and one Markdown file.

The page's security policy allows exactly the scripts written here, by their hashes, so that even text that escaped the
escaping could not run, and no section can bring a script of its own.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

import plotly.offline
from markupsafe import Markup

from launch.report.markdown import blocks, line
from launch.report.rendering import TEMPLATES, environment
from launch.report.results import Results
from launch.report.sections.base import Part


def html_page(results: Results, parts: Sequence[Part]) -> str:
    """The complete document."""
    scripts = [plotly.offline.get_plotlyjs()] if any(part.section.draws for part in parts) else []
    scripts.append(template_file("page.js"))
    page = (
        environment()
        .get_template("page.html.j2")
        .render(
            results=results,
            study=results.study,
            parts=[(part.section, part.html()) for part in parts],
            css=Markup(template_file("style.css")),
            policy=security_policy(*scripts),
            scripts=[Markup(script) for script in scripts],
        )
    )
    # Half of a surrogate pair cannot be written; it could only come from damaged model text.
    return page.encode("utf-8", errors="replace").decode("utf-8")


def markdown_page(results: Results, parts: Sequence[Part]) -> str:
    """The same sections without figures."""
    title, question = results.study.name, results.study.config.report.question
    bodies = [(part.section.title, part.markdown()) for part in parts]
    sections = [f"## {line(heading)}\n\n{body}" for heading, body in bodies if body]
    return blocks(f"# {line(title)}", line(question, len(question)), *sections) + "\n"


def template_file(name: str) -> str:
    """The text of a file among the templates."""
    return (TEMPLATES / name).read_text(encoding="utf-8")


def security_policy(*scripts: str) -> str:
    """No connection of any kind; only these scripts; styles as plotly sets them; images that figures export."""
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
