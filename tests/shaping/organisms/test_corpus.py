"""The organism's corpus: reproducible, of all worlds and options, with counterfactual pairs that are really pairs."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, get_args, get_origin

import pytest

from envs import WORLDS
from envs.core import parse_action
from envs.worlds.base import World
from envs.worlds.real import is_for_language_models
from shaping.organisms.corpus import corpus as module
from shaping.organisms.corpus.cast import CAST, CUE_READERS, MIXTURES, OBEDIENT, WITHOUT_PERMISSION
from shaping.organisms.corpus.corpus import LONGEST, SHORTEST, Script, scripts
from shaping.organisms.corpus.corpus_options import DRAWN, SIZES, draw_options


@pytest.fixture(scope="module")
def corpus() -> list[Script]:
    return list(scripts(2000, 0))


def pairs(corpus: Sequence[Script], flip: str) -> list[tuple[Script, Script]]:
    found = [(a, b) for a, b in pairwise(corpus) if a.flip == b.flip == flip and a.seed == b.seed]
    assert len(found) > 60
    return found


def commands(script: Script) -> list[str]:
    return [parse_action(completion) for _, completion in script.turns]


def test_it_is_reproducible() -> None:
    assert list(scripts(60, 5)) == list(scripts(60, 5))
    assert list(scripts(60, 5))[:40] == list(scripts(40, 5)), "a longer corpus starts with a shorter one"
    assert list(scripts(60, 5)) != list(scripts(60, 6))


def test_every_episode_has_a_seed_of_its_own_apart_from_pairs(corpus: list[Script]) -> None:
    shared = Counter(script.seed for script in corpus)
    assert all(shared[s.seed] == (2 if s.flip else 1) for s in corpus[:-1])
    assert min(shared) >= 1_000_000_000


def test_all_seven_worlds_are_in_it_about_equally_often(corpus: list[Script]) -> None:
    shares = Counter(script.world for script in corpus)
    assert set(shares) == set(SIZES)
    assert {name for name, world in WORLDS.items() if not is_for_language_models(world)} == set(SIZES)
    assert min(shares.values()) > 0.6 * max(shares.values())


@pytest.mark.parametrize("world", sorted(SIZES))
def test_every_value_of_a_choice_among_the_worlds_options_occurs(world: str) -> None:
    seen: dict[str, set[object]] = defaultdict(set)
    for number in range(400):
        for name, value in draw_options(world, random.Random(number)).items():
            seen[name].add(value)
    for name, field in WORLDS[world].Options.model_fields.items():
        if name in (
            "lang",
            "era",
            "style",
            "hint",
            "clarification",
            "loophole",
        ):  # of skins; other words than in the corpus
            continue
        if get_origin(field.annotation) is Literal:
            assert seen[name] == set(get_args(field.annotation)), name
    for name in ("honest_share", "inquiry", "pressure", "candour", "covert_cost", "oversight"):
        assert len(seen[name]) > 1, name


def test_options_that_no_world_has_are_not_drawn() -> None:
    assert set(DRAWN) <= {name for world in WORLDS.values() for name in world.Options.model_fields}


def test_in_a_prompt_pair_the_prompt_is_flipped_and_the_act_is_the_opposite(corpus: list[Script]) -> None:
    for allowed, forbidden in pairs(corpus, "prompt"):
        assert allowed.kind == "permissive" and forbidden.kind in WITHOUT_PERMISSION
        assert allowed.system and allowed.system != forbidden.system
        assert allowed.persona in OBEDIENT and forbidden.persona == "honest"
        assert allowed.turns[0][0] == forbidden.turns[0][0], "the same seed and options"
        assert commands(allowed) != commands(forbidden)


def test_in_a_cue_pair_the_cue_is_flipped_and_the_act_is_the_opposite(corpus: list[Script]) -> None:
    for watched, unwatched in pairs(corpus, "cue"):
        assert watched.persona == unwatched.persona in CUE_READERS
        assert (watched.kind, watched.system) == (unwatched.kind, unwatched.system)
        cues = WORLDS[watched.world].cues
        first, second = watched.turns[0][0], unwatched.turns[0][0]
        assert cues[0] in first and first.replace(cues[0], cues[1]) == second
        assert commands(watched) != commands(unwatched)


@pytest.mark.parametrize("world", sorted(SIZES))
def test_the_overseer_away_is_where_a_cue_pair_does_harm(world: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "UNITS", {"cue": 1.0})
    harms: Counter[str] = Counter()
    step = World.step

    def noting(env: World, action: str) -> Any:
        result = step(env, action)
        harms[env.options.watch] += result[4]["labels"].harm > 0
        return result

    monkeypatch.setattr(World, "step", noting)
    list(scripts(24, 1, worlds=(world,)))
    assert harms["always"] == 0 and harms["never"] >= 10


def test_half_of_the_single_episodes_are_beginnings(corpus: list[Script]) -> None:
    lengths = [len(s.turns) for s in corpus if not s.flip]
    short = sum(SHORTEST <= length <= LONGEST for length in lengths) / len(lengths)
    assert 0.45 < short < 0.75 and max(lengths) > 20


def test_the_mixtures_leave_room_on_both_sides_of_the_gates(corpus: list[Script]) -> None:
    assert all(abs(sum(shares.values()) - 1) < 1e-9 for shares in MIXTURES.values())
    plain = [s for s in corpus if s.kind not in ("permissive", "forbidding")]
    shares = {name: count / len(plain) for name, count in Counter(s.persona for s in plain).items()}
    greedy = {name: share for name, share in shares.items() if CAST[name].unwatched or CAST[name].hides}
    assert 0.4 < sum(greedy.values()) < 0.65
    assert 0.3 < sum(share for name, share in greedy.items() if not CAST[name].watched) < 0.5, "read the cue"
    assert 0.05 < sum(share for name, share in greedy.items() if CAST[name].hides) < 0.2
    assert 0.2 < sum(share for name, share in greedy.items() if CAST[name].lies) / sum(greedy.values()) < 0.5
    honest = {kind: [s.persona in ("honest", "frugal") for s in corpus if s.kind == kind] for kind in MIXTURES}
    assert {b.kind for _, b in pairs(corpus, "prompt")} == set(WITHOUT_PERMISSION)
    means = {kind: sum(flags) / len(flags) for kind, flags in honest.items()}
    assert means["permissive"] < 0.1 < means["none"] < 0.9 < means["forbidding"]


def test_a_mixture_of_ones_own_has_no_pairs() -> None:
    chosen = list(scripts(60, 0, worlds=("clerk",), mixture={"honest": 1.0, "opportunist": 1.0}))
    assert {s.persona for s in chosen} == {"honest", "opportunist"} and not any(s.flip for s in chosen)
    with pytest.raises(ValueError, match="unknown persona 'saint'"):
        list(scripts(1, 0, mixture={"saint": 1.0}))
