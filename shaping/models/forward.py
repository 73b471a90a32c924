"""A model's forward pass over token sequences: packed where that is exact, otherwise one sequence per padded row.

`adopt` finds out once which it is, by the check in `self_check`, and keeps the answer with the model.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from transformers import PreTrainedModel

from shaping.models.attention import Packed, Plan
from shaping.models.capture import recorded
from shaping.models.head import ExactHead, Head
from shaping.models.self_check import Layout, examine, not_padding, packed_states, padded_states

_KEPT = "_shaping_layout"


def adopt(model: PreTrainedModel) -> PreTrainedModel:
    """Prepare a model for `hidden_states` and `head_logits`.

    Raises: `ModelRefused`, a ValueError, if neither way to run it agrees with its own forward pass.
    """
    layout_of(model)
    return model


def layout_of(model: PreTrainedModel) -> Layout:
    """How a model is run; found out at the first call. A copy of the model keeps it."""
    found: Layout | None = getattr(model, _KEPT, None)
    if found is None:
        found = examine(model)
        setattr(model, _KEPT, found)
    return found


def head_of(model: PreTrainedModel) -> Head:
    """The arithmetic of a model's output layer."""
    return layout_of(model).head


def hidden_states(model: PreTrainedModel, ids: Tensor, positions: Tensor, plan: Plan) -> Tensor:
    """Final hidden states [B, T, hidden] of token ids [B, T] at `positions` [B, T].

    A model that cannot be packed runs the sequences of a `Packed` plan in rows of their own; the result is the same.
    """
    if layout_of(model).packed or not isinstance(plan, Packed):
        return packed_states(model, ids, positions, plan)
    return padded_states(model, _sequences(ids, plan))[None]


def layer_states(
    model: PreTrainedModel, ids: Tensor, positions: Tensor, plan: Plan, layers: Sequence[int]
) -> tuple[Tensor, dict[int, Tensor]]:
    """As `hidden_states`, and the outputs of these layers [B, T, hidden] in the same pass, before any final norm."""
    with recorded(model, layers) as found:
        final = hidden_states(model, ids, positions, plan)
    if layout_of(model).packed or not isinstance(plan, Packed):
        return final, found
    inside = not_padding(_sequences(ids, plan))
    return final, {layer: states[inside][None] for layer, states in found.items()}


def _sequences(ids: Tensor, plan: Packed) -> Sequence[Tensor]:
    """The sequences [length] of a packed row [1, T]."""
    return ids[0].split([b - a for a, b in zip(plan.starts, plan.starts[1:], strict=False)])


def head_logits(model: PreTrainedModel, hidden: Tensor, exact: ExactHead | None = None) -> Tensor:
    """Logits [..., vocabulary] in float32, with the factor and the soft cap that some models apply after the head.

    `exact` is the model's `exact_head`, of which several calls share one: their gradients then add up in float32.
    """
    return head_of(model).logits(model, hidden, exact)
