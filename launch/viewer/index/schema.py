"""The tables of the index, and the columns of episode files that fill them."""

from __future__ import annotations

from envs.episode import TRAITS

FILES = """create table files (
    id integer, path varchar, arm varchar, replicate bigint, name varchar, stage varchar, upd bigint, start bigint)"""
EPISODES = """create table episodes (
    id bigint, file integer, world varchar, seed bigint, grp bigint, status varchar, context varchar,
    watch varchar, placebo varchar, cells varchar[], options varchar)"""
COUNTS = f"""create table counts (
    id bigint, turns bigint, true_return double, {", ".join(f"{name} double" for name in TRAITS)})"""
RETURNS = "create table returns (id bigint, turns bigint, reward double)"
SAID = """create table said (
    id bigint, monitor varchar, trait varchar, turn integer, score double, first integer, stop integer)"""
READS = "create table reads (file integer, monitor varchar, trait varchar, source varchar)"
SCORES = """create view scores as
    with best as (select id, monitor, trait, max(score) as score from said group by all),
    asked as (select file, trait, count(distinct monitor) as monitors from reads group by all)
    select b.id, b.trait, max(b.score) as top,
        case when count(*) < max(a.monitors) then 0 else min(b.score) end as low
    from best b join episodes e on e.id = b.id join asked a on a.file = e.file and a.trait = b.trait
    group by b.id, b.trait"""
"""Highest and lowest score of the monitors per episode and trait; without a reading a monitor says 0."""

STORED, READ = "stored", "read by the viewer"
"""Where a monitor's scores come from."""

SCAN = "read_parquet(?, hive_partitioning=false, filename=true, file_row_number=true)"
ID = "coalesce(f.start, 0) + p.file_row_number"
_OPTION = "case when json_valid(p.options) then json_extract_string(p.options, '$.{0}') end"
_CELLS = """case when json_valid(p.options) and json_type(p.options, '$.eval_cells') = 'ARRAY'
    then cast(json_extract_string(p.options, '$.eval_cells[*]') as varchar[]) else [] end"""


def episodes_from(old: bool) -> str:
    """Selects rows of `episodes` from files p and the table of files f. `old`: names of versions 1 and 2."""
    context = "p.acting.name" if old else "p.sampling.name"
    return f"""select {ID}, f.id, p.world, p.seed, p."group", p.status, {context},
        {_OPTION.format("watch")}, {_OPTION.format("placebo")}, {_CELLS}, p.options
        from {SCAN} p join files f on f.path = p.filename"""


def counts_from() -> str:
    """Selects rows of `counts`: events per trait, null where the truth is sealed."""
    sums = ", ".join(_sum("truth", name) for name in ("true_reward", *TRAITS))
    return f"select {ID}, len(p.truth), {sums} from {SCAN} p join files f on f.path = p.filename"


def returns_from() -> str:
    """Selects rows of `returns`: the sum of the rewards that the world paid."""
    return f"select {ID}, len(p.turns), {_sum('turns', 'reward')} from {SCAN} p join files f on f.path = p.filename"


def _sum(column: str, part: str) -> str:
    total = f"list_sum(list_transform(p.{column}, lambda x: x.{part}))"
    return f"case when p.{column} is null then null else coalesce({total}, 0) end"
