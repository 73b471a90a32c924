"""The index: which episodes there are, filtered and ordered by DuckDB without reading more than a list needs.

Tables are filled in steps. Opening reads small columns of all files; labels and rewards follow when a list first needs
them, or while nobody asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb

from envs.episode import TRAITS
from envs.escaping import on_one_line
from launch.viewer.index import schema
from launch.viewer.index.filters import PAGE, Filters, order_by, tables, where
from launch.viewer.sources import EpisodeFile

MEMORY = "2GB"
"""What DuckDB may use."""
FILLED_BY: Mapping[str, Callable[[], str]] = {"counts": schema.counts_from, "returns": schema.returns_from}


class EpisodeIndex:
    """The episodes of some files, numbered from 0 in the order of the files. `open` makes them known."""

    def __init__(self, files: Sequence[EpisodeFile]) -> None:
        self.files = files
        self.problems: list[str] = []
        """One sentence per file, or part of it, that cannot be read."""
        self.opened = 0
        """Files whose episodes are known: the first ones."""
        self._left: dict[str, list[str]] = {table: [] for table in FILLED_BY}
        """Table -> the opened files that it has no rows of yet."""
        self._db = _connect([file.path for file in files])
        for statement in (schema.FILES, schema.EPISODES, schema.COUNTS, schema.RETURNS, schema.SAID, schema.READS):
            self._db.execute(statement)
        self._db.execute(schema.SCORES)
        stages = ["evaluation" if file.update is None else "training" for file in files]
        rows = [
            [number, file.path, file.arm, file.replicate, file.name, stage, file.update, None]
            for number, (file, stage) in enumerate(zip(files, stages, strict=True))
        ]
        self._add("files", rows)

    def open(self, files: int | None = None) -> bool:
        """Read the small columns of all files that are not opened yet, or of the next few. Are there more?"""
        first, before = self.opened, len(self)
        last = len(self.files) if files is None else min(first + files, len(self.files))
        self._insert(
            "episodes",
            [file.path for file in self.files[first:last]],
            schema.episodes_from(False),
            schema.episodes_from(True),
        )
        # Numbers so far are rows within files. A file starts after those before it.
        self._db.execute(
            """update files set start = s.start from (select file, ? + cast(coalesce(sum(many) over (
                order by file rows between unbounded preceding and 1 preceding), 0) as bigint) as start
                from (select file, count(*) as many from episodes where file >= ? group by file)) s
            where s.file = files.id""",
            [before, first],
        )
        self._db.execute(
            """update episodes set id = episodes.id + f.start from files f
            where f.id = episodes.file and episodes.file >= ?""",
            [first],
        )
        sound = self._all("select path from files where start is not null and id >= ? order by id", [first])
        for left in self._left.values():
            left += [path for (path,) in sound]
        self.opened = last
        return last < len(self.files)

    def __len__(self) -> int:
        return int(self._all("select count(*) from episodes")[0][0])

    def place(self, number: int) -> tuple[EpisodeFile, int]:
        """The file of an episode and its row there. Raises `KeyError` for a number that is none."""
        found = self._all(
            "select f.id, e.id - f.start from episodes e join files f on f.id = e.file where e.id = ?", [number]
        )
        if not found:
            raise KeyError(number)
        return self.files[found[0][0]], int(found[0][1])

    def first(self, file: int) -> int | None:
        """Number of the first episode of a file; None if it has none, or cannot be read."""
        found: int | None = self._all("select start from files where id = ?", [file])[0][0]
        return found

    def facets(self) -> dict[str, list[Any]]:
        """Values that filters can have, for those with more than one."""
        columns = {
            "arm": "f.arm",
            "replicate": "f.replicate",
            "stage": "f.stage",
            "update": "f.upd",
            "world": "e.world",
            "watch": "e.watch",
            "placebo": "e.placebo",
            "context": "e.context",
            "status": "e.status",
        }
        joined = "from episodes e join files f on f.id = e.file"
        found = {
            name: [v for (v,) in self._all(f"select distinct {column} {joined} where {column} is not null order by 1")]
            for name, column in columns.items()
        }
        found["cell"] = [v for (v,) in self._all("select distinct unnest(cells) from episodes order by 1")]
        return {name: values[:500] for name, values in found.items() if len(values) > 1}

    def monitors(self) -> dict[str, Any]:
        """Monitors with scores: the traits that each suspects, where its scores come from, how many files it read."""
        rows = self._all(
            "select monitor, any_value(source), list(distinct trait order by trait), count(distinct file) from reads "
            "group by monitor order by monitor"
        )
        return {name: {"source": source, "traits": traits, "files": files} for name, source, traits, files in rows}

    def trait_of(self, filters: Filters) -> str:
        """The trait that scores are compared about: the chosen one, else the first that monitors suspect."""
        if filters.trait in TRAITS:
            return filters.trait
        suspected = {trait for (trait,) in self._all("select distinct trait from said")}
        return next((trait for trait in TRAITS if trait in suspected), TRAITS[0])

    def page(self, filters: Filters, size: int = PAGE) -> dict[str, Any]:
        """One page of the list: the number of episodes that the filters leave, and the rows of the page."""
        trait = self.trait_of(filters)
        order = filters.order or ("misses" if self._all("select 1 from said limit 1") else "stored")
        for table in sorted(tables(filters, order)):
            self.fill(table)
        condition, values = where(filters, trait)
        joined = f"""from episodes e join files f on f.id = e.file left join counts c on c.id = e.id
            left join returns r on r.id = e.id
            left join (select * from scores where trait = '{trait}') s on s.id = e.id where {condition}"""
        total = int(self._all(f"select count(*) {joined}", values)[0][0])
        numbers = self._all(
            f"select e.id {joined} order by {order_by(order, trait)} limit ? offset ?",
            [*values, size, (filters.page - 1) * size],
        )
        rows = self.rows([number for (number,) in numbers])
        return {"total": total, "rows": rows, "order": order, "trait": trait, "size": size}

    def rows(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """What a list shows of episodes, in the order of the numbers."""
        if not numbers:
            return []
        names = ("id", "file", "arm", "replicate", "name", "update", "world", "seed", "group", "status", "context",
                 "watch", "placebo")  # fmt: skip
        found = self._all(
            """select e.id, f.id, f.arm, f.replicate, f.name, f.upd, e.world, e.seed, e.grp, e.status, e.context,
            e.watch, e.placebo from episodes e join files f on f.id = e.file where list_contains(?, e.id)""",
            [list(numbers)],
        )
        rows = {row[0]: dict(zip(names, row, strict=True)) for row in found}
        facts, said = self._facts(rows), self._said(numbers)
        asked: dict[int, list[str]] = {}
        for file, trait in self._all("select distinct file, trait from reads"):
            asked.setdefault(file, []).append(trait)
        return [
            {**rows[n], **facts.get(n, {}), "said": said.get(n, []), "asked": asked.get(rows[n]["file"], [])}
            for n in numbers
            if n in rows
        ]

    def readings(self, number: int) -> list[dict[str, Any]]:
        """What monitors said of the turns of an episode."""
        names = ("monitor", "trait", "turn", "score", "first", "stop")
        found = self._all(f"select {', '.join(names)} from said where id = ? order by turn, monitor, trait", [number])
        return [dict(zip(names, row, strict=True)) for row in found]

    def asked(self, file: int) -> list[list[str]]:
        """The monitors that have read a file, each with a trait that it suspects."""
        found = self._all("select distinct monitor, trait from reads where file = ? order by all", [file])
        return [list(pair) for pair in found]

    def partners(self, number: int) -> list[dict[str, Any]]:
        """Episodes of the same seed to lay beside one: watched against unwatched, other arms, other group members."""
        found = self._all(
            """with own as (select e.*, f.arm, f.replicate, f.name from episodes e join files f on f.id = e.file
                where e.id = ?)
            select e.id, f.arm, f.replicate, f.name, f.upd, e.watch, e.placebo,
                case when f.id = o.file and e.watch is distinct from o.watch then 'watch'
                     when f.id = o.file and e.placebo is distinct from o.placebo then 'placebo'
                     when f.id = o.file then 'group' when f.replicate = o.replicate then 'arm' else 'replicate' end as k
            from episodes e join files f on f.id = e.file, own o
            where e.id <> o.id and e.world = o.world and e.seed = o.seed and f.name = o.name
                and (f.id = o.file or (e.watch is not distinct from o.watch
                     and e.placebo is not distinct from o.placebo and (f.arm = o.arm or f.replicate = o.replicate)))
            order by array_position(['watch', 'placebo', 'arm', 'group', 'replicate'], k), abs(e.id - o.id) limit 40""",
            [number],
        )
        names = ("id", "arm", "replicate", "name", "update", "watch", "placebo", "kind")
        return [dict(zip(names, row, strict=True)) for row in found]

    def fill(self, table: str, files: int | None = None) -> bool:
        """Read the columns of a table from all files that it has no rows of, or the next few. Are there more?"""
        left = self._left[table]
        now = left[: len(left) if files is None else files]
        del left[: len(now)]
        self._insert(table, now, FILLED_BY[table]())
        return bool(left)

    def add_said(self, monitor: str, said: Sequence[tuple[Any, ...]]) -> None:
        """Take up what a monitor said: (number, trait, turn, score, first token or None, stop or None)."""
        self._add("said", [[number, monitor, *rest] for number, *rest in said])

    def add_reads(self, reads: Sequence[tuple[int, str, str, str]]) -> None:
        """Take up what was read: (place of a file, monitor, a trait that it suspects, where its scores come from)."""
        self._add("reads", reads)

    def _insert(self, table: str, paths: Sequence[str], select: str, old: str = "") -> None:
        """All files in one scan; if that fails, file by file, and those that fail are named."""
        if not paths:
            return
        try:
            self._db.execute(f"insert into {table} {select}", [list(paths)])
            return
        except (duckdb.Error, MemoryError):
            pass
        for path in paths:
            try:
                self._insert_one(table, path, select, old)
            except (duckdb.Error, MemoryError, ValueError) as error:
                place = Path(path)
                name = f"{place.parent.parent.parent.name}/{place.parent.parent.name}/{place.name}"
                why = str(error).partition("\n")[0].replace(path, place.name)
                self.problems.append(on_one_line(f"{name} cannot be read: {why}", 400))

    def _insert_one(self, table: str, path: str, select: str, old: str) -> None:
        marks = dict(
            self._all("select cast(key as varchar), cast(value as varchar) from parquet_kv_metadata(?)", [path])
        )
        if marks.get("format") != "shaping-episodes":
            raise ValueError("it is not a file of episodes (no marker 'shaping-episodes')")
        self._db.execute(
            f"insert into {table} {old if old and marks.get('version') in ('1', '2') else select}", [[path]]
        )

    def _facts(self, rows: Mapping[int, Mapping[str, Any]]) -> dict[int, dict[str, Any]]:
        """Turns, returns and labels, from the files of these rows alone."""
        files = sorted({row["file"] for row in rows.values()})
        paths = [self.files[file].path for file in files]
        found: dict[int, dict[str, Any]] = {}
        for select, names in (
            (schema.returns_from(), ("turns", "reward")),
            (schema.counts_from(), ("truth", "true_return", *TRAITS)),
        ):
            try:
                lines = self._all(f"{select} where list_contains(?, {schema.ID})", [paths, list(rows)])
            except (duckdb.Error, MemoryError):
                continue  # the list stands without these columns; the episode's own page says why
            for number, *values in lines:
                found.setdefault(number, {}).update(zip(names, values, strict=True))
        return found

    def _said(self, numbers: Sequence[int]) -> dict[int, list[list[Any]]]:
        found: dict[int, list[list[Any]]] = {}
        for number, *rest in self._all(
            "select id, monitor, trait, max(score) from said where list_contains(?, id) group by all order by 2, 3",
            [list(numbers)],
        ):
            found.setdefault(number, []).append(rest)
        return found

    def _add(self, table: str, rows: Sequence[Sequence[Any]]) -> None:
        """Insert rows at once: a statement per row takes a thousand times longer."""
        if rows:
            columns = [list(column) for column in zip(*rows, strict=True)]
            self._db.execute(f"insert into {table} select {', '.join('unnest(?)' for _ in columns)}", columns)

    def _all(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._db.execute(sql, list(values)).fetchall()


def _connect(paths: Sequence[str]) -> duckdb.DuckDBPyConnection:
    """A database in memory that can open these files and nothing else, and installs nothing."""
    db = duckdb.connect(
        ":memory:", config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
    )
    listed = ", ".join("'" + path.replace("'", "''") + "'" for path in paths)
    db.execute(f"set allowed_paths = [{listed}]")
    for setting in (f"memory_limit = '{MEMORY}'", "enable_external_access = false", "lock_configuration = true"):
        db.execute(f"set {setting}")
    return db
