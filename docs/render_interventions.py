"""Writes the table of docs/interventions/README.md from the built-in classes. `python -m docs.render_interventions`.

It stands between `<!-- interventions -->` and `<!-- /interventions -->`. All else of the page is written by hand.
Studies are named that are judged and have an arm with the class, so write it again after one is judged.
"""

from __future__ import annotations

import inspect
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from envs.discovery import subclasses
from launch.config.loading import bundled_studies, load_study
from shaping.hooks import Knob
from shaping.intervention import Constraint, Intervention, Shaper

DOCS = Path(__file__).parent
PAGE = DOCS / "interventions" / "README.md"
RESULTS = DOCS / "results"
GROUPS = {
    "contexts": {Knob.SAMPLING_CONTEXT, Knob.TRAINING_CONTEXT},
    "parameters": {Knob.GATES},
    "activations": {Knob.SAMPLING_EDITS, Knob.TRAINING_EDITS},
}
"""Group -> knobs, for shapers that stand in no folder of their group."""


def rendered(text: str) -> str:
    """The page with its table as the classes have it."""
    pattern = re.compile(r"(<!-- interventions -->\n).*?(<!-- /interventions -->)", re.DOTALL)
    return pattern.sub(lambda found: f"{found[1]}\n{table()}\n\n{found[2]}", text)


def table() -> str:
    """Every built-in intervention by group and name."""
    found = {**subclasses("shaping.shapers", Shaper), **subclasses("shaping.constraints", Constraint)}
    rows = sorted((group_of(kind), name, kind) for name, kind in found.items())
    head = ["| intervention | group | what it does | controls that it needs | measured in |", "|---|---|---|---|---|"]
    studies = measured_in()
    return "\n".join([*head, *(_row(name, group, kind, studies.get(name, ())) for group, name, kind in rows)])


def measured_in(results: Path = RESULTS) -> Mapping[str, list[str]]:
    """Class -> the judged studies with an arm that has it, by name."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in sorted(bundled_studies()):
        if (results / name / "verdicts.json").is_file():
            arms = load_study(name).arms.values()
            for kind in sorted({each.use for arm in arms for each in arm.interventions}):
                found[kind].append(name)
    return found


def group_of(kind: type[Intervention]) -> str:
    """The folder of its module below shaping/shapers or shaping/constraints, or what its knobs and adapters say."""
    if issubclass(kind, Constraint):
        return "constraints"
    folders = kind.__module__.split(".")[2:-1]
    if folders:
        return folders[0]
    adapts = kind.adapters is not Intervention.adapters
    return next((group for group, knobs in GROUPS.items() if knobs & kind.owns), "parameters" if adapts else "credit")


def _row(name: str, group: str, kind: type[Intervention], studies: Iterable[str]) -> str:
    line = (inspect.getdoc(kind) or "").partition("\n")[0].replace("|", "\\|")
    needs = ", ".join(f"`{need.value}`" for need in kind.needs) or "none: it is one itself"
    oracle = " (oracle)" if kind.oracle else ""
    links = ", ".join(f"[{study}](../results/README.md#{study})" for study in studies) or "–"
    return f"| `{name}`{oracle} | {group} | {line} | {needs} | {links} |"


def main() -> None:
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote {PAGE.name}")


if __name__ == "__main__":
    main()
