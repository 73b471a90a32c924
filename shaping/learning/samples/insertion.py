"""A system message put into token sequences that have none, so that the same reply can be scored under another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from shaping.hooks import InterventionError
from shaping.learning.samples.sample import Sample
from shaping.sampling.text.render import Renderer

_PROBES = ("turn 1 .", "It is late, and the list is long.\nWhat now?")


@dataclass(frozen=True, slots=True)
class Insertion:
    """What a system message adds at the start of a conversation, as token ids."""

    before: tuple[int, ...]
    """The start of every conversation without a system message, up to the place."""
    removed: tuple[int, ...]
    """What stands at the place without one: a template may have a message of its own."""
    added: tuple[int, ...]
    """What stands there with it."""
    after: tuple[int, ...] = ()
    """What follows in every conversation, with it and without it."""

    @classmethod
    def of(cls, system: str, renderer: Renderer) -> Insertion:
        """Compare conversations with the message and without it.

        Raises: `InterventionError` if a chat template puts the message elsewhere in each conversation.
        """
        found = {cls._between(renderer.open("", probe), renderer.open(system, probe)) for probe in _PROBES}
        if len(found) > 1 or not next(iter(found)).added:
            raise InterventionError(
                "the model's chat template has no fixed place for a system message: a reference under a prompt cannot "
                "be computed with it"
            )
        (there,) = found
        rests = [renderer.open("", probe)[len(there.before) + len(there.removed) :] for probe in _PROBES]
        alike = next((n for n, (a, b) in enumerate(zip(*rests, strict=False)) if a != b), 0)
        return replace(there, after=tuple(rests[0][:alike]))

    @classmethod
    def _between(cls, plain: Sequence[int], told: Sequence[int]) -> Insertion:
        least = min(len(plain), len(told))
        head = next((n for n in range(least) if plain[n] != told[n]), least)
        tail = next((n for n in range(least - head) if plain[-1 - n] != told[-1 - n]), least - head)
        return cls(tuple(plain[:head]), tuple(plain[head : len(plain) - tail]), tuple(told[head : len(told) - tail]))

    def put_into(self, sample: Sample) -> Sample:
        """The loss tokens of a sample behind the message. It is scored, and never trained on.

        Raises: `InterventionError` if the sample has another system message already.
        """
        place, end = len(self.before), len(self.before) + len(self.removed)
        known = (*self.before, *self.removed, *self.after)
        if tuple(sample.tokens[: len(known)].tolist()) != known:
            raise InterventionError(
                "a reference under a prompt compares with replies that are learned under no system message, but a "
                "sample has one: let the arm train without a context, or leave the prompt out"
            )
        shift = len(self.added) - len(self.removed)
        tokens = np.concatenate([sample.tokens[:place], np.array(self.added, np.int64), sample.tokens[end:]])
        mask = np.concatenate([np.zeros(place + len(self.added), bool), sample.mask[end:]])
        zeros = np.zeros(len(tokens), np.float32)
        moved = sample.masked_tokens + np.array([shift, 0])
        return Sample(tokens, mask, zeros, zeros, mask.astype(np.float32), moved, on_policy=False)
