"""Named LoRA adapters on one model: several can be active together, each in its own parameter group."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from shaping.hooks import AdapterSpec, Phase
from shaping.models.log_once import log_once
from shaping.models.lora.adapter_targets import (
    adaptable,
    expert_parameters,
    left_alone,
    transposed,
    without_wrappers,
)
from shaping.models.lora.base_reference import BaseReference
from shaping.models.lora.concatenated import LoRAWeights, concatenated
from shaping.models.lora.subspace import WRITERS, Projection, projections

LOG = logging.getLogger(__name__)
PREFIX = "base_model.model."
"""Prefix of module names in PEFT's files; transformers and vLLM expect it."""


class AdapterError(ValueError):
    """Adapters clash, name modules that the model lacks, or cannot be read."""


class Merge(NamedTuple):
    """The base with its active adapters added to its weights."""

    weights: dict[str, Tensor]
    """State dict of a plain model."""
    lost: float
    """What rounding has changed, relative to the adapters' update: |merged - (W + dW)| / |dW|; 0 without an update."""


class Adapters:
    """Adapters injected into `model` in place (Hu et al., arXiv:2106.09685). The base weights are never written.

    Args:
        model: the model to inject into.
        specs: the adapters, in the order of injection.
        source: the directory that the model was loaded from, to compare with the base of adapters on disk.
    Raises: `AdapterError` for names that clash or are no identifiers, for target modules that do not exist, and for
    files that are missing, do not fit, or belong to another base.
    """

    def __init__(self, model: PreTrainedModel, specs: Sequence[AdapterSpec], source: Path | None = None) -> None:
        _check_names(specs)
        self.model = model
        self._source = source
        self.specs = {spec.name: spec for spec in specs}
        self.confined: dict[nn.Parameter, Projection] = {}
        self.active: tuple[str, ...] = ()
        try:
            for spec in specs:
                self._inject(spec)
        except Exception:
            self.drop(tuple(self.specs))  # also the adapters that fit: the model is as before
            raise
        self.activate(tuple(self.specs))

    def __bool__(self) -> bool:
        return bool(self.specs)

    def names(self, *roles: str, phase: Phase | None = None) -> tuple[str, ...]:
        """Names of the adapters with one of `roles` (none given: any role) that are active in `phase` (None: any)."""
        return tuple(
            name
            for name, spec in self.specs.items()
            if (not roles or spec.role in roles) and (phase is None or phase in spec.phases)
        )

    def activate(self, names: Sequence[str]) -> None:
        """Use exactly these adapters in the forward pass. The set of trained parameters does not change."""
        self._check_known(names)
        if self.active == tuple(names):
            return
        trained = {parameter: parameter.requires_grad for parameter in self.model.parameters()}
        for layer in self._layers():
            layer.set_adapter([name for name in names if name in layer.lora_A])
        for parameter, flag in trained.items():  # peft makes the active adapters trainable and freezes the others
            parameter.requires_grad_(flag)
        self.active = tuple(names)

    @contextmanager
    def using(self, names: Sequence[str]) -> Iterator[None]:
        """Use exactly these adapters inside the block."""
        before = self.active
        self.activate(names)
        try:
            yield
        finally:
            self.activate(before)

    def parameters(self, role: str) -> list[nn.Parameter]:
        """Weights of all adapters with a role, in a fixed order."""
        return [weight for name in self.names(role) for weight in self.matrices(name)]

    def matrices(self, name: str) -> list[nn.Parameter]:
        """Weights of an adapter, in a fixed order: A and B of each module."""
        layers = [layer for layer in self._layers() if name in layer.lora_A]
        return [matrix[name].weight for layer in layers for matrix in (layer.lora_A, layer.lora_B)]

    @torch.no_grad()
    def norm(self, name: str) -> float:
        """Frobenius norm of what an adapter adds to all modules: the square root of the sum of |alpha / rank B A|^2."""
        pairs = zip((own := self.matrices(name))[::2], own[1::2], strict=True)
        return self.specs[name].alpha / self.specs[name].rank * sum(product_norm(a, b) ** 2 for a, b in pairs) ** 0.5

    def drop(self, names: Sequence[str]) -> None:
        """Remove adapters for good. Without adapters the model has its own modules again, bit for bit."""
        self._check_known(names)
        self.activate([name for name in self.active if name not in names])
        for name in names:
            for weight in self.matrices(name):
                self.confined.pop(weight, None)
            del self.specs[name]
        for path, module in reversed(self._named_layers()):  # wrappers of one module lie in each other: inner first
            for name in names:
                if name in module.lora_A:
                    module.delete_adapter(name)
            if not module.lora_A:
                parent, _, leaf = path.rpartition(".")
                setattr(self.model.get_submodule(parent), leaf, module.base_layer)

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Weights of an adapter under PEFT's names."""
        weights: dict[str, Tensor] = {}
        for path, module in self._named_layers():
            if name in module.lora_A:
                weights[f"{PREFIX}{path}.lora_A.weight"] = module.lora_A[name].weight.detach()
                weights[f"{PREFIX}{path}.lora_B.weight"] = module.lora_B[name].weight.detach()
        return weights

    def combined(self, names: Sequence[str]) -> LoRAWeights:
        """One adapter under PEFT's names that computes what these compute together."""
        self._check_known(names)
        for path, module in self._named_layers():
            if hasattr(module, "parameter_name") and any(name in module.lora_A for name in names):
                raise AdapterError(f"adapters of {_target_of(path, module)} cannot be one with others: merge them")
        return concatenated([LoRAWeights(self.tensors(n), self.specs[n].rank, self.specs[n].alpha) for n in names])

    def save(self, name: str, directory: Path, base: BaseReference | None = None) -> None:
        """Write an adapter in PEFT's layout, which transformers, peft and vLLM load on top of the base model.

        `base`: the model it was trained on; it is written beside the adapter, and a later load compares.
        """
        directory.mkdir(parents=True, exist_ok=True)
        adapted = sorted({_target_of(path, m) for path, m in self._named_layers() if name in m.lora_A})
        config = _config(self.model, self.specs[name], adapted)
        config.inference_mode = True
        if base is not None:
            base.write(directory)
            if "/" in base.name:  # a directory, or an id on the hub; what else there is peft cannot load
                config.base_model_name_or_path, config.revision = base.name, base.revision or None
        config.save_pretrained(str(directory))
        tensors = {key: tensor.cpu().contiguous() for key, tensor in self.tensors(name).items()}
        save_file(tensors, directory / "adapter_model.safetensors", metadata={"format": "pt"})

    @torch.no_grad()
    def merge(self, whole: Mapping[str, Tensor] | None = None, dtype: torch.dtype | None = None) -> Merge:
        """A plain model that computes the same as the base with its *active* adapters, up to rounding.

        The model itself does not change. Sums are taken in float32. Small updates of bfloat16 weights are mostly lost,
        since they are smaller than the distance between neighbouring numbers: see `Merge.lost`.

        Args:
            whole: the unsharded state dict; needed only if the model's own weights are sharded.
            dtype: type of the result; none: the base's.
        """
        deltas = self._deltas()
        state: dict[str, Tensor] = {}
        lost = size = 0.0
        for key, tensor in (self.model.state_dict() if whole is None else whole).items():
            if ".lora_" in key:
                continue
            key = without_wrappers(key)
            kind = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
            if key not in deltas:
                state[key] = tensor.to(kind)
                continue
            delta = deltas[key].to(tensor.device)
            state[key] = (tensor.float() + delta).to(kind)
            lost += float((state[key].double() - tensor.double() - delta.double()).square().sum())
            size += float(delta.double().square().sum())
        return Merge(state, (lost / size) ** 0.5 if size else 0.0)

    def _deltas(self) -> dict[str, Tensor]:
        """Name of a weight -> what the active adapters add to it, in float32."""
        deltas: dict[str, Tensor] = {}
        for path, module in self._named_layers():
            for name in self.active:
                if name in module.lora_A:
                    delta = module.get_delta_weight(name).float()
                    key = f"{without_wrappers(path)}.{getattr(module, 'parameter_name', 'weight')}"
                    deltas[key] = deltas[key] + delta if key in deltas else delta
        return deltas

    def _inject(self, spec: AdapterSpec) -> None:
        from peft import inject_adapter_in_model

        targets = _targets(self.model, spec)
        flags = {parameter: parameter.requires_grad for parameter in self.model.parameters()}
        with warnings.catch_warnings():  # peft corrects the setting where a model has layers of both kinds
            warnings.filterwarnings("ignore", message="fan_in_fan_out is set to")
            inject_adapter_in_model(_config(self.model, spec, targets), self.model, adapter_name=spec.name)
        del self.model.peft_config  # peft would warn about it at the next adapter, and it would outlive the last one
        for parameter, flag in flags.items():
            parameter.requires_grad_(flag)  # peft freezes the base; the policy decides whether to train it
        for layer in self._layers():
            if spec.name in layer.lora_A:  # small, and trained with small steps: float32 beside any base
                layer.lora_A[spec.name].float()
                layer.lora_B[spec.name].float()
        if spec.path is not None:
            self._load(spec, Path(spec.path))
        if spec.subspace is not None:
            self._confine(spec)
        if not (spec.targets or spec.path or spec.subspace) and (alone := left_alone(self.model, targets)):
            experts = ", ".join(expert_parameters(self.model))
            how = f" (targets can also name {experts})" if experts else ""
            log_once(
                LOG, f"adapter {spec.name!r} of {type(self.model).__name__} does not adapt {', '.join(alone)}{how}"
            )
        self._set_trainable()

    @torch.no_grad()
    def _confine(self, spec: AdapterSpec) -> None:
        assert spec.subspace is not None
        written = {
            path: layer.lora_B[spec.name].weight for path, layer in self._named_layers() if spec.name in layer.lora_B
        }
        try:
            confined = projections(self.model, spec.subspace, spec.name, written)
        except ValueError as error:
            raise AdapterError(str(error)) from error
        for weight, projection in confined.items():
            weight.copy_(projection(weight))
        self.confined |= confined

    @torch.no_grad()
    def _load(self, spec: AdapterSpec, directory: Path) -> None:
        """Overwrite an adapter's weights with the weights on disk."""
        self._check_base(spec.name, directory)
        weights, stored = self.tensors(spec.name), load_file(directory / "adapter_model.safetensors")
        where = f"adapter {spec.name!r}: {directory}/adapter_model.safetensors"
        if unmatched := sorted(set(stored) ^ set(weights)):
            raise AdapterError(f"{where} does not fit this model and these targets: only one has {unmatched[0]!r}")
        for key, tensor in weights.items():
            if tensor.shape != stored[key].shape:
                raise AdapterError(
                    f"{where}: {key} has shape {tuple(stored[key].shape)}, here {tuple(tensor.shape)}: it was trained "
                    "on a model of another size"
                )
            tensor.copy_(stored[key])

    def _check_base(self, name: str, directory: Path) -> None:
        try:
            base = BaseReference.read(directory)
        except ValueError as error:
            raise AdapterError(f"adapter {name!r}: {error}") from error
        if base is None or self._source is None or not (other := base.differences(self._source, weights_only=True)):
            return
        raise AdapterError(
            f"adapter {name!r}: {directory} was trained on {base}, and the model here, {self._source}, is another one "
            f"({'; '.join(other[:3])}): load it with the model that it belongs to"
        )

    def _check_known(self, names: Sequence[str]) -> None:
        if unknown := [name for name in names if name not in self.specs]:
            known = ", ".join(map(repr, self.specs)) or "none"
            raise AdapterError(f"no adapter is called {unknown[0]!r}; there is {known}")

    def _layers(self) -> list[Any]:
        return [module for _, module in self._named_layers()]

    def _named_layers(self) -> list[tuple[str, Any]]:
        """(path, LoRA layer of peft) in the order of the model."""
        return [(path, module) for path, module in self.model.named_modules() if hasattr(module, "lora_A")]

    def _set_trainable(self) -> None:
        """Train every adapter but the frozen ones."""
        for name, spec in self.specs.items():
            for layer in self._layers():
                for matrix in (layer.lora_A, layer.lora_B):
                    if name in matrix:
                        matrix[name].weight.requires_grad_(spec.role != "frozen")


