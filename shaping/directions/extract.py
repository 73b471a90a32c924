"""Directions from hidden states: the difference of two sides, and norm-matched random ones.

Chen et al. (arXiv:2507.21509): v_l = mean of h_l over the responses with the trait - the same without it. Lu et al.
(arXiv:2601.10387): the same difference between the default assistant and many other roles is the assistant's axis.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from shaping.directions.contrast import Contrast, Layers
from shaping.directions.direction_set import QUANTILES, DirectionError, DirectionSet
from shaping.directions.probes import Probes, probes_of
from shaping.directions.replay import passes
from shaping.hooks import Capture, Positions
from shaping.learning.captures import Recorder
from shaping.learning.policy import Policy
from shaping.models.capture import layer_numbers
from shaping.models.edits import decoder_layers
from shaping.sampling.text.render import Renderer

_POSITIONS: tuple[Positions, ...] = ("response", "prompt_end")
Vectors = NDArray[np.float32]


def extract(
    policy: Policy,
    contrast: Contrast,
    layers: Layers = "best",
    *,
    components: int = 0,
    probes: Probes | None = None,
    made_of: Mapping[str, Any] | None = None,
) -> DirectionSet:
    """Find the directions of a contrast in `policy` as it is, without activation edits. Equal calls give equal results.

    Args:
        policy: the model, with the adapters of the training phase.
        contrast: the two sides.
        layers: layers of which directions are kept. `best`: the one layer that tells the sides apart best: the
            direction of the even situations is measured on the odd ones, and the difference of the sides' means there,
            divided by their pooled deviation, is largest. The last layer of several is left out, since no layer reads
            what is done to it.
        components: 0: the difference of means. k: the first k principal components of the situations' differences,
            unlike those of a covariance not centred, so that the mean difference is in their span.
        probes: of this contrast; None: they are made, with the usual renderer of the policy's tokenizer.
        made_of: what the card says of the model.
    Raises: `DirectionError`.
    """
    probes = probes or probes_of(policy, contrast, Renderer(policy.tokenizer))
    try:
        wanted = layer_numbers(policy.model, "all" if layers == "best" else layers, "directions")
    except ValueError as error:
        raise DirectionError(str(error)) from None
    situations = _situations(policy, probes, wanted)
    separations = [_separation(each[:, n] for each in situations) for n in range(len(wanted))]
    if layers == "best":
        last = len(decoder_layers(policy.model)) - 1
        inner = [n for n, layer in enumerate(wanted) if layer != last] or [0]
        chosen = [max(inner, key=lambda n: separations[n])]
    else:
        chosen = list(range(len(wanted)))
    found = [_vectors(situations[0][:, n], situations[1][:, n], components) for n in chosen]
    numbers = [wanted[n] for n, each in zip(chosen, found, strict=True) for _ in each]
    card = {
        **(made_of or {}),
        "contrast": contrast.model_dump(mode="json"),
        "method": f"{components} components" if components else "difference of means",
        "separation": [round(separations[n], 4) for n in chosen],
        "situations": len(situations[0]),
    }
    return measured(policy, probes, tuple(numbers), np.concatenate(found), card)


def randomised(policy: Policy, found: DirectionSet, probes: Probes, seed: int) -> DirectionSet:
    """The control: random directions of the same layers and lengths, measured on the same texts."""
    rng = np.random.default_rng([seed, *found.layers, found.width])
    drawn = rng.standard_normal(found.vectors.shape)
    drawn *= np.linalg.norm(found.vectors, axis=1, keepdims=True) / np.linalg.norm(drawn, axis=1, keepdims=True)
    return measured(policy, probes, found.layers, drawn.astype(np.float32), {**found.card, "random": seed})


def measured(
    policy: Policy, probes: Probes, layers: tuple[int, ...], vectors: Vectors, card: Mapping[str, Any]
) -> DirectionSet:
    """Directions with the norms of their layers, and the projections of both sides."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (norms > 0).all():
        raise DirectionError("a direction is zero: both sides of its contrast look the same to the model")
    units = torch.from_numpy((vectors / norms).astype(np.float32))
    tokens: dict[bool, list[NDArray[np.float32]]] = {True: [], False: []}
    lengths, ends = [], {True: list[NDArray[np.float32]](), False: list[NDArray[np.float32]]()}
    for positions, side, _, states in _states(policy, probes, layers):
        along = torch.einsum("tnh,nh->tn", states, units).numpy()
        if positions == "response":
            tokens[side].append(along)
            lengths.append(states.norm(dim=-1).numpy())
        else:
            ends[side].append(along)
    means = [[np.concatenate(of[side]).mean(axis=0) for side in (True, False)] for of in (tokens, ends)]
    shares = np.linspace(0, 1, QUANTILES)
    sides = [np.quantile(np.concatenate(tokens[side]), shares, axis=0).T.astype(np.float32) for side in (True, False)]
    return DirectionSet(
        layers=layers,
        vectors=vectors.astype(np.float32),
        residual_norms=np.concatenate(lengths).mean(axis=0).astype(np.float32),
        positive=sides[0],
        negative=sides[1],
        turns=np.array(means, np.float32).transpose(2, 0, 1),
        card=card,
    )


