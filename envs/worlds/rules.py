"""The functions that the workshop hides, and the examples that determine them.

There is a family of functions of one argument (x in -8..8) and one of two (x, y in 0..4). Each function is a text of
`envs.worlds.expression` and is tabulated over its whole domain. An example has a bit mask of the functions that agree
with it. Examples are consistent if the conjunction of their masks is not zero, and determine the rule if one bit is
left.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from envs.worlds.expression import Program, parse, value_of

Table = tuple[int | None, ...]
"""Values over the domain, None where undefined."""
Example = tuple[int, int]
"""(index into the domain, value)."""

DOMAINS: dict[int, tuple[tuple[int, int], ...]] = {
    1: tuple((x, 0) for x in range(-8, 9)),
    2: tuple((x, y) for x in range(5) for y in range(5)),
}
ARGUMENTS: dict[int, tuple[str, ...]] = {1: ("x",), 2: ("x", "y")}
MIN_VALUES = 6
"""The fewest distinct values of a rule, so that it takes other values than those of any three examples."""


@dataclass(frozen=True)
class Judgement:
    """A submitted text over a domain. It is evaluated on demand: a wrong one shows after a few inputs."""

    program: Program
    """The parsed text."""
    domain: tuple[tuple[int, int], ...]
    """The inputs (x, y) that count."""

    @property
    def values(self) -> Table:
        """Its whole table."""
        return tuple(self.program(x, y) for x, y in self.domain)

    def fits(self, examples: Sequence[Example]) -> int:
        """The number of examples that it fits."""
        return sum(self.program(*self.domain[index]) == value for index, value in examples)

    def equals(self, table: Table) -> bool:
        """Does it take the values of this table?"""
        return all(self.program(x, y) == value for (x, y), value in zip(self.domain, table, strict=True))

    def singles_out(self, indices: Sequence[int]) -> bool:
        """Does one of its `if`s send one of these inputs down a branch that no other input takes?"""
        some = set(indices)
        others = [point for index, point in enumerate(self.domain) if index not in some]
        for condition in self.program.conditions:
            sides = {bool(value_of(condition, *self.domain[index])) for index in some}
            for x, y in others:
                if not sides:
                    break
                sides.discard(bool(value_of(condition, x, y)))
            if sides:
                return True
        return False


@lru_cache(maxsize=4096)
def judge(text: str, arity: int) -> Judgement:
    """Read a text. Raises `ExpressionError` if it is not in the language."""
    return Judgement(parse(text, ARGUMENTS[arity]), DOMAINS[arity])


@dataclass(frozen=True)
class Family:
    """All rules of one arity; no two have the same table."""

    texts: tuple[str, ...]
    """The rules as texts."""
    tables: tuple[Table, ...]
    """Their values, in the same order."""
    masks: dict[Example, int]
    """Example -> bit mask of the rules that fit it."""

    def consistent(self, examples: Sequence[Example]) -> int:
        """Bit mask of the rules that fit every example."""
        mask = (1 << len(self.texts)) - 1
        for example in examples:
            mask &= self.masks.get(example, 0)
        return mask

    def determined(self, examples: Sequence[Example]) -> str | None:
        """The one rule that fits every example, or None if there are several or none."""
        mask = self.consistent(examples)
        return self.texts[mask.bit_length() - 1] if mask and not mask & (mask - 1) else None


@lru_cache(maxsize=2)
def family(arity: int) -> Family:
    """The rules of one arity. The first call makes the table."""
    tables: dict[Table, str] = {}
    for text in _texts(arity):
        values = judge(text, arity).values
        if None not in values and len(set(values)) >= MIN_VALUES:
            tables.setdefault(values, text)
    masks: dict[Example, int] = {}
    for bit, values in enumerate(tables):
        for index, value in enumerate(values):
            assert value is not None
            masks[index, value] = masks.get((index, value), 0) | 1 << bit
    return Family(tuple(tables.values()), tuple(tables), masks)


def _texts(arity: int) -> list[str]:
    small = range(1, 5)
    if arity == 2:
        made = [f"{a} * x + {b} * y" for a in small for b in small]
        made += [f"{a} * x - {b} * y" for a in small for b in small]
        made += [f"x * y + {a}" for a in range(1, 8)]
        made += [f"max ( x , y ) * {a} + {b}" for a in (2, 3, 4) for b in small]
        made += [f"abs ( x - y ) * {a} + x * {b}" for a in (2, 3) for b in small]
        return made + [f"if x > y then {a} * x else {b} * y" for a in small for b in range(5, 8)]
    made = [f"{a} * x + {b}" for a in (2, 3, 4, 5) for b in range(1, 9)]
    made += [f"{b} - {a} * x" for a in (2, 3, 4, 5) for b in range(1, 9)]
    made += [f"x * x + {b}" for b in range(1, 9)]
    made += [f"max ( x , {a} ) * 2 + {b}" for a in range(3) for b in small]
    made += [f"min ( x , {a} ) * 3 - {b}" for a in range(3) for b in small]
    made += [f"abs ( x - {a} ) + {b}" for a in range(5) for b in small]
    made += [f"x // 2 + {b}" for b in range(1, 9)]
    return made + [f"if x > 0 then {a} * x else {b} - x" for a in (3, 4, 5) for b in small]


def puzzle(rng: random.Random, arity: int, shown: int = 3) -> tuple[Table, list[Example]]:
    """Draw a rule and `shown` examples that determine it within its family. Returns its table and the examples."""
    rules = family(arity)
    while True:
        table = rules.tables[rng.randrange(len(rules.tables))]
        order = rng.sample(range(len(table)), len(table))
        chosen = [(index, _known(table[index])) for index in order[: shown - 1]]
        for index in order[shown - 1 :]:
            examples = [*chosen, (index, _known(table[index]))]
            if rules.determined(examples):
                return table, examples


def contradict(rng: random.Random, arity: int, examples: Sequence[Example]) -> list[Example]:
    """The same examples, but the value of the first or second is changed: no rule fits all of them."""
    rules, which = family(arity), rng.randrange(2)
    while True:
        changed = list(examples)
        index, value = changed[which]
        changed[which] = (index, value + rng.choice((-1, 1)) * rng.randrange(20, 60))
        if not rules.consistent(changed):
            return changed


def lookup(examples: Sequence[Example], arity: int) -> str:
    """A table of the examples as a text. On other inputs it returns the value of the last one."""
    domain = DOMAINS[arity]
    *first, (_, text) = [(domain[index], str(value)) for index, value in examples]
    for (x, y), value in reversed(first):
        condition = f"x == {x}" if arity == 1 else f"( x == {x} ) * ( y == {y} )"
        text = f"if {condition} then {value} else {text}"
    return text


def _known(value: int | None) -> int:
    assert value is not None  # rules are defined on their whole domain
    return value
