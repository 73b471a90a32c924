"""Match rows of TRL's shuffled and split batch with episodes, and insert the arm's credit. Imports no TRL."""

from __future__ import annotations

import hashlib
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shaping.hooks import RatioMode
from shaping.trl.rollouts import Row

KEYS = (
    "prompt_ids",
    "prompt_mask",
    "completion_ids",
    "completion_mask",
    "tool_mask",
    "advantages",
    "sampling_per_token_logps",
)
"""Keys that TRL's batch must hold at the computation of the loss."""


class TRLError(RuntimeError):
    """TRL's batch does not have the form that this adapter expects; nothing was trained on it."""

    @classmethod
    def of(cls, problem: str) -> TRLError:
        """An error that names TRL's version."""
        return cls(f"TRL {version('trl')}, where 1.16.0 is known to work: {problem}")


class SideData:
    """The rows of the present generation, until each has been used `uses` times.

    Rows with the same tokens share a queue: they are interchangeable, and each is used equally often.

    Args:
        uses: uses of each row, TRL's `num_iterations`.
        ratio: the arm's ratio mode.
    """

    def __init__(self, uses: int, ratio: RatioMode) -> None:
        self._uses = uses
        self._ratio = ratio
        self._waiting: dict[bytes, deque[Row]] = defaultdict(deque)

    @property
    def unused(self) -> int:
        """Number of uses left."""
        return sum(map(len, self._waiting.values()))

    def put(self, credited: Sequence[Row]) -> None:
        """Replace all rows."""
        self._waiting.clear()
        for _ in range(self._uses):
            for row in credited:
                self._waiting[_key(row.prompt, row.completion)].append(row)

    def shaped(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """A copy of TRL's batch with the arm's credit [rows, width], and in ratio mode `sampler` its log-probs.

        `inputs` itself does not change, because TRL uses it again.

        Raises: `TRLError` if a key is missing or a row matches no episode.
        """
        for key in KEYS:
            if inputs.get(key) is None:
                raise TRLError.of(f"the batch has no {key!r}; it has {sorted(inputs)}")
        credit = torch.zeros(inputs["completion_ids"].shape, dtype=torch.float32)
        for number in range(len(credit)):
            row = self._take(inputs, number)
            credit[number, : len(row.credit)] = torch.tensor(row.credit)
        out = dict(inputs)
        out["advantages"] = credit.to(inputs["advantages"].device)
        if self._ratio == "sampler":
            out["old_per_token_logps"] = inputs["sampling_per_token_logps"]
        return out

    def _take(self, inputs: Mapping[str, Any], number: int) -> Row:
        prompt = _unpadded(inputs, "prompt", number)
        completion = _unpadded(inputs, "completion", number)
        waiting = self._waiting.get(_key(prompt.tolist(), completion.tolist()))
        if not waiting:
            raise TRLError.of(
                f"row {number} of the batch, by its 'prompt_ids' and 'completion_ids' "
                f"({len(prompt)} and {len(completion)} tokens), is no episode of this generation, or was used "
                f"{self._uses} times already"
            )
        row = waiting.popleft()
        if inputs["tool_mask"][number, : len(row.mask)].tolist() != row.mask.tolist():
            raise TRLError.of(f"'tool_mask' of row {number} is not the rollout's mask")
        return row


def _unpadded(inputs: Mapping[str, Any], part: str, number: int) -> Tensor:
    return inputs[f"{part}_ids"][number][inputs[f"{part}_mask"][number].bool()]


def _key(prompt: Sequence[int], completion: Sequence[int]) -> bytes:
    """Digest of unpadded token ids. The prompt's length is part of it, so that the boundary counts."""
    return hashlib.blake2b(np.array([len(prompt), *prompt, *completion], np.int64).tobytes()).digest()
