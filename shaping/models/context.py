"""The longest context that a model's config states."""

from __future__ import annotations

from typing import Any

_NAMES = ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len")


def longest_context(config: Any) -> int:
    """The limit in tokens that a transformers config states. Raises: ValueError if it states none."""
    text = config.get_text_config()
    for name in _NAMES:
        if limit := getattr(text, name, None):
            return int(limit)
    raise ValueError(
        f"{type(config).__name__} does not say how long the model's context is: write max_position_embeddings into the "
        "model's config.json, or give the engine a context_length"
    )
