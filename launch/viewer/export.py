"""The pages of some episodes as static files, which need no server."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from launch.errors import UserError
from launch.storage.files import disk_errors, make_directory, write_text
from launch.viewer.index.filters import Filters
from launch.viewer.pages import episode_page, list_page, pair_page, script, style
from launch.viewer.reader import Reader

PAIRS = 2
"""Pages of two episodes that each episode gets, at most."""


class FileLinks:
    """Links between files of one folder. Style and script are in the page, and the policy names their hashes alone."""

    static, style, script = True, "", ""

    def __init__(self, before: str = "", after: str = "") -> None:
        self.inline_style, self.inline_script = Markup(style()), Markup(script())
        self.policy = (
            f"default-src 'none'; style-src '{_hash(style())}'; script-src '{_hash(script())}'; base-uri 'none'; "
            "form-action 'none'"
        )
        self.before, self.after = before, after

    def list(self, chosen: Mapping[str, Any]) -> str:
        return "index.html"

    def episode(self, number: int, position: int | None = None) -> str:
        return f"episode-{number}.html"

    def pair(self, left: int, right: int) -> str:
        return f"pair-{left}-{right}.html"


def export_pages(title: str, reader: Reader, folder: Path, count: int) -> int:
    """Write the list of the first `count` episodes, their pages, and pairs of them that share a seed.

    They are the worst false negatives, where monitors have scores, else the first ones. Returns how many there are.

    Raises:
        UserError: The folder holds something else already.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"--export {folder}: it is there and not empty; name another folder, or empty it")
    while reader.ask("read"):  # the order needs all scores
        pass
    filters = Filters()
    page = reader.ask("page", filters=filters.model_dump(), size=count)
    numbers = [row["id"] for row in page["rows"]]
    page["total"] = len(numbers)
    with disk_errors(folder):
        make_directory(folder)
        write_text(folder / "index.html", list_page(title, FileLinks(), page, filters, reader.dropped))
        for place, number in enumerate(numbers):
            before = FileLinks().episode(numbers[place - 1]) if place else ""
            after = FileLinks().episode(numbers[place + 1]) if place + 1 < len(numbers) else ""
            _write_episode(title, reader, folder, number, FileLinks(before, after), numbers)
    return len(numbers)


def _write_episode(
    title: str, reader: Reader, folder: Path, number: int, links: FileLinks, exported: Collection[int]
) -> None:
    episode = reader.ask("episode", id=number)
    partners = [partner for partner in episode["partners"] if partner["id"] in exported]
    kinds = {partner["kind"]: partner for partner in reversed(partners)}
    chosen = list(kinds.values())[::-1][:PAIRS]
    write_text(folder / links.episode(number), episode_page(title, links, episode, chosen))
    for partner in chosen:
        other = reader.ask("episode", id=partner["id"])
        page = pair_page(title, FileLinks(), episode, other)
        write_text(folder / links.pair(number, partner["id"]), page)


def _hash(text: str) -> str:
    """The hash of an inline element, as a policy names it."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
