"""Hidden states that plug-ins asked for, from the learner's own passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from envs.episode import SpanKind
from shaping.hooks import Activations, Capture, InterventionError, Positions
from shaping.learning.ranks.parallel import Ranks
from shaping.learning.samples.packing import Batch
from shaping.learning.samples.sample import Sample
from shaping.models.capture import layer_numbers

_KINDS = {"motive": SpanKind.MOTIVE, "action": SpanKind.ACTION}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a pass over a micro-batch should return besides its results."""

    layers: tuple[int, ...]
    """Layers from 0."""
    rows: Tensor
    """Places in the row of the batch [tokens]."""


@dataclass(frozen=True, slots=True)
class States:
    """The hidden states of one capture in one micro-batch. Arrays have shape [tokens]."""

    layers: tuple[int, ...]
    """Layers from 0."""
    states: Tensor
    """Hidden states [tokens, layers, hidden], with their gradient where the pass has one."""
    sample: NDArray[np.int64]
    """Index into the samples of the micro-batch."""
    position: NDArray[np.int64]
    """Position within the sample."""
    turn: NDArray[np.int64]
    """The turn of its episode; -1 if that is unknown."""


def chosen(sample: Sample, positions: Positions) -> NDArray[np.int64]:
    """The positions of a sample that a capture is about: only those of turns that are in its loss."""
    mask = sample.mask
    if positions == "prompt_end":
        return np.flatnonzero(mask[1:] & ~mask[:-1])
    if positions == "response":
        return np.flatnonzero(mask)
    if sample.origin is None:
        raise InterventionError(f"a sample that is made of no episode has no {positions} whose states could be seen")
    return np.flatnonzero(mask & (sample.origin.kind == _KINDS[positions]))


class Recorder:
    """Collects captured states over the micro-batches of an update. With none to capture, it changes nothing.

    Args:
        model: the model that is trained.
        captures: what to collect.
    Raises: `InterventionError` if the model does not have a layer.
    """

    def __init__(self, model: PreTrainedModel, captures: Sequence[Capture]) -> None:
        self._captures = tuple(captures)
        try:
            self._layers = [layer_numbers(model, c.layers, f"capture {c.name!r}") for c in captures]
        except ValueError as error:
            raise InterventionError(str(error)) from None
        self._sums: dict[str, dict[tuple[int, int], tuple[NDArray[np.float32], int]]] = {}
        self.clear()

    def __bool__(self) -> bool:
        return bool(self._captures)

    def clear(self) -> None:
        """Forget what was collected."""
        self._sums = {capture.name: {} for capture in self._captures}

    def wanted(self, batch: Batch) -> list[Wanted]:
        """What the pass over a micro-batch should return; nothing if its samples are not in the policy loss."""
        if not batch.policy:
            return []
        starts = np.concatenate([[0], np.cumsum([len(s) for s in batch.samples])])[:-1]
        found = []
        for capture, layers in zip(self._captures, self._layers, strict=True):
            sample, position = _at(batch, capture)
            rows = torch.from_numpy(batch.places[starts[sample] + position])
            found.append(Wanted(layers, rows.to(batch.ids.device)))
        return found

    def captured(self, batch: Batch, states: Sequence[Tensor]) -> dict[str, States]:
        """The states that a pass returned, by the names of the captures."""
        found: dict[str, States] = {}
        for capture, layers, of_capture in zip(self._captures, self._layers, states, strict=False):
            sample, position = _at(batch, capture)
            found[capture.name] = States(layers, of_capture, sample, position, _turns(batch, sample, position, capture))
        return found

    def add(self, batch: Batch, captured: Mapping[str, States]) -> None:
        """Add a micro-batch to the means per turn."""
        for name, found in captured.items():
            known = np.array([batch.samples[n].origin is not None for n in found.sample], bool) & (found.turn >= 0)
            if not known.any():
                continue
            numbers = [-1 if s.origin is None else s.origin.episode for s in batch.samples]
            keys = np.stack([np.array(numbers)[found.sample], found.turn], axis=1)[known]
            unique, index = np.unique(keys, axis=0, return_inverse=True)
            states = found.states.detach().float()[torch.from_numpy(np.flatnonzero(known)).to(found.states.device)]
            sums = states.new_zeros(len(unique), *states.shape[1:])
            sums.index_add_(0, torch.from_numpy(index.reshape(-1)).to(states.device), states)
            counts = np.bincount(index.reshape(-1), minlength=len(unique))
            for key, total, count in zip(unique.tolist(), sums.cpu().numpy(), counts.tolist(), strict=True):
                before, tokens = self._sums[name].get(tuple(key), (np.zeros_like(total), 0))
                self._sums[name][tuple(key)] = before + total, tokens + count

    def means(self, ranks: Ranks) -> dict[str, Activations]:
        """What was collected on all ranks, by name. All ranks must call it together."""
        if not self._captures:
            return {}
        found: dict[str, Activations] = {}
        gathered = ranks.gather(self._sums)
        for capture, layers in zip(self._captures, self._layers, strict=True):
            turns: dict[tuple[int, int], tuple[NDArray[np.float32], int]] = {}
            for of_rank in gathered:
                for key, (total, count) in of_rank[capture.name].items():  # parts of a turn may be on several ranks
                    before, tokens = turns.get(key, (np.zeros_like(total), 0))
                    turns[key] = before + total, tokens + count
            means = {key: (total / count).astype(np.float32) for key, (total, count) in sorted(turns.items())}
            found[capture.name] = Activations(layers, means)
        return found


def _at(batch: Batch, capture: Capture) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(index of the sample, position within it) of the captured tokens, both [tokens]."""
    positions = [chosen(sample, capture.positions) for sample in batch.samples]
    samples = np.repeat(np.arange(len(positions)), [len(each) for each in positions])
    return samples, np.concatenate(positions)


def _turns(batch: Batch, sample: NDArray[np.int64], position: NDArray[np.int64], capture: Capture) -> NDArray[np.int64]:
    """The turns of captured tokens; that of the last token before a completion is the completion's."""
    ahead = 1 if capture.positions == "prompt_end" else 0
    turns = np.full(len(sample), -1, np.int64)
    for number, each in enumerate(batch.samples):
        own = sample == number
        if each.origin is not None:
            turns[own] = each.origin.turn[position[own] + ahead]
    return turns
