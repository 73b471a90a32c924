"""Which options a world has is read off its class: nothing is guessed, and nothing else reaches it."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from envs import WORLDS
from envs.core import TextEnv
from envs.options import declared_options


class Named(TextEnv):
    def __init__(self, size: int = 1, *, watch: str = "drawn") -> None:
        super().__init__()


class Passing(Named):
    def __init__(self, extra: int = 0, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]


class Takes(TextEnv):
    def __init__(self, **options: object) -> None:
        super().__init__()


class Modelled(Takes):
    class Options(BaseModel):
        placebo: str = "none"


@pytest.mark.parametrize(
    ("world", "names", "is_open"),
    [
        (TextEnv, (), False),
        (Named, ("size", "watch"), False),
        (type("Inherits", (Named,), {}), ("size", "watch"), False),
        (Passing, ("extra", "size", "watch"), False),
        (Takes, (), True),
        (Modelled, ("placebo",), False),
        (WORLDS["clerk"], tuple(WORLDS["clerk"].Options.model_fields), False),
    ],
)
def test_the_options_of_a_world(world: type[TextEnv], names: tuple[str, ...], is_open: bool) -> None:
    assert declared_options(world) == (names, is_open)


def test_only_declared_options_reach_a_world() -> None:
    declared = declared_options(Named)
    assert declared.of({"watch": "always", "placebo": "on"}) == {"watch": "always"}
    assert declared.unknown({"watch": "always", "placebo": "on"}) == ["placebo"]
    assert declared_options(Takes).unknown({"anything": 1}) == []
