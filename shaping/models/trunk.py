"""A causal language model without its output layer."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel


def trunk(model: PreTrainedModel) -> nn.Module:
    """The module whose output are the final hidden states. Llama 4 names another one than it has as its base."""
    base: nn.Module = model.base_model
    return getattr(model, "model", base) if base is model else base
