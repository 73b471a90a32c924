"""Writes docs/study.md and docs/study.schema.json from the models of studies. `python -m docs.render_study`.

The tables stand between `<!-- keys -->` and `<!-- /keys -->`. All else of the page is written by hand.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from docs.marked_tables import between_marks, table_of
from launch.config.plugins import KINDS
from launch.config.schema import study_schema, type_in_words
from launch.scaffold.new import schema_text

PAGE = Path(__file__).with_name("study.md")
SCHEMA = Path(__file__).with_name("study.schema.json")
_PLUGINS = {kind.noun for kind in KINDS}
_APART = {"PluginSpec", "WorldOptions", *_PLUGINS}
"""Definitions without a table: plug-ins have their own pages."""


def rendered(text: str) -> str:
    """The page with its tables as the models have them."""
    return between_marks(text, "keys", "\n\n".join(sections(study_schema())) + "\n")


def sections(schema: Mapping[str, Any]) -> Iterator[str]:
    """A table for the study and for every section of it, in the order in which they are first named."""
    titles = _titles(schema)

    def link(name: str) -> str:
        if name in _PLUGINS or name == "PluginSpec":
            return f"a {name}, by name or with fields" if name in _PLUGINS else "a plug-in, by name or with fields"
        return f"[{titles[name]}](#{_anchor(titles[name])})" if name in titles else "mapping"

    for name, title in titles.items():
        own = schema["$defs"][name] if name else schema
        if "enum" in own:
            yield f"### {title}\n\n{type_in_words(own)}."
            continue
        required = own.get("required", ())
        rows = [
            (f"`{key}`", type_in_words(each, link), "required" if key in required else _default(each), _said(each))
            for key, each in own.get("properties", {}).items()
        ]
        told = own.get("description", "").split("\n\n")[0].replace("\n", " ") if name else ""
        table = table_of(("key", "type", "default", "what it is"), (map(_cell, row) for row in rows))
        yield f"### {title}\n\n{told}{chr(10) * 2 if told else ''}{table}"


def _titles(schema: Mapping[str, Any]) -> dict[str, str]:
    """Definition -> the place in a study where it is first named."""
    titles, waiting = {"": "A study"}, deque([("", schema)])
    while waiting:
        place, own = waiting.popleft()
        for key, each in own.get("properties", {}).items():
            for name in _named(each):
                if name not in titles and name not in _APART:
                    titles[name] = f"{place}{key}" if name not in titles.values() else name
                    waiting.append((f"{place}{key}.", schema["$defs"][name]))
    several: dict[str, list[str]] = {}
    for name, title in titles.items():
        several.setdefault(title, []).append(name)
    return {n: t if len(several[t]) == 1 else f"{t}: {n}" for n, t in titles.items()}


def _named(value: Any) -> Iterator[str]:
    """The definitions that a schema refers to."""
    if isinstance(value, dict):
        if isinstance(ref := value.get("$ref"), str):
            yield ref.rpartition("/")[2]
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _named(each)


def _anchor(title: str) -> str:
    return "".join(letter for letter in title.lower().replace(" ", "-") if letter.isalnum() or letter in "-_")


def _default(schema: Mapping[str, Any]) -> str:
    if "default" not in schema:
        return ""
    value = schema["default"]
    if isinstance(value, dict) and len(value) > 2:
        return "its defaults"
    return "none" if value in (None, "", [], {}) else f"`{json.dumps(value, ensure_ascii=False)}`"


def _said(schema: Mapping[str, Any]) -> str:
    return str(schema.get("description", "")).replace("\n", " ")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    SCHEMA.write_text(schema_text(), encoding="utf-8")
    print(f"wrote {PAGE.name} and {SCHEMA.name}")


if __name__ == "__main__":
    main()
