"""A number per token, as a strip of coloured text for notebooks: where in an episode an update acts."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from envs.escaping import on_one_line

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MOST = 2000
"""Tokens that a strip shows."""
_MORE, _LESS = "0, 114, 178", "213, 94, 0"
_STYLE = "font-family:monospace;line-height:1.9;white-space:pre-wrap"


@dataclass(frozen=True)
class TokenStrip:
    """Tokens with numbers: blue above 0, orange below, darker where they are larger; NaN: in no loss, grey."""

    texts: Sequence[str]
    values: Sequence[float]
    what: str
    """What the numbers are."""

    @property
    def largest(self) -> float:
        """The size of the largest number, which has the darkest colour; 0 without any."""
        return max((abs(value) for value in self.values if math.isfinite(value)), default=0.0)

    def __repr__(self) -> str:
        return f"<{len(self.texts)} tokens, {self.what}, up to {self.largest:.3g} in size>"

    def _repr_html_(self) -> str:
        pieces = [self._piece(text, value) for text, value in zip(self.texts[:MOST], self.values, strict=False)]
        more = f" … and {len(self.texts) - MOST} more tokens" if len(self.texts) > MOST else ""
        head = (
            f"{html.escape(on_one_line(self.what))}: blue above 0, orange below, up to {self.largest:.3g}; grey: none"
        )
        return f"<div style='color:#777;font-size:90%'>{head}</div><div style='{_STYLE}'>{''.join(pieces)}{more}</div>"

    def _piece(self, text: str, value: float) -> str:
        shown = html.escape(on_one_line(text, 60))
        if not math.isfinite(value):
            return f"<span style='color:#999'>{shown}</span>"
        share = abs(value) / self.largest if self.largest else 0.0
        colour = f"rgba({_MORE if value > 0 else _LESS}, {0.08 + 0.6 * share:.2f})"
        return f"<span style='background:{colour}' title='{value:+.3g}'>{shown}</span>"


def token_strip(
    tokenizer: PreTrainedTokenizerBase,
    tokens: Sequence[int],
    values: Sequence[float],
    what: str,
    mask: Sequence[bool] | None = None,
) -> TokenStrip:
    """The strip of a sequence.

    Args:
        tokenizer: of the policy.
        tokens: token ids.
        values: a number for each of them.
        what: what the numbers are.
        mask: True where a number counts; None: everywhere.
    Raises: `ValueError` if the lengths differ.
    """
    counts = [True] * len(tokens) if mask is None else list(mask)
    if not len(tokens) == len(values) == len(counts):
        raise ValueError(f"{len(tokens)} tokens, {len(values)} numbers and a mask of {len(counts)} do not fit")
    texts = [tokenizer.decode([int(token)]) for token in tokens]
    return TokenStrip(texts, [float(v) if m else math.nan for v, m in zip(values, counts, strict=True)], what)
