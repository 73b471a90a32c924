"""Past policies of a run: copies of its adapters every few updates, in a fixed number of slots.

A snapshot is a frozen adapter of the same model, active in no phase. So every checkpoint has it, samplers are sent it
with the other adapters, and nothing but the version says which slot holds which: snapshot n is the policy
of version n * every, in slot n modulo keep. Snapshot 0 is the policy at its start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from shaping.hooks import AdapterSpec
from shaping.models.lora.adapters import Adapters

PREFIX = "past"


@dataclass(frozen=True, slots=True)
class Snapshots:
    """Which past policies are kept."""

    every: int
    """Updates between two snapshots."""
    keep: int
    """Slots."""

    def specs(self, kept: Sequence[AdapterSpec]) -> list[AdapterSpec]:
        """The slots of these learned adapters."""
        return [
            replace(spec, name=slot_name(spec.name, slot), role="frozen", phases=frozenset(), path=None, player=None)
            for spec in kept
            for slot in range(self.keep)
        ]

    def numbers(self, update: int, staleness: int = 0) -> range:
        """The snapshots that a group of this update may meet, whichever of the allowed versions plays it.

        It may be played by any version from `update - staleness` to `update`: the snapshot must be there in the first,
        and must not have been overwritten in the last.
        """
        newest = max(update - staleness, 0) // self.every
        return range(min(max(update // self.every - self.keep + 1, 0), newest), newest + 1)

    def slot(self, number: int) -> int:
        """The slot of a snapshot."""
        return number % self.keep

    @torch.no_grad()
    def take(self, adapters: Adapters, version: int) -> None:
        """Copy the learned adapters into their next slot, if a snapshot of this version is kept."""
        if version % self.every:
            return
        slot = self.slot(version // self.every)
        for name in adapters.names("kept"):
            if (target := slot_name(name, slot)) in adapters.specs:
                weights = adapters.tensors(name)
                for key, copy in adapters.tensors(target).items():
                    copy.copy_(weights[key])


def slot_name(adapter: str, slot: int) -> str:
    """What the adapter in a slot is called; as a player it has the same name."""
    return f"{PREFIX}_{adapter}_{slot}"


def is_past(spec: AdapterSpec) -> bool:
    """Is it the slot of a past policy?"""
    return spec.role == "frozen" and not spec.phases and spec.name.startswith(f"{PREFIX}_")
