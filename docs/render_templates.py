"""Writes the plug-ins that CONTRIBUTING and docs/plugins.md print: the templates of `shaping new`, with names put in.

`python -m docs.render_templates`. A file stands between `<!-- new shaper -->` and `<!-- /new shaper -->`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from docs.marked_tables import between_marks
from launch.scaffold.templates import Names, Part, code, study

ROOT = Path(__file__).resolve().parents[1]
PAGES: Final = (ROOT / "CONTRIBUTING.md", ROOT / "docs" / "plugins.md")
SHAPER: Final = ROOT / "docs" / "examples" / "my_shaper.py"
#: Kind -> the file that CONTRIBUTING puts it into, and its class.
EXAMPLES: Final = {
    "shaper": ("shaping/shapers/stated_motive.py", "StatedMotive"),
    "constraint": ("shaping/constraints/act_price.py", "ActPrice"),
    "monitor": ("shaping/monitors/haste.py", "Haste"),
    "reward": ("rewards/brevity.py", "Brevity"),
    "world": ("envs/worlds/ledger.py", "Ledger"),
    "claim": ("launch/report/claims/kinds/keeps_share.py", "KeepsShare"),
    "study": ("launch/studies/copying.yaml", "copying"),
}


def example(kind: str) -> str:
    """The file of a kind, as if it were built in."""
    path, name = EXAMPLES[kind]
    names = Names(Path(path).stem, name)
    if kind != "study":
        return code(kind, names)
    parts = [
        Part(each, Path(file).stem if each == "world" else of, Path(file).stem)
        for each, (file, of) in EXAMPLES.items()
        if each != "study"
    ]
    summary = "Credit for a stated motive, a price on acts and one on turns, against the unshaped policy"
    return study(names, parts, "../../docs/study.schema.json", summary)


def rendered(text: str) -> str:
    """A page with its examples as the templates have them."""
    for kind, (path, _) in EXAMPLES.items():
        if f"<!-- new {kind} -->" in text:
            language = "yaml" if kind == "study" else "python"
            text = between_marks(text, f"new {kind}", f"\n`{path}`:\n\n```{language}\n{example(kind)}```\n")
    return text


def own_shaper() -> str:
    """docs/examples/my_shaper.py: the shaper of `my_study.yaml`."""
    return example("shaper")


def main() -> None:
    for page in PAGES:
        page.write_text(rendered(page.read_text(encoding="utf-8")), encoding="utf-8")
    SHAPER.write_text(own_shaper(), encoding="utf-8")
    print(f"wrote {', '.join(page.name for page in PAGES)} and {SHAPER.name}")


if __name__ == "__main__":
    main()
