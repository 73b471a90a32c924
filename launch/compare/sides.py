"""One side of a comparison: a study that was read and judged, and what its runs were made with."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.analysis.opened import place_of
from launch.config.reading.published import without_places
from launch.errors import UserError
from launch.report.build import DELTA
from launch.report.claims.judge import judge_study
from launch.report.claims.verdict import Verdict
from launch.report.files.load import Run, Study, load
from launch.report.table import Values, values_of
from launch.slices.seeds import as_text
from launch.slices.source import open_source

MOST = 12
"""Studies that are compared at once."""
_WORDS = ("statement", "subject", "against", "assumes")
"""Fields of a claim that change no verdict."""


@dataclass(frozen=True)
class Side:
    """A study."""

    label: str
    """The shortest end of its path that no other side has."""
    study: Study
    values: Values
    verdicts: Sequence[Verdict]
    digest: str
    """Of its settings as study.json has them."""

    @property
    def settings(self) -> dict[str, Any]:
        """Its settings in the terms of this version, without the claims and what changes no result."""
        document = self.study.config.model_dump(mode="json", exclude={"claims", "report"})
        return without_places(document) | {"seeds": as_text(self.study.config.seed_list)}

    def claim(self, name: str) -> dict[str, Any]:
        """What decides a claim: equal for claims that are the same but for their words."""
        spec = self.study.config.claims[name]
        return {"use": spec.use, **{key: value for key, value in spec.fields.items() if key not in _WORDS}}

    def made_with(self) -> dict[str, str]:
        """What may change results beside the settings -> what its runs recorded of it."""
        facts: dict[str, dict[str, None]] = {}
        for run in self.study.runs:
            for name, value in _facts(run):
                facts.setdefault(name, {})[value] = None
        return {name: " and ".join(sorted(values)) for name, values in facts.items()}


def read_sides(directories: Sequence[Path]) -> list[Side]:
    """Read and judge the studies.

    Raises: `UserError` for fewer than two or more than 12 directories, for one that is named twice, and for one that
    is no study or has no complete run.
    """
    if not 2 <= len(directories) <= MOST:
        raise UserError(f"compare takes 2 to {MOST} directories of studies, not {len(directories)}")
    places = [place_of(Path(each).expanduser()) for each in directories]
    resolved = [place.resolve() for place in places]
    if twice := next((str(place) for place in places if resolved.count(place.resolve()) > 1), ""):
        raise UserError(f"{twice} is named twice: give directories of different studies, or of different runs of one")
    sides = []
    for place, label in zip(places, labels(resolved), strict=True):
        source, study = open_source(place), load(place)
        values = values_of(study)
        verdicts = judge_study(study, values, DELTA)
        sides.append(Side(label, study, values, verdicts, source.digest))
    return sides


def labels(places: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell them apart; a last part `rows` is left out where it tells nothing."""
    parts = [place.parts[:-1] if place.name == "rows" and len(place.parts) > 1 else place.parts for place in places]
    if len(set(parts)) < len(parts):
        parts = [place.parts for place in places]
    for length in range(1, max(map(len, parts)) + 1):
        ends = ["/".join(each[-length:]) for each in parts]
        if len(set(ends)) == len(ends):
            return ends
    return [str(place) for place in places]


def _facts(run: Run) -> Iterable[tuple[str, str]]:
    record = run.record
    versions = _mapping(record.get("versions"))
    for name in ("source", "python", "machine"):
        if versions.get(name):
            yield {"source": "source of shaping (hash)"}.get(name, name), str(versions[name])
    for package, version in _mapping(versions.get("packages")).items():
        yield f"version of {package}", str(version)
    start = _mapping(record.get("start")).get("hash")
    weights = _mapping(record.get("model")).get("model.safetensors")
    if start or weights:
        yield f"start model {run.subject} (hash)", str(start or weights)
    for plugin, found in _mapping(record.get("plugins")).items():
        yield f"code of {plugin} (hash)", json.dumps(found, sort_keys=True, default=str)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