def product_norm(a: Tensor, b: Tensor) -> float:
    """|B A| in Frobenius norm, from matrices of the rank's size: |B A|^2 = tr(B^T B A A^T)."""
    a, b = a.detach().double(), b.detach().double()
    return float(((b.T @ b) * (a @ a.T)).sum().clamp_min(0.0).sqrt())


def _check_names(specs: Sequence[AdapterSpec]) -> None:
    seen: set[str] = set()
    for spec in specs:
        if spec.name in seen:
            raise AdapterError(f"two adapters are called {spec.name!r}; give one of them another name")
        if not spec.name.isidentifier():
            raise AdapterError(f"{spec.name!r} is no name for an adapter: letters, digits and underscores only")
        seen.add(spec.name)


def _config(model: PreTrainedModel, spec: AdapterSpec, targets: Sequence[str]) -> Any:
    from peft import LoraConfig

    alpha: Any = spec.alpha  # peft annotates int, but any number works
    turned = True in transposed(model, targets)
    modules, experts = ([t for t in targets if ("." in t) == within] for within in (False, True))
    return LoraConfig(
        r=spec.rank,
        lora_alpha=alpha,
        target_modules=modules,
        target_parameters=experts or None,
        task_type="CAUSAL_LM",
        fan_in_fan_out=turned,
    )


