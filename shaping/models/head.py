"""The output layer's own arithmetic: factors and soft caps that a model applies to its logits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from shaping.models.products import head_product, on_tensor_cores

_SCALES = (
    *("logits_scaling", "logit_scale", "lm_head_multiplier", "logits_mup_width_multiplier"),
    *("output_multiplier", "output_multiplier_scale", "logits_scale"),
)
"""Names that configs give to a factor of the logits. Granite divides by its own, HyperCLOVA X multiplies."""
_CAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")
"""Names that configs give to a soft cap of the logits."""

ExactHead = tuple[Tensor, Tensor | None]
"""Weight and bias of an output layer, in float32."""


@dataclass(frozen=True, slots=True)
class Head:
    """Logits are cap * tanh(scale * (output layer) / cap)."""

    scale: float = 1.0
    """Factor of the output layer's result."""
    cap: float | None = None
    """Soft cap; None: none."""

    def logits(self, model: PreTrainedModel, hidden: Tensor, exact: ExactHead | None = None) -> Tensor:
        """Logits [..., vocabulary] in float32 of hidden states [..., hidden].

        `exact` is the model's `exact_head`, of which several calls share one: their gradients then add up in float32.
        """
        logits = _plain_logits(model, hidden) if exact is None and not torch.is_grad_enabled() else None
        if logits is None:
            exact = exact or exact_head(model)
            head = model.get_output_embeddings()
            logits = functional.linear(hidden.float(), *exact) if exact else head(hidden).float()
        if self.scale != 1.0:
            logits = logits * self.scale
        return torch.tanh(logits / self.cap) * self.cap if self.cap else logits


def _plain_logits(model: PreTrainedModel, hidden: Tensor) -> Tensor | None:
    """Logits of a plain head without a copy of its weights in float32; None where that would lose something."""
    head = model.get_output_embeddings()
    if not is_plain(head) or not on_tensor_cores(head.weight) or hidden.dtype != head.weight.dtype:
        return None
    rows = hidden.reshape(-1, hidden.shape[-1])
    return head_product(rows, head.weight, head.bias).unflatten(0, hidden.shape[:-1])


def is_plain(head: nn.Module) -> bool:
    """Is an output layer a linear layer with weights of its own, and nothing more?"""
    return type(head) is nn.Linear and type(head.weight) is nn.Parameter


def exact_head(model: PreTrainedModel) -> ExactHead | None:
    """Weight and bias of a plain head of 16-bit weights, in float32; None for other heads.

    Rounded to 16 bits, logits of 20 are up to .06 off.
    """
    head = model.get_output_embeddings()
    if not is_plain(head) or head.weight.dtype == torch.float32:
        return None
    return head.weight.float(), None if head.bias is None else head.bias.float()


def candidates(model: PreTrainedModel) -> Iterator[Head]:
    """Every arithmetic that the numbers in a model's config allow, the plain one first."""
    config = model.config.get_text_config()
    caps = [None, *(float(cap) for cap in _numbers(config, _CAPS))]
    scales = [1.0]
    for value in _numbers(config, _SCALES):
        scales += [value, 1 / value]
    for cap in caps[::-1]:
        for scale in dict.fromkeys(scales):
            yield Head(scale, cap)


def features(model: PreTrainedModel) -> list[str]:
    """The numbers of a config that change the logits, as `name=value`."""
    config = model.config.get_text_config()
    return [f"{n}={getattr(config, n)}" for n in (*_SCALES, *_CAPS) if getattr(config, n, None) not in (None, 1, 1.0)]


def _numbers(config: object, names: tuple[str, ...]) -> list[float]:
    found = [getattr(config, name, None) for name in names]
    return [float(v) for v in found if isinstance(v, int | float) and not isinstance(v, bool) and v]
