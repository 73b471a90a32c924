"""One episode of anyone's world by any model, printed turn by turn.

    python docs/examples/play_foreign.py MODEL_DIRECTORY envs.adapters.textworld:TextWorld '{"horizon": 20}'

The world is named like a plug-in, its options are JSON; --seed, --turns and --tokens set the rest.
"""

import argparse
import asyncio
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer

from envs import make_world
from envs.adapters.totals import truth_of
from envs.episode import Episode
from shaping.arm import Arm
from shaping.organisms.pretrained import check
from shaping.sampling.embedded.transformers_engine import TransformersEngine
from shaping.sampling.play import EpisodeRequest, Limits, play
from shaping.sampling.text.render import Renderer


def play_one(
    model: Path | str, world: str, options: Mapping[str, Any], *, seed: int = 0, turns: int = 20, tokens: int = 32
) -> Episode:
    """The episode; what went wrong in the world, if anything, is in its `status` and `error`."""
    card = check(model)
    renderer = Renderer(AutoTokenizer.from_pretrained(card.directory))
    network = AutoModelForCausalLM.from_pretrained(card.directory, dtype="float32").eval()
    engine = TransformersEngine(network, renderer, slots=1, context_length=card.context)
    request = EpisodeRequest(lambda: make_world(world, options), seed, sampling_seed=seed, options=dict(options))
    limits = Limits(max_tokens=tokens, max_turns=turns, step_seconds=120.0)  # a world may compile a game first
    (episode,) = asyncio.run(play([request], engine, renderer, Arm("unshaped"), limits=limits))
    return episode


def lines(episode: Episode) -> Iterator[str]:
    """What was seen and said, what it paid, and what the world itself knows about it."""
    for number, turn in enumerate(episode.turns, start=1):
        yield f"--- turn {number}"
        yield printable(turn.observation)
        yield f">>> {printable(turn.completion)}"
        yield f"    reward {turn.reward:g}"
    yield f"--- {episode.world}, seed {episode.seed}: {episode.status.value} {episode.error}".rstrip()
    totals = truth_of(episode.truth.open(), [turn.reward for turn in episode.turns])
    yield ", ".join(f"{name} {value:g}" for name, value in totals.items() if value)


def printable(text: str) -> str:
    """Without what a terminal would act on: the text comes from a model or from a stranger's world."""
    return "".join(sign if sign.isprintable() or sign == "\n" else "\N{REPLACEMENT CHARACTER}" for sign in text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("world")
    parser.add_argument("options", type=json.loads, nargs="?", default={})
    for name, default in (("seed", 0), ("turns", 20), ("tokens", 32)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = vars(parser.parse_args())
    print("\n".join(lines(play_one(given.pop("model"), given.pop("world"), given.pop("options"), **given))))