def _target_of(path: str, layer: Any) -> str:
    """What a spec calls the module or the experts' tensor that an adapter's layer adapts."""
    leaf = without_wrappers(path).rpartition(".")[2]
    return f"{leaf}.{layer.parameter_name}" if hasattr(layer, "parameter_name") else leaf


def _targets(model: PreTrainedModel, spec: AdapterSpec) -> list[str]:
    """Last components of the paths of the linear modules to adapt, and names of experts that are one tensor."""
    linear, experts = adaptable(model), expert_parameters(model)
    stored = _stored_targets(spec, Path(spec.path)) if spec.path is not None else []
    wanted = spec.targets or stored or ([name for name in linear if name in WRITERS] if spec.subspace else linear)
    if not wanted and linear:
        raise AdapterError(
            f"adapter {spec.name!r}: none of the linear modules of {type(model).__name__} is known to write to the "
            f"residual stream: name those that do in `targets`, of {', '.join(linear)}"
        )
    if missing := sorted(set(wanted) - {*linear, *experts}):
        kind, others = type(model).__name__, ", ".join([*linear, *experts]) or "none"
        if any(path.rpartition(".")[2] == missing[0] for path, _ in model.named_modules()):
            raise AdapterError(
                f"adapter {spec.name!r}: {kind} does not call {missing[0]!r} as a plain linear layer, so that an "
                f"adapter would have no effect there; choose from {others}"
            )
        raise AdapterError(f"adapter {spec.name!r}: {kind} has no linear module called {missing[0]!r}; it has {others}")
    if not linear:
        alone = ", ".join(left_alone(model, ())) or "none"
        raise AdapterError(
            f"adapter {spec.name!r}: {type(model).__name__} has no linear modules to adapt; its matrices are {alone}"
        )
    return sorted(wanted)


