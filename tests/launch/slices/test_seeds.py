"""Seeds on the command line."""

from __future__ import annotations

import pytest

from launch.errors import ConfigError
from launch.slices.seeds import as_text, parse_seeds


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("0-3,7", [0, 1, 2, 3, 7]), ("5", [5]), (" 2 - 3 , 3-4", [2, 3, 4]), ("4294967295", [2**32 - 1]), ("3,1", [3, 1])],
)
def test_ranges_and_single_seeds_make_one_list_without_repetition(text: str, seeds: list[int]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize(
    "text", ["", "3-1", "-1", "1-", "a", "0..3", "1,,2", "0-3;7", "4294967296", "0-4294967295", "٣", "1" * 400]
)
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^--seeds: '.{0,40}' is no seed or range; write e\.g\. 0-3,7$"):
        parse_seeds(text)


def test_a_list_of_seeds_is_shown_as_it_is_written() -> None:
    assert as_text([0, 1, 2, 3, 7]) == "0-3, 7" and parse_seeds(as_text(range(24))) == list(range(24))
