"""The mode of a model in an update: that of sampling, so that both sides compute the same log-probs."""

from __future__ import annotations

from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer


def without_dropout(model: nn.Module) -> None:
    """Put a model into evaluation mode, in which gradients are computed as ever, but nothing is dropped.

    The policy that is updated has to be the one that sampled: with dropout, its ratio to itself is noise. Layers whose
    activations are recomputed have to say that they train, so their own dropout is set to zero, too.
    """
    model.eval()
    for layer in model.modules():
        if isinstance(layer, GradientCheckpointingLayer) and layer.gradient_checkpointing:
            layer.training = True  # of this module alone: its parts stay in evaluation mode
            for name, value in vars(layer).items():
                if "drop" in name and isinstance(value, float):
                    setattr(layer, name, 0.0)
