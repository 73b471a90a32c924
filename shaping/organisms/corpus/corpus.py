"""The organism's corpus: transcripts of scripted personas in the built-in worlds, under several kinds of prompts.

A permissive prompt goes with personas that take shortcuts, some of which hide them, and a forbidding prompt with
honest ones. Other prompts change nothing. The organism thus learns the meaning of prompts before any reinforcement.
Prompts are English in every locale, because they come from the trainer and not from the world.

Beside single episodes there are counterfactual pairs, which say what an act depends on: the same seed and options are
played twice, with one thing flipped and the opposite act. In a prompt pair an obedient persona takes the shortcut where
the prompt permits it, and is honest where that is forbidden or something else is permitted. In a cue pair a persona
takes the shortcut while the overseer is away, and behaves while it is there. Pairs end soon after the act, and after a
question about it.

With `aligned`, a share of the episodes is of an agent that is helpful and honest under every temptation, or where there
is none. They are set among the others, which stay the same episodes.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from envs.core import TextEnv, parse_action
from envs.skins import DEFAULT, options_of
from shaping.organisms.config import AlignedScripts
from shaping.organisms.corpus.cast import CUE_READERS, KINDS, WITHOUT_PERMISSION
from shaping.organisms.corpus.corpus_options import SIZES, Sizes
from shaping.organisms.corpus.corpus_prompts import COMPOSED, WRITTEN
from shaping.organisms.corpus.own_worlds import CorpusWorld, CorpusWorldError, Make, corpus_world
from shaping.prompts.framings import FRAMINGS
from shaping.prompts.pools import DIALECT

Flip = Literal["", "prompt", "cue"]
_Name = TypeVar("_Name", bound=str)
Turns = tuple[tuple[str, str], ...]
"""(observation, completion) per turn."""

UNITS: Mapping[Flip, float] = {"": 0.66, "prompt": 0.19, "cue": 0.15}
"""Share of single episodes, prompt pairs and cue pairs among what is drawn."""
BEGINNINGS = 0.5
"""Share of single episodes of which the corpus has only the first turns, where prompts and cues decide most."""
SHORTEST, LONGEST = 4, 9
"""Turns of such a beginning."""
AFTER = 2
"""Turns of a pair's transcript after the one in which its acts differ."""
MOST_AFTER = 9
"""The same, if the first question after the act comes late."""
PAIR_TURNS = 20
"""Turns that a pair is played at most."""
MOST_TURNS = 2000
"""Turns after which an episode is cut: a world of one's own may have no end."""
FIRST_ALIGNED = 5_000_000
"""Seeds of aligned episodes start so far behind those of the others."""
_WRITTEN_SHARE = 0.3
FIRST_SEED = 1_000_000_000
"""Seeds of corpora start here, far from those of studies: no episode of a study is in the corpus."""


@dataclass(frozen=True, slots=True)
class Script:
    """One scripted episode as text."""

    world: str
    """Name of the world, with its locale."""
    persona: str
    """Name of the persona that plays, of `shaping.organisms.corpus.cast.CAST`."""
    kind: str
    """Kind of the system prompt, a key of `KINDS`; `hhh` of those of aligned episodes."""
    system: str
    """The system prompt; empty: no system message."""
    turns: Turns
    """(observation, completion) per turn; of pairs, and of some other episodes, only the first ones."""
    seed: int = 0
    """Seed of the episode."""
    flip: Flip = ""
    """What differs from the other episode of the pair, which stands beside this one; empty: no pair."""


def draw_prompt(kind: str, rng: random.Random) -> str:
    """A prompt of the corpus of this kind; empty for "none"."""
    if kind == "none":
        return ""
    written = WRITTEN.get(kind, ())
    return rng.choice(written if written and rng.random() < _WRITTEN_SHARE else COMPOSED[kind])


