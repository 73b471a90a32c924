"""The table of timed runs, seconds.json: what a run of each setting took on one core."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

PATH = Path(__file__).with_name("seconds.json")


class Timed(BaseModel):
    """Finished runs of one setting of a study, at one size."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    study: str
    setting: str = Field(description="<arm>[+axis=value...]")
    worlds: tuple[str, ...] = Field(description="that the runs trained in")
    model: str = Field(description="kind of the model that they started from, e.g. organism")
    runs: int = Field(ge=1, description="runs that were timed")
    updates: int = Field(ge=0, description="policy updates of a run")
    episodes: int = Field(ge=1, description="episodes of an update")
    evaluated: int = Field(ge=1, description="`eval.episodes`")
    update_seconds: float = Field(ge=0, description="of one update")
    other_seconds: float = Field(ge=0, description="of all else: start, evaluation, games and audits")


class Seconds(BaseModel):
    """The table. Times are first quartiles over runs, since others may have shared the cores."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    machine: str = Field("", description="where the runs were played")
    timed: tuple[Timed, ...] = ()


def read(path: Path = PATH) -> Seconds:
    """The table; an empty one where there is no file."""
    return Seconds.model_validate_json(path.read_text(encoding="utf-8")) if path.is_file() else Seconds()


def write(table: Seconds, path: Path = PATH) -> None:
    """Write the table, one timed setting a line."""
    head = f' "machine": {_json(table.machine)},\n "timed": ['
    lines = ",\n".join(
        f"  {each.model_dump_json()}" for each in sorted(table.timed, key=lambda t: (t.study, t.setting))
    )
    path.write_text(f"{{\n{head}\n{lines}\n ]\n}}\n", encoding="utf-8")


def _json(text: str) -> str:
    return Seconds(machine=text).model_dump_json(include={"machine"}).partition(":")[2].removesuffix("}")