def _states(
    policy: Policy, probes: Probes, layers: Sequence[int]
) -> Iterator[tuple[Positions, bool, int, torch.Tensor]]:
    """Yield (positions, side, situation, states [tokens, layers, hidden]) of every sequence, on the CPU in float32.

    Ranks that share the policy all run all passes, so that sharded weights are gathered together.
    """
    recorder = Recorder(policy.model, [Capture(p, tuple(layers), p) for p in _POSITIONS])
    of = {id(sample): side for sample, side in zip(probes.samples, probes.positive, strict=True)}
    with policy.phase("training"):
        for batch, captured in passes(policy, probes.samples, recorder):
            for name, found in captured.items():
                on_cpu = found.states.float().cpu()
                for number, sample in enumerate(batch.samples):
                    own = np.flatnonzero(found.sample == number)
                    assert sample.origin is not None
                    yield name, of[id(sample)], sample.origin.episode, on_cpu[torch.from_numpy(own)]  # type: ignore[misc]


def _situations(policy: Policy, probes: Probes, layers: Sequence[int]) -> tuple[Vectors, Vectors]:
    """Mean states of the responses in every situation [situations, layers, hidden], of the two sides."""
    sums: dict[tuple[bool, int], list[Any]] = {}
    for positions, side, situation, states in _states(policy, probes, layers):
        if positions == "response" and len(states):
            total = sums.setdefault((side, situation), [0.0, 0])
            total[0], total[1] = total[0] + states.double().sum(dim=0), total[1] + len(states)
    both = sorted({n for side, n in sums if side} & {n for side, n in sums if not side})
    if len(both) < 2:
        raise DirectionError(f"both sides speak in {len(both)} situations; at least 2 are needed")
    positive, negative = (
        np.stack([(sums[side, n][0] / sums[side, n][1]).numpy() for n in both]) for side in (True, False)
    )
    return positive, negative


def _vectors(positive: Vectors, negative: Vectors, components: int) -> Vectors:
    """The directions of one layer [directions, hidden], from states [situations, hidden] of the two sides."""
    differences = positive - negative
    mean = differences.mean(axis=0)
    if not components:
        return mean[None].astype(np.float32)
    if components > min(differences.shape):
        raise DirectionError(
            f"{components} components of {differences.shape[0]} situations in {differences.shape[1]} dimensions: ask "
            "for fewer, or give the contrast more episodes"
        )
    _, sizes, rows = np.linalg.svd(differences, full_matrices=False)
    signs = np.where(rows[:components] @ mean < 0, -1.0, 1.0)
    scale = sizes[:components] / np.sqrt(len(differences))  # root mean square of the differences along each
    return (rows[:components] * (signs * scale)[:, None]).astype(np.float32)


def _separation(sides: Iterator[Vectors]) -> float:
    """How far the direction of the even situations tells the sides apart in the odd ones, in pooled deviations."""
    positive, negative = sides
    direction = (positive[::2] - negative[::2]).mean(axis=0)
    length = np.linalg.norm(direction)
    if not length > 0:
        return 0.0
    along = [side[1::2] @ (direction / length) for side in (positive, negative)]
    deviation = np.sqrt(0.5 * (along[0].var() + along[1].var()))
    return float((along[0].mean() - along[1].mean()) / max(deviation, 1e-6 * max(np.abs(along).max(), 1e-30)))


def same_layers(found: DirectionSet, policy: Policy) -> DirectionSet:
    """The set, checked against a model. Raises: `DirectionError` if it was made for another width or more layers."""
    width = policy.model.config.get_text_config().hidden_size
    if found.width != width:
        raise DirectionError(f"directions of width {found.width}, but the model's hidden states have {width}")
    count = len(decoder_layers(policy.model))
    if max(found.layers) >= count:
        raise DirectionError(f"a direction of layer {max(found.layers)}, but the model has layers 0 to {count - 1}")
    return replace(found)
