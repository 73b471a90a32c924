"""Hooks of the documentation site: pages for what lies outside of docs/ and is linked to, and for notebooks.

A link of a page to `../launch/train.py` reads well in the repository. On the site it leads to a page with that file's
text. A linked folder gets a page with its files, and `CONTRIBUTING.md` is a page as it is.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
CONTRIBUTING = "contributing.md"
LINK = re.compile(r"(?<!\!)(\]\()([^()\s#]+)(#[^()\s]*)?\)")
FENCE = re.compile(r"^(`{3,}|~{3,}).*?^\1\s*$", re.MULTILINE | re.DOTALL)
LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".sh": "bash", ".toml": "toml"}
"""Suffix -> language of the text of a file that gets a page."""


def on_config(config: MkDocsConfig) -> None:
    """Leave out of the menu what is not there, as a test allows of some pages; notebooks are named by their pages."""
    config.nav = _present(config.nav or [], Path(config.docs_dir))


def _present(nav: Any, folder: Path) -> Any:
    if isinstance(nav, dict):
        kept = {title: _present(part, folder) for title, part in nav.items()}
        return {title: part for title, part in kept.items() if part}
    if isinstance(nav, list):
        return [part for part in (_present(each, folder) for each in nav) if part]
    return _as_page(nav) if nav == CONTRIBUTING or (folder / nav).is_file() else None


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the pages that no file of docs/ holds."""
    for file in list(files):
        if file.src_uri.endswith(".ipynb"):
            files.remove(file)
            page = notebook(json.loads(Path(file.abs_src_path or "").read_text(encoding="utf-8")))
            files.append(File.generated(config, _as_page(file.src_uri), content=page))
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    files.append(File.generated(config, CONTRIBUTING, content=guide))
    wanted = set(linked_outside(guide, "CONTRIBUTING.md"))
    for file in files.documentation_pages():
        if file.generated_by is None:
            wanted |= set(linked_outside(file.content_string, f"docs/{file.src_uri}"))
    for path in sorted(_with_contents(wanted)):
        files.append(File.generated(config, site_path(path), content=source_page(path)))


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links that leave docs/ into links to the pages made of their files."""
    place = page.file.src_uri
    return rewritten(markdown, "CONTRIBUTING.md" if place == CONTRIBUTING else f"docs/{place}", place)


def on_post_build(config: MkDocsConfig) -> None:
    """Write the index of the search as a script, too: a page that is opened from a folder may not fetch it."""
    index = Path(config.site_dir) / "search" / "search_index.json"
    index.with_suffix(".js").write_text(f"var __index = {index.read_text(encoding='utf-8')}", encoding="utf-8")


def linked_outside(markdown: str, place: str) -> Iterator[str]:
    """Paths in the repository that a page links to and that lie outside of docs/; `place` is the page's own path."""
    for part in FENCE.sub("", markdown).splitlines():
        for _, target, _ in LINK.findall(part):
            path = _resolved(target, place)
            if path and not _in_docs(path) and path != "CONTRIBUTING.md" and (ROOT / path).exists():
                yield path


def rewritten(markdown: str, place: str, site_place: str) -> str:
    """The page with its links as the site has them; fenced code is left alone."""

    def link(found: re.Match[str]) -> str:
        path = _resolved(found[2], place)
        if not path or not (ROOT / path).exists():
            return found[0]
        start = posixpath.dirname(site_place) or "."
        return f"{found[1]}{posixpath.relpath(site_path(path), start)}{found[3] or ''})"

    pieces, end = [], 0
    for fence in FENCE.finditer(markdown):
        pieces += [LINK.sub(link, markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*pieces, LINK.sub(link, markdown[end:])])


def site_path(path: str) -> str:
    """The page of a path in the repository."""
    if path == "CONTRIBUTING.md":
        return CONTRIBUTING
    if path == "README.md":
        return "index.md"
    if _in_docs(path):
        inside = path.removeprefix("docs").lstrip("/")
        return _as_page(inside)
    return f"source/{path}/index.md" if (ROOT / path).is_dir() else f"source/{path}.md"


def source_page(path: str) -> str:
    """A file's text, or the list of a folder's files. The search leaves them out: it is for pages."""
    return f"---\nhide: [navigation, toc]\nsearch: {{exclude: true}}\n---\n{_source(path)}"


def _source(path: str) -> str:
    place = ROOT / path
    if place.is_dir():
        lines = [f"- [`{file.name}`]({file.name}.md)" for file in _texts(place)]
        return "\n".join([f"# {path}/", "", *lines, ""])
    text = place.read_text(encoding="utf-8")
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"# {path}\n\n{fence}{LANGUAGES.get(place.suffix, 'text')}\n{text}\n{fence}\n"


def notebook(document: dict[str, Any]) -> str:
    """A notebook as Markdown: its text, its code, and what the code printed. Pictures are kept, HTML is left out."""
    parts = []
    for cell in document["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(text)
        elif cell["cell_type"] == "code" and text.strip():
            parts += [_fenced(text, "python"), *map(_output, cell.get("outputs", ()))]
    return "\n\n".join(part for part in parts if part) + "\n"


def _output(output: dict[str, Any]) -> str:
    data = output.get("data", {})
    if "image/png" in data:
        return f"![Output of the cell above](data:image/png;base64,{''.join(data['image/png']).strip()})"
    text = "".join(output.get("text") or data.get("text/plain", ""))
    return _fenced(text.rstrip("\n"), "text") if text.strip() else ""


def _fenced(text: str, language: str) -> str:
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"


def _resolved(target: str, place: str) -> str:
    """The path in the repository that a relative link leads to; empty for an address."""
    if re.match(r"[a-z][a-z0-9+.-]*:|/", target):
        return ""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(place), target))
    return "" if path.startswith("..") else path


def _as_page(path: str) -> str:
    return f"{path.removesuffix('.ipynb')}.md" if path.endswith(".ipynb") else path


def _in_docs(path: str) -> bool:
    return path == "docs" or path.startswith("docs/")


def _with_contents(paths: set[str]) -> set[str]:
    """The paths, and of folders also the files in them."""
    inside = {f"{path}/{file.name}" for path in paths if (ROOT / path).is_dir() for file in _texts(ROOT / path)}
    return paths | inside


def _texts(folder: Path) -> list[Path]:
    known = {*LANGUAGES, ".md", ".txt", ""}
    return sorted(file for file in folder.iterdir() if file.is_file() and file.suffix in known)