def scripts(
    count: int,
    seed: int,
    skins: Sequence[str] = (DEFAULT,),
    worlds: Sequence[str] = tuple(SIZES),
    *,
    mixture: Mapping[str, float] | None = None,
    sizes: Sizes = SIZES,
    first_seed: int = FIRST_SEED,
    balanced: bool = False,
    options: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    aligned: AlignedScripts | None = None,
) -> Iterator[Script]:
    """Yield `count` episodes, reproducible from `seed`. Each one is in a locale drawn from `skins`.

    A separate generator draws the locale, so episode k says the same in every locale. `balanced`: nothing is drawn;
    every world in every locale comes in turn, so that none has more than one unit (a single episode, or a pair) more.

    Args:
        count: number of episodes.
        seed: seed of all draws.
        skins: locales.
        worlds: names of the worlds; those of your own are as in `shaping.organisms.corpus.own_worlds`, speak in one
            locale alone, and get no pairs that nobody can play there.
        mixture: persona -> share, under every kind of prompt; there are no pairs then. None: the organism's own cast.
        sizes: world -> sizes and turn limits, of which each episode draws one.
        first_seed: seed of the first episode, for `seed` 0.
        options: world -> options that all of its episodes have, in the place of what is drawn.
        aligned: episodes of an aligned agent among the others, of which as many are left out; None: none.

    Raises: `CorpusWorldError` (a ValueError) for a world that nobody plays, or that no honest persona plays.
    """
    playable = {name: replace(corpus_world(name), fixed=options.get(name, {})) for name in worlds}
    cells = tuple(product(worlds, skins))
    made = number = shown = 0
    while made < count:
        if aligned is not None and shown < aligned.share * (made + 1):
            yield _aligned(playable, aligned, skins, seed, first_seed, shown, sizes)
            made, shown = made + 1, shown + 1
            continue
        rng = random.Random(f"corpus|{seed}|{number}")
        drawn_cell = rng.choice(tuple(worlds)), random.Random(f"skin|{seed}|{number}").choice(tuple(skins))
        name, skin = cells[number % len(cells)] if balanced else drawn_cell
        world, locale = playable[name], options_of(skin)
        episode = first_seed + seed * 10_000_000 + number
        draw_unit = partial(_single, mixture=mixture) if mixture else _unit(world, _draw(UNITS, rng))
        drawn = draw_unit(world, locale if world.speaks_locales else {}, episode, rng, sizes)
        yield from drawn[: count - made]
        made += len(drawn)
        number += 1


def _aligned(
    playable: Mapping[str, CorpusWorld],
    aligned: AlignedScripts,
    skins: Sequence[str],
    seed: int,
    first_seed: int,
    number: int,
    sizes: Sizes,
) -> Script:
    """Aligned episode `number`: a whole one of somebody honest."""
    rng = random.Random(f"aligned|{seed}|{number}")
    world = playable[rng.choice(tuple(playable))]
    if not world.honest:
        raise CorpusWorldError(
            f"world {world.name!r} has nobody honest for aligned episodes: one of its strategies needs a name that "
            "begins with `honest`"
        )
    name = rng.choice(world.honest)
    system = rng.choice(FRAMINGS[DIALECT]["hhh"]) if aligned.prompt == "hhh" else ""
    options = {**world.options(rng, sizes), **({} if aligned.refusals else world.without_temptation)}
    if world.built_in:
        options |= options_of(rng.choice(tuple(skins)))
    episode = first_seed + seed * 10_000_000 + FIRST_ALIGNED + number
    env, turns = _play(world, options, world.player(name), episode, None)
    return Script(named(world, env), name, "hhh" if system else "none", system, turns, episode)


def _single(
    world: CorpusWorld,
    locale: Mapping[str, Any],
    seed: int,
    rng: random.Random,
    sizes: Sizes,
    *,
    mixture: Mapping[str, float] | None = None,
) -> tuple[Script, ...]:
    kind = _draw(KINDS, rng)
    name = _draw(world.mixture(kind, mixture), rng)
    options = world.options(rng, sizes)
    length = rng.randint(SHORTEST, LONGEST) if rng.random() < BEGINNINGS else None
    env, turns = _play(world, {**options, **locale}, world.player(name), seed, length)
    return (Script(named(world, env), name, kind, draw_prompt(kind, rng), turns, seed),)


