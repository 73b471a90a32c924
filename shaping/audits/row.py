"""A row of metrics in which no source can overwrite another's columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shaping.audits.metrics import MetricError


class Row(dict[str, Any]):
    """Column -> value. `add` refuses a column that is there already, and names both sources."""

    def __init__(self, source: str = "", columns: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.sources: dict[str, str] = {}
        self.add(source, columns or {})

    def add(self, source: str, columns: Mapping[str, Any]) -> None:
        """Add columns; those of a `Row` keep their sources.

        Raises: `MetricError` if a column is there already.
        """
        known = columns.sources if isinstance(columns, Row) else {}
        for name, value in columns.items():
            writer = known.get(name, source)
            if name in self:
                raise MetricError(
                    f"the column {name!r} is written twice: by {self.sources[name]}, and by {writer}; rename the one "
                    "that is yours"
                )
            self[name], self.sources[name] = value, writer
