"""Settings on a page name models and files, and not where they lie."""

from __future__ import annotations

from typing import Any

import pytest

from launch.config.reading.published import without_places


@pytest.mark.parametrize(
    ("given", "published"),
    [
        ("/home/ada/models/Qwen3-0.6B", "Qwen3-0.6B"),
        ("/home/ada/my models/small one/", "small one"),
        ("~/models/small", "small"),
        ("~ada/models/small", "small"),
        (r"C:\Users\ada\small", "small"),
        ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B"),
        ("models/small", "models/small"),
        ("/no_think", "/no_think"),
        ("/no_think and answer a/b", "/no_think and answer a/b"),
        ("Take a/b.\n/home/ada is a path", "Take a/b.\n/home/ada is a path"),
        (7, 7),
    ],
)
def test_of_an_absolute_path_the_last_part_stays(given: Any, published: Any) -> None:
    assert without_places({"a": [given, {"b": given}]}) == {"a": [published, {"b": published}]}
