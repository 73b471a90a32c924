"""Linear probes with a card that says how they were made, and the file that they are kept in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from envs.frozen import freeze, restore

ProbeKind = Literal["logistic", "mass_mean"]
FORMAT = "shaping-probes-1"
"""Value of `format` in the file's metadata."""


class ProbeError(ValueError):
    """A probe cannot be fitted, read or used."""


@dataclass(frozen=True, slots=True)
class ProbeSet:
    """Linear probes [n], each of one layer. Their score is the logistic function of the mean of w . h + b."""

    layers: tuple[int, ...]
    """Layers from 0; each once."""
    weights: NDArray[np.float32]
    """Weight vectors w [n, hidden], in units of the raw hidden states."""
    biases: NDArray[np.float32]
    """Offsets b [n]."""
    card: Mapping[str, Any]
    """How they were made: model, hash, kind, positions, worlds, quality on held-out episodes. JSON values."""

    def __post_init__(self) -> None:
        freeze(self, "weights", "biases", "card")
        if self.weights.ndim != 2 or self.biases.shape != (len(self.layers),) or len(self.weights) != len(self.layers):
            raise ProbeError(
                f"{len(self.layers)} layers, but weights of shape {self.weights.shape} and offsets of shape "
                f"{self.biases.shape}"
            )
        if not self.layers or len(set(self.layers)) != len(self.layers) or min(self.layers) < 0:
            raise ProbeError(f"the layers of probes are different numbers from 0, at least one, not {self.layers}")
        if not np.isfinite(self.weights).all() or not np.isfinite(self.biases).all():
            raise ProbeError("a weight of a probe is not a finite number")

    def __setstate__(self, state: Any) -> None:
        restore(self, state)

    @property
    def width(self) -> int:
        """Width of the model that they belong to."""
        return int(self.weights.shape[1])

    def logits(self, states: NDArray[np.float32]) -> NDArray[np.float64]:
        """w . h + b of each probe [turns, n], from states [turns, n, hidden] of `layers`; nan where a state is nan.

        Raises: `ProbeError` for states of another shape.
        """
        if states.ndim != 3 or states.shape[1] != len(self.layers):
            raise ProbeError(f"states of shape {states.shape} for probes of the layers {list(self.layers)}")
        if states.shape[2] != self.width:
            raise ProbeError(
                f"probes of width {self.width}, but hidden states of width {states.shape[2]}: the probes were fitted "
                "to another model; fit them to the model that the run starts from"
            )
        return np.asarray(np.einsum("tnh,nh->tn", states.astype(np.float64), self.weights) + self.biases)

    def scores(self, states: NDArray[np.float32]) -> NDArray[np.float64]:
        """Scores in [0, 1] [turns], from states [turns, n, hidden]; nan where a state is nan."""
        mean = np.clip(self.logits(states).mean(axis=1), -50, 50)
        return np.asarray(1.0 / (1.0 + np.exp(-mean)))

    def save(self, path: Path) -> None:
        """Write a safetensors file with the card, as JSON, in its metadata."""
        path.parent.mkdir(parents=True, exist_ok=True)
        card = {**json.loads(json.dumps(dict(self.card), default=dict)), "layers": list(self.layers)}
        arrays = {"weights": np.ascontiguousarray(self.weights), "biases": np.ascontiguousarray(self.biases)}
        save_file(arrays, path, metadata={"format": FORMAT, "card": json.dumps(card, sort_keys=True)})

    @classmethod
    def load(cls, path: Path) -> ProbeSet:
        """Read what `save` wrote. Raises: `ProbeError` for a file that is missing, damaged or something else."""
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise ValueError(f"its format is {str(metadata.get('format'))[:40]!r}, not {FORMAT!r}")
                card = json.loads(metadata["card"])
                arrays = [file.get_tensor(name).astype(np.float32) for name in ("weights", "biases")]
            return cls(tuple(int(layer) for layer in card.pop("layers")), arrays[0], arrays[1], card)
        except FileNotFoundError:
            raise ProbeError(f"no file {path}: make it with `shaping probe fit`, or correct the path") from None
        except (SafetensorError, OSError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise ProbeError(f"{path} is no file of `shaping probe fit` ({type(error).__name__}: {error})") from None
