"""Which modules of a model a LoRA adapter can adapt, and which matrices it leaves as they are."""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

_READ = re.compile(r"self\.(\w+)\.weight(?![\w.\[])")
"""A module whose weight is read by the code of the module that holds it."""


def adaptable(model: PreTrainedModel) -> list[str]:
    """Last components of the paths of all modules to which an adapter can be added, but for the output layer.

    These are linear layers (also GPT-2's, which are transposed) that the model calls. Left out are layers that return
    something else (Llama 4's routers return pairs), and those whose weight the model uses without a call (the
    projections of Mamba's fused kernels): an adapter there would have no effect, or break the pass.
    """
    fit: set[str] = set()
    unfit: set[str] = set()
    for path, module in linear_layers(model):
        leaf = path.rpartition(".")[2]
        (fit if _called(model, path, module) else unfit).add(leaf)
    return sorted(fit - unfit)


def expert_parameters(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Name to adapt experts by, such as `experts.gate_up_proj` -> the tensors of that name, one per layer.

    These are experts that a model keeps as one tensor [experts, ., .]. Adapters of them are asked for by name alone: of
    every expert they have matrices of their own, and the pass adds their product to the whole tensor.
    """
    found: dict[str, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        module, _, leaf = without_wrappers(name).rpartition(".")
        parent = module.rpartition(".")[2]
        if parameter.dim() == 3 and "expert" in parent and ".lora_" not in name:
            found.setdefault(f"{parent}.{leaf}", []).append(parameter)
    return found


def without_wrappers(name: str) -> str:
    """The name of a parameter or module without the layers that peft has put around it, which may be several."""
    return ".".join(part for part in name.split(".") if part != "base_layer")


def transposed(model: PreTrainedModel, targets: Collection[str]) -> set[bool]:
    """Are the weights of these modules stored as [in, out]? Both, in a model that has both."""
    return {isinstance(module, Conv1D) for path, module in linear_layers(model) if path.rpartition(".")[2] in targets}


def left_alone(model: PreTrainedModel, targets: Collection[str]) -> list[str]:
    """Names of the matrices that adapters of `targets` do not adapt, with `*` for the number of a layer.

    Embeddings and the output layer do not count. Experts that are stored as one tensor do.
    """
    adapted = {path for path, _ in linear_layers(model) if path.rpartition(".")[2] in targets}
    head = model.get_output_embeddings()
    spared = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) or m is head for p in m.parameters()}
    names = []
    for name, parameter in model.named_parameters():
        plain = name.replace(".base_layer.", ".")
        module = plain.rpartition(".")[0]
        if parameter.dim() >= 2 and ".lora_" not in name and id(parameter) not in spared and module not in adapted:
            names.append(re.sub(r"\.\d+(?=\.)", ".*", plain.removesuffix(".weight")))
    return list(dict.fromkeys(names))


def linear_layers(model: PreTrainedModel) -> Iterator[tuple[str, nn.Module]]:
    """(path, module) of all linear layers but the output layer; a layer with adapters counts as the layer below."""
    head = model.get_output_embeddings()
    for path, module in model.named_modules():
        if isinstance(module, (nn.Linear, Conv1D)) and module is not head and ".lora_" not in path:
            yield path.removesuffix(".base_layer"), module


def _called(model: PreTrainedModel, path: str, module: nn.Module) -> bool:
    if type(module).forward not in (nn.Linear.forward, Conv1D.forward) and not _maps(module):
        return False
    parent, _, leaf = path.rpartition(".")
    kind: Any = type(model.get_submodule(parent))
    return leaf not in _read_directly(kind)


@torch.no_grad()
def _maps(module: nn.Module) -> bool:
    """Is the output of a subclass of a linear layer one of a linear layer?"""
    weight = module.get_parameter("weight")
    output = module(weight.new_zeros(1, weight.shape[1]))
    return isinstance(output, Tensor) and output.shape == (1, weight.shape[0])


@cache
def _read_directly(kind: Any) -> frozenset[str]:
    """Names of the submodules whose weight the class uses itself."""
    try:
        return frozenset(_READ.findall(inspect.getsource(kind)))
    except (OSError, TypeError):  # no source, so nothing is known against them
        return frozenset()