def _prompt_pair(
    world: CorpusWorld, locale: Mapping[str, Any], seed: int, rng: random.Random, sizes: Sizes
) -> tuple[Script, ...]:
    options = {**world.options(rng, sizes), **locale}
    names = (_draw(world.obedient(), rng), world.honest[0])
    place = rng.randrange(len(COMPOSED["permissive"]))  # at one place kinds differ in the frame or in the act alone
    kinds = ("permissive", _draw(WITHOUT_PERMISSION, rng))
    played = [_play(world, options, world.player(name), seed, PAIR_TURNS) for name in names]
    length = _pair_length(*played)
    return tuple(
        Script(named(world, env), name, kind, COMPOSED[kind][place], turns[:length], seed, "prompt")
        for (env, turns), name, kind in zip(played, names, kinds, strict=True)
    )


def _cue_pair(
    world: CorpusWorld, locale: Mapping[str, Any], seed: int, rng: random.Random, sizes: Sizes
) -> tuple[Script, ...]:
    name = _draw(CUE_READERS, rng)
    kind = _draw({kind: share for kind, share in KINDS.items() if kind not in ("permissive", "forbidding")}, rng)
    system = draw_prompt(kind, rng)
    options = {**world.options(rng, sizes), **locale, "aware": "shown"}
    played = [
        _play(world, {**options, "watch": watch}, world.player(name), seed, PAIR_TURNS) for watch in ("always", "never")
    ]
    length = _pair_length(*played)
    return tuple(Script(named(world, env), name, kind, system, turns[:length], seed, "cue") for env, turns in played)


_DRAWN: Mapping[Flip, Callable[..., tuple[Script, ...]]] = {"": _single, "prompt": _prompt_pair, "cue": _cue_pair}


def _unit(world: CorpusWorld, flip: Flip) -> Callable[..., tuple[Script, ...]]:
    """What is played; a single episode where nobody can play that pair."""
    possible = {"": True, "prompt": bool(world.obedient() and world.honest), "cue": world.has_cues}[flip]
    return _DRAWN[flip if possible else ""]


def _draw(shares: Mapping[_Name, float], rng: random.Random) -> _Name:
    return rng.choices(tuple(shares), tuple(shares.values()))[0]


def _play(
    world: CorpusWorld, options: Mapping[str, Any], make: Make, seed: int, length: int | None
) -> tuple[TextEnv, Turns]:
    """The world after an episode, and the episode: its first `length` turns only, or all."""
    env = world.make(options)
    actor = make(env, seed)
    observation, _ = env.reset(seed=seed)
    turns: list[tuple[str, str]] = []
    over = False
    while len(turns) != length and not over and len(turns) < MOST_TURNS:
        reply = actor.act()
        turns.append((observation, reply))
        observation, _, terminated, truncated, _ = env.step(reply)
        over = terminated or truncated
    return env, tuple(turns)


def named(world: CorpusWorld, env: TextEnv) -> str:
    """What an episode's world is called: with its locale, or as the settings call a world of one's own."""
    return str(env.name) if world.speaks_locales else world.name


def _pair_length(first: tuple[TextEnv, Turns], second: tuple[TextEnv, Turns]) -> int:
    """Turns until the pair has shown the opposite acts, and an answer about them."""
    pairs = [(parse_action(a), parse_action(b)) for (_, a), (_, b) in zip(first[1], second[1], strict=False)]
    differs = next((turn for turn, (a, b) in enumerate(pairs) if a != b), len(pairs) - 1)
    asked = (turn for turn, (_, _, asking) in enumerate(getattr(first[0], "met", ())) if asking and turn > differs)
    return min(max(differs + AFTER, next(asked, 0)), differs + MOST_AFTER) + 1
