"""What shapers that act on hidden states have in common: where their directions come from, and when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from shaping.directions.contrast import CONTRASTS, Contrast, Layers, NamedContrast
from shaping.directions.direction_set import DirectionError, DirectionSet
from shaping.hooks import ActivationEdit, Knob, Phase, RatioMode
from shaping.intervention import Shaper

if TYPE_CHECKING:
    from shaping.learning.policy import Policy


class DirectionSource(BaseModel):
    """A file of `shaping directions`, or a contrast from which directions are found in the policy before training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str = Field("", description="a file that `shaping directions` made; learner ranks must be able to read it")
    contrast: NamedContrast | None = Field(None, description=f"two sides, or a name: {', '.join(CONTRASTS)}")
    layers: Layers = Field("best", description="layers from 0 (negative: from the end), `best` or `all`")
    components: int = Field(0, ge=0, le=1000, description="0: difference of means; k: principal components of it")

    @model_validator(mode="after")
    def _one_source(self) -> DirectionSource:
        if bool(self.path) == (self.contrast is not None):
            raise ValueError("give either `path`, a file of `shaping directions`, or `contrast`")
        if self.layers != "best" and not self.layers:
            raise ValueError("`layers` is empty: name at least one, or `best`")
        if self.path and self.components:
            raise ValueError("`components` are chosen when a file is made; leave them out here")
        return self


class Directed(Shaper):
    """A shaper with directions. They are found, or read, where the policy is, and are its state from then on.

    A state reaches learner ranks, rollout workers and checkpoints, so that all use the same numbers, bit for bit.
    """

    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.SAMPLING_EDITS, Knob.TRAINING_EDITS, Knob.RATIO})

    direction: DirectionSource = Field(
        description="where the directions come from", examples=[{"contrast": "deception"}]
    )
    at: Literal["training", "sampling", "both"] = Field("training", description="passes that are edited")
    random: bool = Field(False, description="control: random directions of the same layers and lengths")
    seed: int = Field(0, ge=0, le=2**32 - 1, description="seed of the random directions")
    every: int = Field(0, ge=0, le=1_000_000, description="updates after which they are found anew; 0: never")
    ratio: RatioMode | None = Field(None, description="None: sampler if both passes are edited, else recomputed")

    _found: DirectionSet | None = PrivateAttr(None)
    _probes: Any = PrivateAttr(None)

    @model_validator(mode="after")
    def _can_be_found_anew(self) -> Directed:
        if self.every and self.direction.path:
            raise ValueError("`every` finds directions anew, for which it needs `direction.contrast` and not a file")
        return self

    def ratio_mode(self) -> RatioMode:
        return self.ratio or ("sampler" if self.at == "both" else "recomputed")

    def edits(self, phase: Phase) -> Sequence[ActivationEdit]:
        if self.at not in ("both", phase):
            return ()
        if self._found is None:  # before the policy is loaded it is known that there will be edits, and not which
            return (ActivationEdit(0, "add", np.zeros(1, np.float32), 0.0),)
        return self._edits_of(self._found)

    def _edits_of(self, found: DirectionSet) -> Sequence[ActivationEdit]:
        raise NotImplementedError

    def refresh(self, policy: Policy, version: int) -> Mapping[str, float]:
        """Find the directions before the first update, and again every so many. The metric: cosine with the last."""
        due = self.every and version and version % self.every == 0
        if self._found is not None and not due:
            return {}
        before, found = self._found, self._now(policy)
        of_ranks = policy.ranks.gather(found.as_state())  # answers that are sampled may differ between them
        self._found = DirectionSet.of_state(of_ranks[0])
        if before is None or before.layers != self._found.layers:
            return {}
        return {"cosine": before.cosine(self._found)}

    def _now(self, policy: Policy) -> DirectionSet:
        """The directions in the policy as it is. Layers that were chosen as the best stay chosen."""
        from shaping.directions.extract import extract, randomised, same_layers  # torch, which a config does not need

        source = self.direction
        if source.path:
            found = same_layers(DirectionSet.load(Path(source.path).expanduser()), policy)
            found = found if source.layers in ("best", "all") else found.at(tuple(source.layers))  # type: ignore[arg-type]
            if not self.random:
                return found
            return randomised(policy, found, self._texts(policy, Contrast(**found.card["contrast"])), self.seed)
        assert source.contrast is not None
        layers = source.layers if self._found is None else tuple(dict.fromkeys(self._found.layers))
        probes = self._texts(policy, source.contrast)
        found = extract(policy, source.contrast, layers, components=source.components, probes=probes)
        return randomised(policy, found, probes, self.seed) if self.random else found

    def _texts(self, policy: Policy, contrast: Contrast) -> Any:
        """What both sides say; the same in every update unless the model itself answers."""
        from shaping.directions.probes import probes_of
        from shaping.sampling.text.render import Renderer

        if self._probes is None or contrast.samples:
            self._probes = probes_of(policy, contrast, Renderer(policy.tokenizer))
        return self._probes

    def state_dict(self) -> Mapping[str, Any]:
        return {} if self._found is None else {"directions": self._found.as_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if not state:
            return
        if set(state) != {"directions"}:
            raise DirectionError(f"a state of {type(self).__name__} holds directions, not {sorted(state)}")
        self._found = DirectionSet.of_state(state["directions"])
