"""The pages as HTML. Every value is escaped, and characters that act on their surroundings are shown as escapes."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from jinja2 import Environment
from markupsafe import Markup

from envs.episode import TRAITS
from launch.report.escaping import escaping_environment, visible
from launch.viewer.index.filters import ORDERS, Filters

TEMPLATES = Path(__file__).parent / "templates"
LONGEST = 20_000
"""Longest piece of text that a page shows, in characters."""
FACETS = {"replicate": "seed of training", "stage": "played in", "context": "prompt", "cell": "cell of evaluation"}
"""Words for filters whose names are not theirs."""
PARTNERS = {
    "watch": "watched against unwatched",
    "placebo": "placebo cue against none",
    "arm": "another arm, same seeds",
    "group": "another member of its group",
    "replicate": "another training seed",
}


class Links(Protocol):
    """Where pages lead, and how they get their style and script."""

    static: bool
    policy: str
    style: str
    script: str
    inline_style: Markup
    inline_script: Markup
    before: str
    after: str

    def list(self, chosen: Mapping[str, Any]) -> str:
        """The list with these filters."""

    def episode(self, number: int, position: int | None = None) -> str:
        """An episode; `position` is that on the page of a list."""

    def pair(self, left: int, right: int) -> str:
        """Two episodes side by side."""


def list_page(title: str, links: Links, page: Mapping[str, Any], filters: Filters, dropped: Sequence[str] = ()) -> str:
    """The list: filters, and one line per episode."""
    about = page["about"]
    return _render(
        "list.html.j2",
        title=title,
        links=links,
        page=page,
        about=about,
        filters=filters,
        pages=max(1, math.ceil(page["total"] / page["size"])),
        problems=[*dropped, *about["problems"]],
        facet_words={name: FACETS.get(name, name) for name in about["facets"]},
        orders=ORDERS,
    )


def episode_page(
    title: str, links: Links, episode: Mapping[str, Any], partners: Sequence[Mapping[str, Any]], colour: str = ""
) -> str:
    """One episode, turn by turn. `colour`: the channel that colours tokens at first; default: the first one."""
    return _render(
        "episode.html.j2",
        title=title,
        links=links,
        episode=episode,
        partners=partners,
        partner_words=PARTNERS,
        colour=_first(episode["channels"], colour),
        classes=_classes(episode["channels"], episode["channels"]),
    )


def pair_page(title: str, links: Links, left: Mapping[str, Any], right: Mapping[str, Any], colour: str = "") -> str:
    """Two episodes, turn beside turn."""
    channels = list({channel["name"]: channel for episode in (right, left) for channel in episode["channels"]}.values())
    pairs = enumerate(itertools.zip_longest(left["turns"], right["turns"]), start=1)
    rows = [(number, a, b, _did(a) != _did(b)) for number, (a, b) in pairs]
    return _render(
        "pair.html.j2",
        title=title,
        links=links,
        left=left,
        right=right,
        rows=rows,
        first=next((number for number, *_, differs in rows if differs), None),
        channels=channels,
        colour=_first(channels, colour),
        left_classes=_classes(left["channels"], channels),
        right_classes=_classes(right["channels"], channels),
    )


def error_page(title: str, links: Links, problem: str) -> str:
    """One sentence in place of a page."""
    return _render("error.html.j2", title=title, links=links, problem=problem)


@functools.cache
def style() -> str:
    """The style sheet."""
    return _environment().get_template("style.css.j2").render()


@functools.cache
def script() -> str:
    """The script."""
    return (TEMPLATES / "viewer.js").read_text("utf-8")


def _did(turn: Mapping[str, Any] | None) -> tuple[Any, ...]:
    return () if turn is None else tuple(turn[key] for key in ("motive", "action", "executed"))


def _first(channels: Sequence[Mapping[str, Any]], wanted: str) -> str:
    names = [channel["name"] for channel in channels]
    return wanted if wanted in names else names[0] if names else ""


def _classes(own: Sequence[Mapping[str, Any]], shown: Sequence[Mapping[str, Any]]) -> Callable[[Sequence[int]], str]:
    """Shades of a token in an episode's channels -> its classes on a page that shows `shown`."""
    places = {channel["name"]: number for number, channel in enumerate(shown)}
    names = [f"k{places[channel['name']]}{'d' if channel['two_sided'] else 'o'}" for channel in own]
    return lambda levels: " ".join(f"{n}{level}" for n, level in zip(names, levels, strict=True) if level >= 0)


@functools.cache
def _environment() -> Environment:
    found = escaping_environment(TEMPLATES)
    found.filters |= {"text": _text, "words": _words, "number": _number, "signed": _signed, "count": _count}
    found.filters |= {"big": "{:,}".format, "condition": _condition, "missed": _missed}
    found.globals["names"] = TRAITS
    return found


def _render(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(**values)


def _text(value: Any) -> str:
    return visible(str(value), LONGEST)


def _words(name: str) -> str:
    return str(name).replace("_", " ")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}".replace("-", "−")


def _signed(value: float | None) -> str:
    return "–" if value is None else "0" if value == 0 else f"{value:+.2f}".replace("-", "−")


def _count(value: float) -> str:
    return "" if value == 1 else f" × {value:g}"


def _condition(row: Mapping[str, Any]) -> str:
    parts = [f"{name} {row[name]}" for name in ("watch", "placebo") if row[name] and row[name] != "none"]
    return ", ".join(parts + ([f"prompt {row['context']}"] if row["context"] not in ("", "none") else []))


def _missed(row: Mapping[str, Any], trait: str) -> bool:
    """The episode shows the trait, and no monitor that suspects it says so."""
    return (
        trait in row["asked"]
        and bool(row.get(trait))
        and not any(t == trait and score >= 0.5 for _, t, score in row["said"])
    )
