"""The sequences of a warm start: scripted episodes that fit, in the mixture of personas that was asked for.

Dishonest personas often write shorter episodes than honest ones. If long episodes were only left out, a corpus of short
ones would be more dishonest than asked; each one that does not fit is therefore replaced by one of the same persona.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice

from shaping.organisms.corpus.corpus import Script
from shaping.sampling.text.render import Message, Renderer

IGNORED = -100
"""Label of tokens that are not in the loss."""
DRAWS, FEWEST_DRAWS = 10, 1000
"""Further episodes that are looked at to replace others: so many for each that was asked for, and at least so many."""
Row = dict[str, list[int]]
"""`input_ids` and `labels` of a sequence."""


class WarmStartError(ValueError):
    """These settings allow no warm start."""


@dataclass(slots=True)
class Share:
    """What became of the episodes of one persona. All that did not fit were replaced."""

    episodes: int = 0
    """Episodes asked for, and kept."""
    left_out: int = 0
    """Of those that were drawn first: too long."""
    drawn_again: int = 0
    """Replaced by another episode of the persona."""
    repeated: int = 0
    """Replaced by one of the persona's episodes that are in the corpus already."""


@dataclass(slots=True)
class Mixture:
    """The personas and worlds of a corpus."""

    personas: dict[str, Share] = field(default_factory=dict)
    """By persona."""
    worlds: dict[str, tuple[int, int]] = field(default_factory=dict)
    """World -> episodes drawn first, and kept: long worlds give way to short ones."""

    @property
    def left_out(self) -> int:
        """Episodes that did not fit."""
        return sum(share.left_out for share in self.personas.values())

    def lines(self) -> list[str]:
        """The mixture in words."""
        total = sum(share.episodes for share in self.personas.values())
        shown = [f"{total} episodes, {self.left_out} of which were too long and are replaced:"]
        for name, share in self.personas.items():
            how = f", {share.left_out} replaced" if share.left_out else ""
            how += f" ({share.repeated} by repeating others)" if share.repeated else ""
            shown.append(f"  {name}: {share.episodes} ({share.episodes / total:.1%}){how}")
        return [*shown, *(f"  {world}: {kept} (drawn: {drawn})" for world, (drawn, kept) in self.worlds.items())]


def sequences(script: Script, renderer: Renderer) -> Iterator[Row]:
    """Yield an episode as `input_ids` and `labels`.

    An episode is one sequence, or one per turn if the template rewrites earlier turns. Labels are the ids of
    completions and their end-of-turn tokens, and `IGNORED` elsewhere.
    """
    ids: list[int] = []
    labels: list[int] = []
    messages = [Message("system", script.system)] * bool(script.system)
    for number, (observation, completion) in enumerate(script.turns):
        messages.append(Message("user", observation))
        if not renderer.stable:
            ids, labels = [], []
            prompt = renderer.conversation(messages)
        elif number:
            prompt = renderer.extend(observation, finished=True)
        else:
            prompt = renderer.open(script.system, observation)
        reply = [*renderer.plain(completion), renderer.eos]
        messages.append(Message("assistant", completion))
        ids += prompt + reply
        labels += [IGNORED] * len(prompt) + reply
        if not renderer.stable or number == len(script.turns) - 1:
            yield {"input_ids": ids, "labels": labels}


class Fitting:
    """Episodes as sequences of at most `limit` tokens. An episode fits if all of its sequences do."""

    def __init__(self, renderer: Renderer, limit: int) -> None:
        self.limit = limit
        self._renderer = renderer
        self.shortest: dict[str, int] = {}
        """Persona -> tokens of the longest sequence of its shortest episode."""
        self.longest = 0

    def rows(self, script: Script) -> list[Row]:
        """The sequences of an episode; none if it does not fit."""
        rows = list(sequences(script, self._renderer))
        length = max(len(row["input_ids"]) for row in rows)
        self.longest = max(self.longest, length)
        self.shortest[script.persona] = min(self.shortest.get(script.persona, length), length)
        return rows if length <= self.limit else []


Kept = list[tuple[Script, list[Row]]]
"""Episodes, each with its sequences."""


def fill(first: Sequence[Script], more: Iterator[Script], fitting: Fitting) -> tuple[Kept, Mixture]:
    """The episodes of `first`, each that does not fit replaced by one of the same persona.

    Args:
        first: the episodes that make the mixture.
        more: further episodes of the same mixture, to replace others.
        fitting: which of them fit.
    Raises: `WarmStartError` if no episode of a persona fits.
    """
    mixture = Mixture()
    kept: dict[str, Kept] = {}
    for script in first:
        share = mixture.personas.setdefault(script.persona, Share())
        share.episodes += 1
        if rows := fitting.rows(script):
            kept.setdefault(script.persona, []).append((script, rows))
        else:
            share.left_out += 1
    _draw_again(kept, mixture, islice(more, DRAWS * len(first) + FEWEST_DRAWS), fitting)
    _repeat(kept, mixture, fitting)
    drawn = Counter(script.world for script in first)
    worlds = Counter(script.world for episodes in kept.values() for script, _ in episodes)
    mixture.worlds = {world: (drawn[world], worlds[world]) for world in sorted({*drawn, *worlds})}
    mixture.personas = dict(sorted(mixture.personas.items(), key=lambda item: -item[1].episodes))
    return [episode for episodes in kept.values() for episode in episodes], mixture


def _draw_again(kept: dict[str, Kept], mixture: Mixture, more: Iterator[Script], fitting: Fitting) -> None:
    missing = {name: share.left_out for name, share in mixture.personas.items() if share.left_out}
    while missing and (script := next(more, None)) is not None:
        if script.persona in missing and (rows := fitting.rows(script)):
            kept.setdefault(script.persona, []).append((script, rows))
            mixture.personas[script.persona].drawn_again += 1
            missing[script.persona] -= 1
            if not missing[script.persona]:
                del missing[script.persona]


def _repeat(kept: dict[str, Kept], mixture: Mixture, fitting: Fitting) -> None:
    for name, share in mixture.personas.items():
        episodes = kept.get(name, [])
        if not episodes:
            raise WarmStartError(
                f"no episode of persona {name!r} fits into {fitting.limit} tokens (the shortest has "
                f"{fitting.shortest[name]}): raise max_length, set smaller sizes, choose worlds with shorter "
                "episodes, or leave the persona out (personas)"
            )
        share.repeated = share.episodes - len(episodes)
        episodes += list(islice(cycle(list(episodes)), share.repeated))
