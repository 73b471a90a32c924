"""Tables that scripts write between two marks of a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def between_marks(text: str, name: str, table: str) -> str:
    """The page with `table` between its `<!-- name -->` and `<!-- /name -->`."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    head, rest = text.split(start)
    return f"{head}{start}\n{table}\n{end}{rest.split(end)[1]}"


def table_of(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, without padding."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ("---",) * len(head), *rows))
