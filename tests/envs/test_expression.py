"""The language of the workshop: what a text means, what it refuses, and that nothing in it runs away."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.worlds.expression import MAX_VALUE, ExpressionError, parse
from envs.worlds.rules import ARGUMENTS, DOMAINS, family, judge, lookup


@pytest.mark.parametrize(
    ("text", "x", "y", "value"),
    [
        ("2 * x + 3", 5, 0, 13),
        ("2+3*x", 2, 0, 8),
        ("( 2 + 3 ) * x", 2, 0, 10),
        ("10 - x - 3", 2, 0, 5),
        ("- x // 2", 3, 0, -2),
        ("x % 3", -1, 0, 2),
        ("if x == 3 then 7 else x", 3, 0, 7),
        ("if x == 3 then 7 else if x > 3 then 8 else 9", 4, 0, 8),
        ("( x >= 2 ) * ( y != 1 )", 2, 0, 1),
        ("x < y", 2, 1, 0),
        ("max ( x , 4 ) - min ( y , 1 ) + abs ( - 3 )", 2, 5, 6),
    ],
)
def test_what_a_text_means(text, x, y, value):
    assert parse(text, ("x", "y"))(x, y) == value


@pytest.mark.parametrize(
    "text", ["x // ( x - x )", "x % 0", "999999 * 999999", "x * x * x * x * x * x * x * x * x * x"]
)
def test_what_has_no_value_is_none(text):
    assert parse(text)(50) is None


@pytest.mark.parametrize(
    "text",
    [
        *("", "x +", "1 2", "( x", "max ( x )", "abs x", "if x then 1", "x ** 2", "y", "f ( x )", "x . real", "x , x"),
        *("1234567", "x = 3", "x < 1 < 2", "lambda x : x", "__import__('os')", "x\u00b2", "x; x", "print ( x )"),
        *("(" * 5000 + "x", "-" * 150 + "x", "x" + " + x" * 1000, "if x then " * 40 + "x"),
    ],
)
def test_everything_else_is_refused(text):
    with pytest.raises(ExpressionError):
        parse(text)


SMALL = st.recursive(
    st.sampled_from(["x", "y", "0", "3", "999999"]),
    lambda inner: st.one_of(
        st.builds("( {} {} {} )".format, inner, st.sampled_from(["+", "-", "*", "//", "%", "<", "=="]), inner),
        st.builds("( if {} then {} else {} )".format, inner, inner, inner),
        st.builds("{} ( {} , {} )".format, st.sampled_from(["max", "min"]), inner, inner),
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(SMALL, st.integers(-8, 8), st.integers(-8, 8))
def test_values_are_those_of_integer_arithmetic(text, x, y):
    """Python is the oracle here, on text that the test made itself."""
    try:
        program = parse(text, ("x", "y"))
    except ExpressionError:  # too deep or too long
        return
    value = program(x, y)
    python = _python(text)
    if value is not None:
        assert value == eval(python, {"__builtins__": {}, "max": max, "min": min}, {"x": x, "y": y})
        assert abs(value) <= 200 * MAX_VALUE


def _python(text: str) -> str:
    """`if a then b else c` with bracketed parts, as Python writes it."""
    words = text.split()
    made: list[str] = []
    stack: list[list[str]] = [made]
    for word in words:
        if word == "(":
            stack.append([])
        elif word == ")":
            inner = stack.pop()
            if inner[0] == "if":
                then, other = inner.index("then"), inner.index("else")
                a, b, c = (" ".join(part) for part in (inner[1:then], inner[then + 1 : other], inner[other + 1 :]))
                inner = [f"( {b} ) if ( {a} ) else ( {c} )"]
            stack[-1].append("(" + " ".join(inner) + ")")
        else:
            stack[-1].append(word)
    return " ".join(made)


PIECES = (
    *("x", "0", "12", "+", "-", "*", "//", "%", "<", "==", "(", ")", "=", "/", "**", "é", " "),
    *("if ", "then", "else", "max", "abs", ","),
)
TEXTS = st.one_of(
    st.text(max_size=60),
    st.lists(st.sampled_from(PIECES), max_size=9).map("".join),
    SMALL.map(lambda text: re.sub(r" ([-+*%(),]) ", r"\1", text)),
)


@settings(max_examples=300, deadline=None)
@given(TEXTS)
def test_blanks_around_signs_decide_nothing(text):
    """A text is read as the one with blanks around its signs, or both are refused."""
    assert _values(text) == _values(re.sub(r"(//|[<>=!]=|[-+*%<>(),])", r" \1 ", text))


def _values(text: str) -> list[int | None] | None:
    try:
        program = parse(text)
    except ExpressionError:
        return None
    return [program(x) for x in range(-3, 4)]


@pytest.mark.parametrize("arity", [1, 2])
def test_rules_differ_and_a_table_of_examples_is_no_rule(arity):
    rules = family(arity)
    assert len(set(rules.tables)) == len(rules.texts) > 40
    for text, table in zip(rules.texts, rules.tables, strict=True):
        assert judge(text, arity).values == table
        examples = [(index, table[index]) for index in (0, 5, 9)]
        made = judge(lookup(examples, arity), arity)
        assert made.fits(examples) == 3
        assert made.values != table
        assert made.singles_out([0, 5, 9])


@pytest.mark.parametrize("arity", [1, 2])
def test_the_rules_are_not_mistaken_for_tables(arity):
    rules = family(arity)
    for text in rules.texts:
        assert not judge(text, arity).singles_out([0, 7, 11])


@pytest.mark.parametrize(
    "text", ["if x * 2 == 6 then 7 else 1", "if abs ( x - 3 ) < 1 then 7 else 1", "if 3 == x then 7 else 1"]
)
def test_a_disguised_table_is_still_one(text):
    index = DOMAINS[1].index((3, 0))
    assert judge(text, 1).singles_out([index])
    assert not judge("if x > 0 then 7 else 1", 1).singles_out([index])
    assert ARGUMENTS[1] == ("x",)
