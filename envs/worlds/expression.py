"""A tiny language of integer functions, for worlds in which the agent writes code.

    expr   = "if" expr "then" expr "else" expr | sum [("<" | "<=" | ">" | ">=" | "==" | "!=") sum]
    sum    = term {("+" | "-") term}
    term   = unary {("*" | "//" | "%") unary}
    unary  = "-" unary | number | argument | "(" expr ")" | ("max" | "min") "(" expr "," expr ")" | "abs" "(" expr ")"

A comparison is 1 or 0, and any number but 0 counts as true. There are no loops, names or calls, so the limited size of
a text bounds the steps of its evaluation. Python never sees the text: it becomes closures over integers.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

MAX_TOKENS = 160
"""Tokens of the longest text that is read."""
MAX_DEPTH = 24
"""Levels of the deepest nesting that is read."""
MAX_VALUE = 10**9
"""A product beyond this is undefined, so no number grows out of bounds."""

Function = Callable[[int, int], int]
"""A function of the two arguments x and y."""

_TOKEN = re.compile(r"\s*([0-9]{1,6}(?![0-9])|[a-z]+|//|[<>=!]=|[-+*%<>(),])")
_COMPARE: dict[str, Callable[[int, int], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


class ExpressionError(ValueError):
    """The text is not in the language; the message names the fault."""


@dataclass(frozen=True, slots=True)
class Program:
    """A parsed function."""

    run: Function
    """The function itself; it raises where it is undefined."""
    conditions: tuple[Function, ...]
    """The conditions of its `if`s."""

    def __call__(self, x: int, y: int = 0) -> int | None:
        """The value, or None where it is undefined: a division by zero, or a product beyond `MAX_VALUE`."""
        return value_of(self.run, x, y)


def value_of(function: Function, x: int, y: int) -> int | None:
    """The value of a function, or None where it is undefined."""
    try:
        return function(x, y)
    except (ZeroDivisionError, OverflowError):
        return None


def parse(text: str, arguments: tuple[str, ...] = ("x",)) -> Program:
    """Read a lower-case text that may use `arguments` ("x", "y"). Raises `ExpressionError`."""
    parser = _Parser(_tokens(text), arguments)
    run = parser.expression(0)
    if parser.token:
        raise ExpressionError(f"{parser.token} is too much")
    return Program(run, tuple(parser.conditions))


def _tokens(text: str) -> list[str]:
    tokens: list[str] = []
    position, end = 0, len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None:
            raise ExpressionError("unknown sign")
        if len(tokens) == MAX_TOKENS:
            raise ExpressionError("too long")
        tokens.append(match.group(1))
        position = match.end()
    return tokens


class _Parser:
    """Recursive descent; `token` is the next one, empty at the end."""

    def __init__(self, tokens: list[str], arguments: tuple[str, ...]) -> None:
        self._rest = iter(tokens)
        self._arguments = arguments
        self.conditions: list[Function] = []
        self.token = next(self._rest, "")

    def expression(self, depth: int) -> Function:
        if depth > MAX_DEPTH:
            raise ExpressionError("too deep")
        if self._took("if"):
            condition = self.expression(depth + 1)
            self._expect("then")
            yes = self.expression(depth + 1)
            self._expect("else")
            no = self.expression(depth + 1)
            self.conditions.append(condition)
            return lambda x, y: yes(x, y) if condition(x, y) else no(x, y)
        left = self._sum(depth)
        if (compare := _COMPARE.get(self.token)) is None:
            return left
        self._next()
        right = self._sum(depth)
        return lambda x, y: int(compare(left(x, y), right(x, y)))

    def _sum(self, depth: int) -> Function:
        left = self._term(depth)
        while self.token in ("+", "-"):
            left = _combined(self._next(), left, self._term(depth))
        return left

    def _term(self, depth: int) -> Function:
        left = self._unary(depth)
        while self.token in ("*", "//", "%"):
            left = _combined(self._next(), left, self._unary(depth))
        return left

    def _unary(self, depth: int) -> Function:
        if depth > MAX_DEPTH:
            raise ExpressionError("too deep")
        token = self._next()
        if token == "-":
            inner = self._unary(depth + 1)
            return lambda x, y: -inner(x, y)
        if token.isdecimal():
            number = int(token)
            return lambda x, y: number
        if token in self._arguments:
            return (lambda x, y: x) if token == "x" else (lambda x, y: y)
        if token == "(":
            inner = self.expression(depth + 1)
            self._expect(")")
            return inner
        if token not in ("max", "min", "abs"):
            raise ExpressionError(f"unexpected {token or 'end'}")
        return self._call(token, depth + 1)

    def _call(self, name: str, depth: int) -> Function:
        self._expect("(")
        first = self.expression(depth)
        if name == "abs":
            self._expect(")")
            return lambda x, y: abs(first(x, y))
        self._expect(",")
        second = self.expression(depth)
        self._expect(")")
        pick = max if name == "max" else min
        return lambda x, y: pick(first(x, y), second(x, y))

    def _next(self) -> str:
        token, self.token = self.token, next(self._rest, "")
        return token

    def _took(self, token: str) -> bool:
        return self.token == token and bool(self._next())

    def _expect(self, token: str) -> None:
        if not self._took(token):
            raise ExpressionError(f"expected {token}")


def _combined(sign: str, left: Function, right: Function) -> Function:
    if sign == "+":
        return lambda x, y: left(x, y) + right(x, y)
    if sign == "-":
        return lambda x, y: left(x, y) - right(x, y)
    if sign == "//":
        return lambda x, y: left(x, y) // right(x, y)
    if sign == "%":
        return lambda x, y: left(x, y) % right(x, y)
    return lambda x, y: _bounded(left(x, y) * right(x, y))


def _bounded(value: int) -> int:
    if -MAX_VALUE <= value <= MAX_VALUE:
        return value
    raise OverflowError
