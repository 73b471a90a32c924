"""One attention function for sampling and training. A *plan* describes the layout of the batch.

The function is registered with transformers under `ATTENTION` and works for every model whose layers use the attention
interface. The plan is a keyword argument of the model's forward:

- `Packed`: many sequences laid end to end in one row; block-diagonal causal attention, no mask tensor, no padding.
- `shaping.sampling.cache.Slots`: rows of a key-value cache, with different lengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

ATTENTION = "shaping"
"""Name of the attention function in transformers' registry."""


class Plan(Protocol):
    """Layout of a batch, and attention within it."""

    @property
    def span(self) -> int:
        """Length of the longest sequence in tokens."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        """Attention of one layer: query [B, H, Q, D], key and value [B, Hkv, Q, D] after rotary embedding.

        Returns: [B, H, Q, D].
        """


@dataclass(frozen=True, slots=True)
class Packed:
    """Sequences laid end to end in one row of tokens."""

    starts: Sequence[int]
    """Sequence i is tokens[starts[i] : starts[i + 1]]; the last entry is the number of tokens."""

    @property
    def span(self) -> int:
        return max(b - a for a, b in pairwise(self.starts))

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        grouped = query.shape[1] != key.shape[1]
        lengths = [b - a for a, b in pairwise(self.starts)]
        # split() rather than slices: the gradient of each slice would be a tensor as large as the whole row.
        parts = zip(*(tensor.split(lengths, dim=2) for tensor in (query, key, value)), strict=True)
        blocks = [
            F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=grouped)
            for q, k, v in parts
        ]
        return torch.cat(blocks, dim=2)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    plan: Plan | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    if plan is None:
        grouped = query.shape[1] != key.shape[1]
        out = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attention_mask,
            is_causal=attention_mask is None and query.shape[2] > 1,  # a single query sees every key
            scale=scaling,
            enable_gqa=grouped,
        )
    else:
        if sliding_window is not None and plan.span > sliding_window:
            raise ValueError(
                f"this model attends over a sliding window of {sliding_window} tokens, which packed attention does "
                "not implement: use shorter episodes or a model with full attention"
            )
        out = plan.attend(int(module.layer_idx), query, key, value, scaling)  # type: ignore[arg-type]
    return out.transpose(1, 2).contiguous(), None


def _mask(*, q_length: int, kv_length: int, attention_mask: Tensor | None = None, **others: Any) -> Tensor | None:
    """The usual mask for padding and key-value caches, which `generate` needs; none for a plan or plain causality."""
    if attention_mask is None and q_length == kv_length:
        return None
    return sdpa_mask(q_length=q_length, kv_length=kv_length, attention_mask=attention_mask, **others)


AttentionInterface.register(ATTENTION, _attention)
AttentionMaskInterface.register(ATTENTION, _mask)


def adopt(model: PreTrainedModel) -> PreTrainedModel:
    """Switch a model to the attention of this module.

    Raises: ValueError for models that do not use the attention interface.
    """
    try:
        model.set_attn_implementation(ATTENTION)
    except (ValueError, AttributeError) as error:
        raise ValueError(
            f"{type(model).__name__} does not use transformers' attention interface, so its attention cannot be "
            "packed; use a decoder-only model such as Llama, Qwen or SmolLM2"
        ) from error
    return model


def hidden_states(model: PreTrainedModel, ids: Tensor, positions: Tensor, plan: Plan) -> Tensor:
    """Final hidden states [B, T, hidden] of token ids [B, T] at `positions` [B, T]."""
    return model.base_model(input_ids=ids, position_ids=positions, use_cache=False, plan=plan).last_hidden_state


def exact_head(model: PreTrainedModel) -> tuple[Tensor, Tensor | None] | None:
    """Weight and bias of a plain head of 16-bit weights, in float32; None for other heads.

    Rounded to 16 bits, logits of 20 are up to .06 off.
    """
    head = model.get_output_embeddings()
    if type(head) is not nn.Linear or type(head.weight) is not nn.Parameter or head.weight.dtype == torch.float32:
        return None
    return head.weight.float(), None if head.bias is None else head.bias.float()


def head_logits(model: PreTrainedModel, hidden: Tensor, exact: tuple[Tensor, Tensor | None] | None = None) -> Tensor:
    """Logits [..., vocabulary] in float32, with the soft cap that some models apply after the head.

    `exact` is the model's `exact_head`, of which several calls share one: their gradients then add up in float32.
    """
    exact = exact or exact_head(model)
    logits = F.linear(hidden.float(), *exact) if exact else model.get_output_embeddings()(hidden).float()
    cap = getattr(model.config, "final_logit_softcapping", None)
    return torch.tanh(logits / cap) * cap if cap else logits
