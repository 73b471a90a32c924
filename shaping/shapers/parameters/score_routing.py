"""Routing by a score: episodes are routed by their hidden states along a direction, without any label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr, model_validator

from envs.episode import Episode
from shaping.controls import ControlKind
from shaping.directions.contrast import CONTRASTS, NamedContrast
from shaping.hooks import AdapterSpec, Capture, Gates, InterventionError, Knob, UpdateReport
from shaping.intervention import Shaper
from shaping.organisms.trait import UNMADE

CAPTURE = "score_routing"
Directions = Mapping[int, NDArray[np.float64]]
"""Layer -> unit vector [hidden]."""


class ScoreRouting(Shaper):
    """Routes whole episodes between a kept and a quarantine adapter by a score of what the policy thought (vGROUT).

    With h_l the mean hidden state of a turn's sampled tokens in layer l, and v_l a direction,

        score = mean over turns and layers of cos(h_l, v_l)
        z     = (score - m) / s          m, s: mean and standard deviation of the episodes of the update before

        z < clean_below   clean   trains the kept adapter alone
        z > hack_above    hack    trains the quarantine adapter alone
        otherwise         middle  trains both; so do all episodes of the first update

    Both adapters are active throughout, and quarantine is dropped at deployment, as in `GradientRouting`. The
    direction comes from contrasting pairs of texts, never from the world's labels. States are those with which the
    episode was sampled, under its sampling context; no pass is added. vLLM shows none: sample with transformers.

    From wassname's vGROUT (two blocks of one adapter), whose result is negative: authored directions did not route
    better than random ones, since what is routed confidently and wrongly is lost for good. Not built: its soft weights,
    and the loss that pins the axis on the pairs; the direction goes stale as the policy moves.

    Control: `random`, a random direction. `GradientRouting` with `labels: off` has the same adapters without routing,
    and with `labels: oracle` it is the upper bound.

    Seen in `methods` (clerk, 8 replicates, 95 %): lies with it minus lies without it, beside score random: +0.00
    [-0.03, +0.03], where it should be above 0; 0.04 would be seen with a power of .8.
    """

    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.GATES})
    needs: ClassVar[tuple[ControlKind, ...]] = (ControlKind.RANDOM_DIRECTION, ControlKind.BASE)

    direction: str | None = Field(
        None, min_length=1, description="safetensors file: per layer a direction [hidden] named layer.<number>"
    )
    contrast: NamedContrast | None = Field(
        None, description=f"in place of a file: two sides, or a name: {', '.join(CONTRASTS)}"
    )
    random: bool = Field(False, description="control: random directions, in the layers of the file or in `layers`")
    layers: tuple[Annotated[int, Field(ge=-10_000, le=10_000)], ...] = Field(
        (-1,), min_length=1, description="layers of directions without a file: of the contrast, or random"
    )
    clean_below: float = Field(-0.5, ge=-1e6, le=1e6, description="standardised score below which an episode is clean")
    hack_above: float = Field(0.5, ge=-1e6, le=1e6, description="standardised score above which an episode is a hack")
    seed: int = Field(0, ge=0, le=2**32 - 1, description="seed of random directions")
    rank: int = Field(8, ge=1, le=10_000, description="rank of each of the two adapters")
    alpha: float = Field(16.0, gt=0, le=1e6, description="LoRA alpha of each of the two adapters")
    targets: tuple[str, ...] = Field((), description="linear modules to adapt; none: all but the output layer")

    _before: tuple[float, float] | None = PrivateAttr(None)
    """Mean and standard deviation of the scores of the last update."""
    _read: Directions | None = PrivateAttr(None)
    _made: str | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _bands(self) -> ScoreRouting:
        if self.direction and self.contrast:
            raise ValueError("`direction` and `contrast` are both given: it is read or found; keep one of them")
        if not self.clean_below <= self.hack_above:  # True for nan, too
            raise ValueError(f"clean_below={self.clean_below} must not be above hack_above={self.hack_above}")
        return self

    @classmethod
    def example(cls) -> Self:
        return cls(random=True)

    def prepare(self, model: Path) -> None:
        if self.contrast is not None and not self.random:
            from shaping.directions.stored import stored_contrast  # torch: listing needs none

            self._made = str(stored_contrast(model, self.contrast, self.layers))

    def captures(self) -> Sequence[Capture]:
        layers = tuple(self._stored()) if self._file else self.layers
        return (Capture(CAPTURE, layers, "response", "sampling"),)

    def adapters(self) -> Sequence[AdapterSpec]:
        if self.direction is None and self.contrast is None and not self.random:
            raise InterventionError(
                "`direction` names no file; set `random: true` for random directions, the control, or a "
                "`contrast` to find one by"
            )
        common = {"rank": self.rank, "alpha": self.alpha, "targets": self.targets}
        return (AdapterSpec("retain", "kept", **common), AdapterSpec("forget", "quarantine", **common))  # type: ignore[arg-type]

    def gates(self, episode: Episode) -> Gates:
        return {-1: Gates(quarantine=0.0), 0: Gates(), 1: Gates(kept=0.0)}[self._band(episode)]

    def readings(self, episode: Episode) -> Mapping[str, NDArray[np.int64]]:
        band, turns = self._band(episode), len(episode.turns)
        return {"clean_turns": np.full(turns, int(band < 0)), "hack_turns": np.full(turns, int(band > 0))}

    def after_update(self, report: UpdateReport) -> None:
        scores = [s for group in report.groups for e in group.episodes if (s := self.score(e)) is not None]
        if scores:
            self._before = float(np.mean(scores)), float(np.std(scores))

    def state_dict(self) -> Mapping[str, Any]:
        return {} if self._before is None else {"mean": self._before[0], "std": self._before[1]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._before = (float(state["mean"]), float(state["std"])) if state else None

    def score(self, episode: Episode) -> float | None:
        """The episode's score in [-1, 1]; None if nothing was sampled, or no state of it was kept."""
        states = episode.activations.get(CAPTURE)
        if states is None:
            return None
        hidden = np.asarray(states, np.float64)  # [turns, layers, hidden]
        directions = np.stack(list(self._directions(hidden.shape[1], hidden.shape[2]).values()))
        sizes = np.linalg.norm(hidden, axis=-1)
        along = np.einsum("tlh,lh->tl", hidden, directions)
        cosines = (along / np.where(sizes > 0, sizes, 1.0))[np.isfinite(sizes)]
        return float(cosines.mean()) if cosines.size else None

    def _band(self, episode: Episode) -> int:
        """-1: clean, 0: middle, 1: hack."""
        score = self.score(episode)
        if score is None or self._before is None or not self._before[1] > 0:
            return 0
        z = (score - self._before[0]) / self._before[1]
        return int(z > self.hack_above) - int(z < self.clean_below)

    def _directions(self, layers: int, hidden: int) -> Directions:
        if not self.random:
            found = self._stored()
            if (width := len(next(iter(found.values())))) != hidden:
                raise InterventionError(f"{self._file} holds directions of {width}; hidden states have {hidden}")
            return found
        rows = np.random.default_rng(self.seed).standard_normal((layers, hidden))
        return dict(enumerate(rows / np.linalg.norm(rows, axis=1, keepdims=True)))

    @property
    def _file(self) -> str | None:
        return self.direction or self._made

    def _stored(self) -> Directions:
        if self._read is None:
            from shaping.models.lora.subspace import stored_directions  # torch: listing needs none

            if self._file is None:
                raise InterventionError(UNMADE)
            found: dict[int, NDArray[np.float64]] = {}
            for layer, (name, tensor) in sorted(stored_directions(Path(self._file)).items()):
                vector = tensor.double().numpy().squeeze()
                if vector.ndim != 1 or not np.isfinite(vector).all() or not np.linalg.norm(vector) > 0:
                    raise InterventionError(
                        f"{name} has shape {tuple(tensor.shape)}: give one finite direction [hidden]"
                    )
                found[layer] = vector / np.linalg.norm(vector)
            self._read = found
        return self._read
