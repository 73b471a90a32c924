"""Tokens that end a turn: those of the generation config, and the one that the chat template closes a reply with."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase


def closing_token(tokenizer: PreTrainedTokenizerBase, closings: Iterable[Sequence[int]]) -> int | None:
    """The first token of its own, such as `<end_of_turn>`, in the markup that follows a reply; None if there is none.

    Args:
        tokenizer: knows which tokens are markup rather than text.
        closings: ids of the markup after a reply, the most telling first.
    """
    markup = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    for ids in closings:
        for token in ids:
            if token in markup:
                return token
    return None


def ends_of_model(model: PreTrainedModel) -> frozenset[int]:
    """Every id of a model's `generation_config.eos_token_id`."""
    config = getattr(model, "generation_config", None)
    return _ids(getattr(config, "eos_token_id", None))


def ends_of_directory(directory: Path) -> frozenset[int]:
    """As `ends_of_model`, from the files of a model: `config.json` counts where there is no generation config."""
    for name in ("generation_config.json", "config.json"):
        path = directory / name
        if path.is_file() and (found := _ids(json.loads(path.read_text()).get("eos_token_id"))):
            return found
    return frozenset()


def _ids(value: Any) -> frozenset[int]:
    return frozenset() if value is None else frozenset([value] if isinstance(value, int) else value)
