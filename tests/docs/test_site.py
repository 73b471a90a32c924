"""The documentation site: no link is broken, nothing is asked of the network, and pages read as their files do."""

from __future__ import annotations

import logging
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
LOADS = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "object": "data"}
"""Tag -> the attribute whose address a browser asks for by itself."""
STRUCTURE = ("h2", "li", "table", "tr", "pre", "img")


class Page(HTMLParser):
    """What a page loads, its anchors and addresses, and how often each tag of `STRUCTURE` occurs in its article."""

    def __init__(self, text: str, inside: bool = False) -> None:
        super().__init__()
        self.inside = inside
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.addresses: list[str] = []
        self.tags: Counter[str] = Counter()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.inside |= tag == "article"
        if self.inside and tag in STRUCTURE:
            self.tags[tag] += 1
        if tag in LOADS and found.get(LOADS[tag]) and found.get("rel") != "canonical":
            self.loads.append(found[LOADS[tag]])
        if tag == "a" and "href" in found:
            self.addresses.append(found["href"])
        self.anchors |= {found["id"]} if "id" in found else set()

    def handle_endtag(self, tag: str) -> None:
        self.inside &= tag != "article"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it. A warning, as of a link that leads nowhere, fails here."""
    pytest.importorskip("mkdocs")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    told: list[str] = []
    listener = logging.Handler(logging.WARNING)
    listener.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("mkdocs").addHandler(listener)
    folder = tmp_path_factory.mktemp("site")
    config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=False)
    config.plugins.on_startup(command="build", dirty=False)
    build(config)
    logging.getLogger("mkdocs").removeHandler(listener)
    assert not told, "\n".join(told)
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Page]:
    """Path below the site -> page."""
    return {str(path.relative_to(site)): Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}


def test_browsers_ask_no_other_machine_for_anything(site: Path, pages: dict[str, Page]) -> None:
    assert len(pages) > 80
    away = {(name, load) for name, page in pages.items() for load in page.loads if re.match(r"(https?:)?//", load)}
    assert not away
    for style in site.rglob("*.css"):
        imports = re.findall(r"""url\(["']?(?:https?:)?//|@import""", style.read_text(encoding="utf-8"))
        assert not imports, style.name
    index = (site / "search" / "search_index.js").read_text(encoding="utf-8")
    assert index.startswith("var __index = {") and '"glossary.html"' in index


def menu(part: Any) -> list[str]:
    if isinstance(part, dict):
        return [page for each in part.values() for page in menu(each)]
    return [part] if isinstance(part, str) else [page for each in part for page in menu(each)]


def test_every_page_is_in_the_menu_and_the_menu_names_what_is_there() -> None:
    settings = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader=_Plain)
    named = menu(settings["nav"])
    assert len(named) == len(set(named))
    there = {str(path.relative_to(DOCS)) for kind in ("*.md", "*.ipynb") for path in DOCS.rglob(kind)}
    single_results = {name for name in there if re.fullmatch(r"results/[^/]+/.+", name)}
    assert there - single_results - set(named) == set(), "add the page to `nav` in mkdocs.yml"
    assert set(named) - there == {"contributing.md"}


class _Plain(yaml.SafeLoader):
    """Reads the settings without making the Python objects that they name."""


_Plain.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: None)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_of_the_front_pages_lead_to_files_and_headings(pages: dict[str, Page], name: str) -> None:
    from markdown_it import MarkdownIt

    own = Page(MarkdownIt("commonmark").enable("table").render((ROOT / name).read_text(encoding="utf-8")), inside=True)
    linked = [address for address in (*own.addresses, *own.loads) if not re.match(r"\w+:", address)]
    assert linked
    for address in linked:
        place, _, anchor = unquote(address).partition("#")
        assert not place or (ROOT / place).exists(), f"{name} links to {address}"
        if anchor and place.startswith("docs/"):
            page = re.sub(r"README\.md$", "index.md", place.removeprefix("docs/")).removesuffix(".md") + ".html"
            assert anchor in pages[page].anchors, f"{name} links to {address}"


def test_lists_tables_and_code_are_those_of_the_files(pages: dict[str, Page]) -> None:
    """Two readings of Markdown: hosts of repositories follow CommonMark, where mkdocs wants lists indented by four."""
    from markdown_it import MarkdownIt

    reader = MarkdownIt("commonmark", {"html": True}).enable("table")
    for path in DOCS.rglob("*.md"):
        text = path.read_text(encoding="utf-8")
        if "\n::: " not in text:
            place = re.sub(r"README\.md$", "index.md", str(path.relative_to(DOCS))).removesuffix(".md") + ".html"
            wanted = Page(reader.render(text), inside=True).tags
            assert pages[place].tags == wanted, f"{path}: indent by four, and leave a blank line before lists"


def test_contracts_are_made_from_the_code(site: Path) -> None:
    from shaping.intervention import Constraint, Intervention

    made = (site / "reference" / "interventions.html").read_text(encoding="utf-8")
    for kind in (Intervention, Constraint):
        own = {name for name, value in vars(kind).items() if callable(value) and not name.startswith(("_", "model_"))}
        assert len(own) > 3
        for hook in own:
            assert f'id="shaping.intervention.{kind.__name__}.{hook}"' in made, hook
    assert "The context episodes of one group are sampled under (c_s)." in made


@pytest.fixture(scope="module")
def render() -> ModuleType:
    import importlib

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        return importlib.import_module("docs.pictures.render")


def test_pictures_are_those_of_the_code(render: ModuleType) -> None:
    again = "draw it again with `python -m docs.pictures.render`"
    for name, drawn in render.pictures().items():
        assert (DOCS / "pictures" / name).read_text(encoding="utf-8") == drawn, again
    page = render.PAGE.read_text(encoding="utf-8")
    assert render.rendered(page) == page, again


def test_papers_of_the_glossary_are_cited_where_the_methods_are() -> None:
    number = re.compile(r"\b\d{4}\.\d{5}\b")
    cited: set[str] = set()
    for folder in ("docs", "envs", "launch", "rewards", "shaping"):
        for path in (path for kind in ("*.py", "*.md") for path in (ROOT / folder).rglob(kind)):
            if path != DOCS / "glossary.md":
                cited |= set(number.findall(path.read_text(encoding="utf-8")))
    named = set(number.findall((DOCS / "glossary.md").read_text(encoding="utf-8")))
    assert len(named) > 20 and named <= cited


def test_figures_of_the_readme_are_those_of_the_results() -> None:
    """The section on findings, by hand, quotes the page of results, which is checked against the runs."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.partition("\n## What was found")[2].partition("\n## ")[0]
    quoted = re.findall(r"\[[^\]]*\d\]|(?<![\w.\[])[+-]?\.\d+", section)
    results = (DOCS / "results" / "README.md").read_text(encoding="utf-8")
    assert len(quoted) > 15
    assert [figure for figure in quoted if figure not in results] == []


def test_the_first_example_shows_a_lie(capsys: pytest.CaptureFixture[str]) -> None:
    text = (DOCS / "start" / "ten-minutes.md").read_text(encoding="utf-8")
    (source,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    exec(compile(source, "ten-minutes.md", "exec"), {})
    assert "ACTION: answer no\nproxy 0, deception 1\n" in capsys.readouterr().out