def _stored_targets(spec: AdapterSpec, directory: Path) -> list[str]:
    """Target modules of an adapter on disk. Its rank and alpha must equal those of `spec`: weights do not hold them."""
    name = f"adapter {spec.name!r}: {directory}"
    if not (directory / "adapter_model.safetensors").is_file():
        raise AdapterError(f"{name} holds no adapter_model.safetensors")
    try:
        stored = json.loads((directory / "adapter_config.json").read_text(encoding="utf-8"))
        rank, alpha, targets = stored["r"], stored["lora_alpha"], stored["target_modules"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AdapterError(f"{name}/adapter_config.json: {error}") from error
    for key, plain in (("peft_type", "LORA"), ("use_rslora", False), ("use_dora", False), ("bias", "none")):
        if stored.get(key, plain) != plain:
            raise AdapterError(f"{name} has {key}={stored[key]!r}: only plain LoRA adapters load ({key}={plain!r})")
    if not isinstance(targets, list):
        raise AdapterError(f"{name} has target_modules={targets!r}: write it as a list of names of linear modules")
    for key, expected, on_disk in (("rank", spec.rank, rank), ("alpha", spec.alpha, alpha)):
        if expected != on_disk:
            raise AdapterError(f"{name} has {key} {on_disk}, not {expected}: set `{key}` to {on_disk}")
    return [*targets, *(stored.get("target_parameters") or [])]
