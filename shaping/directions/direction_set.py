"""Directions with what was measured along them, and the file that they are kept in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from envs.frozen import freeze, restore

QUANTILES = 101
"""Percentiles that are kept, 0 to 100."""
_ARRAYS = ("vectors", "residual_norms", "positive", "negative", "turns")


class DirectionError(ValueError):
    """A direction cannot be found, read or used."""


@dataclass(frozen=True, slots=True)
class DirectionSet:
    """Directions [n], each of one layer; a layer may have several."""

    layers: tuple[int, ...]
    """Layers from 0."""
    vectors: NDArray[np.float32]
    """The directions [n, hidden], at the length that they were found with."""
    residual_norms: NDArray[np.float32]
    """Mean norm of the layer's states over all response tokens [n]."""
    positive: NDArray[np.float32]
    """Percentiles 0 to 100 of h . u over the response tokens of the positive side [n, 101]; u is the unit direction."""
    negative: NDArray[np.float32]
    """The same of the negative side."""
    turns: NDArray[np.float32]
    """Mean projections [n, positions, sides]: of whole responses and of the last token before them; of the positive and
    of the negative side."""
    card: Mapping[str, Any]
    """How they were made: model, hash, contrast, layer, separation. JSON values."""

    def __post_init__(self) -> None:
        freeze(self, *_ARRAYS, "card")
        if not np.isfinite(self.vectors).all() or not (np.linalg.norm(self.vectors, axis=1) > 0).all():
            raise DirectionError("a direction is zero or not finite: both sides of its contrast look the same")

    def __setstate__(self, state: Any) -> None:
        restore(self, state)

    @property
    def width(self) -> int:
        """Width of the model that they belong to."""
        return int(self.vectors.shape[1])

    @property
    def units(self) -> NDArray[np.float32]:
        """The directions at length one [n, hidden]."""
        return (self.vectors / np.linalg.norm(self.vectors, axis=1, keepdims=True)).astype(np.float32)

    def at(self, layers: tuple[int, ...]) -> DirectionSet:
        """Those of some layers. Raises: `DirectionError` if a layer has none."""
        if missing := sorted(set(layers) - set(self.layers)):
            raise DirectionError(f"no direction of layer {missing[0]}; there are those of layers {list(self.layers)}")
        rows = [n for n, layer in enumerate(self.layers) if layer in layers]
        arrays = {name: getattr(self, name)[rows] for name in _ARRAYS}
        return replace(self, layers=tuple(self.layers[n] for n in rows), **arrays)

    def cosine(self, other: DirectionSet) -> float:
        """Mean cosine with the directions of another set, one by one. Both must be of the same layers."""
        return float((self.units.astype(np.float64) * other.units).sum(axis=1).mean())

    def as_state(self) -> dict[str, Any]:
        """JSON values that keep every bit."""
        return {
            "layers": list(self.layers),
            "card": json.loads(json.dumps(dict(self.card), default=dict)),
            **{name: getattr(self, name).tolist() for name in _ARRAYS},
        }

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> DirectionSet:
        """What `as_state` returned."""
        arrays = {name: np.array(state[name], np.float32) for name in _ARRAYS}
        return cls(tuple(state["layers"]), card=state["card"], **arrays)

    def save(self, path: Path) -> None:
        """Write a safetensors file with the card in its metadata."""
        path.parent.mkdir(parents=True, exist_ok=True)
        card = {"layers": list(self.layers), **json.loads(json.dumps(dict(self.card), default=dict))}
        save_file(
            {name: np.ascontiguousarray(getattr(self, name)) for name in _ARRAYS},
            path,
            metadata={"card": json.dumps(card, sort_keys=True)},
        )

    @classmethod
    def load(cls, path: Path) -> DirectionSet:
        """Read what `save` wrote. Raises: `DirectionError` for a file that is missing or something else."""
        try:
            with safe_open(path, framework="numpy") as file:
                card = json.loads((file.metadata() or {})["card"])
                arrays = {name: file.get_tensor(name).astype(np.float32) for name in _ARRAYS}
        except FileNotFoundError:
            raise DirectionError(f"no file {path}: make it with `shaping directions`, or correct the path") from None
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise DirectionError(
                f"{path} is no file of `shaping directions` ({type(error).__name__}: {error})"
            ) from None
        layers = tuple(int(layer) for layer in card.pop("layers"))
        if arrays["vectors"].ndim != 2 or len(layers) != len(arrays["vectors"]):
            raise DirectionError(f"{path}: {len(layers)} layers for directions of shape {arrays['vectors'].shape}")
        return cls(layers, card=card, **arrays)
