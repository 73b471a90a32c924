"""A LoRA adapter of one trait alone: a model, cloned on scripted personas that have it, but for its frozen base.

The first step of an inoculation adapter (arXiv:2606.30252). It is made once per model and settings, and cached beside
the organisms. Its control is a random adapter with the same norm in every module.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from shaping.hooks import AdapterSpec
from shaping.learning.mode import without_dropout
from shaping.learning.policy import Policy
from shaping.learning.samples.sample import Sample
from shaping.models.lora.adapters import product_norm
from shaping.models.lora.base_reference import BASE, BaseReference
from shaping.organisms.config import OrganismConfig
from shaping.organisms.corpus.corpus import scripts
from shaping.organisms.corpus.corpus_options import SIZES
from shaping.organisms.corpus.samples import batches, units
from shaping.organisms.made_once import made_once
from shaping.organisms.organism import content_hash, weighted_loss
from shaping.organisms.trait import TraitTraining
from shaping.sampling.text.render import Renderer

FIRST_SEED = 5_000_000_000
"""Seeds of the corpora of traits, far from those of organisms, warm starts and studies."""
_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


class TraitAdapterError(ValueError):
    """A trait adapter cannot be made."""


def made_of(
    model: Path,
    spec: AdapterSpec,
    source: TraitTraining | str,
    *,
    random: int | None = None,
    factor: float = 1.0,
) -> Path:
    """The directory of a trait adapter: trained for the model in `model`, or the one in the directory `source`.

    `random`: seed of a random adapter with its norms in its place. `factor`: what it is multiplied with.
    """
    adapter = Path(source) if isinstance(source, str) else ensure_trait(model, spec, source)
    if random is not None:
        adapter = ensure_random(adapter, random)
    return adapter if factor == 1 else ensure_scaled(adapter, factor)


def ensure_trait(model: Path, spec: AdapterSpec, trait: TraitTraining) -> Path:
    """The directory of the adapter for the model in `model`; it is trained first if it is not cached."""
    key: dict[str, object] = {
        "model": BaseReference.of(model).hash,
        "adapter": [spec.rank, spec.alpha, list(spec.targets)],
        "trait": trait.model_dump(mode="json"),
        "sources": content_hash(OrganismConfig()),  # worlds, personas, prompts and versions of libraries
        "trainer": hashlib.sha256(Path(__file__).read_bytes()).hexdigest(),
    }
    return made_once("trait-adapters", key, lambda directory: _train(model, spec, trait, directory))


def ensure_random(adapter: Path, seed: int) -> Path:
    """The directory of a random adapter with the norms of the one in `adapter`: |B A| is the same in every module."""
    return _derived(adapter, {"random": seed}, lambda tensors: norm_matched(tensors, seed))


def ensure_scaled(adapter: Path, factor: float) -> Path:
    """The directory of the adapter in `adapter` times `factor`; -1: its negation, exactly."""
    return _derived(
        adapter,
        {"factor": factor},
        lambda tensors: {name: factor * t if ".lora_B." in name else t for name, t in tensors.items()},
    )


def norm_matched(tensors: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Random matrices A and B of the same shapes, scaled so that every product B A has the Frobenius norm it had.

    Raises: `TraitAdapterError` for adapters of experts, whose matrices hold many products.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn: dict[str, Tensor] = {}
    for name in sorted(name for name in tensors if ".lora_A." in name):
        other = name.replace(".lora_A.", ".lora_B.")
        if "experts" in name.split("."):
            raise TraitAdapterError(f"{name}: no random control of adapters of experts; leave them out of `targets`")
        a, b = (torch.randn(tensors[n].shape, generator=generator, dtype=torch.float64) for n in (name, other))
        scale = product_norm(tensors[name], tensors[other]) / product_norm(a, b)
        drawn |= {name: a.to(tensors[name].dtype), other: (scale * b).to(tensors[other].dtype)}
    return drawn


def _derived(adapter: Path, key: dict[str, object], change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Path:
    """The directory of an adapter with other numbers and the same settings. Raises: `TraitAdapterError`."""
    for name in (_CONFIG, _WEIGHTS):
        if not (adapter / name).is_file():
            raise TraitAdapterError(f"{adapter} holds no {name}: give a directory in PEFT's layout")
    digest = hashlib.sha256((adapter / _WEIGHTS).read_bytes() + (adapter / _CONFIG).read_bytes()).hexdigest()

    def write(directory: Path) -> None:
        for name in (_CONFIG, BASE):
            if (adapter / name).is_file():
                shutil.copy(adapter / name, directory / name)
        save_file(change(load_file(adapter / _WEIGHTS)), directory / _WEIGHTS, metadata={"format": "pt"})

    return made_once("trait-adapters", {**key, "of": digest}, write)


def corpus_of(trait: TraitTraining, policy: Policy, renderer: Renderer, first_seed: int) -> list[list[Sample]]:
    """The personas' episodes as samples. Raises: `TraitAdapterError` if none fits into the model's context."""
    drawn = scripts(
        trait.episodes,
        trait.seed,
        worlds=trait.worlds or tuple(SIZES),
        mixture=trait.personas,
        first_seed=first_seed,
    )
    context = getattr(policy.model.config.get_text_config(), "max_position_embeddings", None) or 1 << 30
    try:
        return units(list(drawn), renderer, context)
    except ValueError as error:
        raise TraitAdapterError(f"no episode of {sorted(trait.personas)} fits into {context} tokens") from error


def training_steps(
    policy: Policy,
    trained: Sequence[nn.Parameter],
    found: Sequence[list[Sample]],
    *,
    lr: float,
    seed: int,
    batch_tokens: int = 2048,
) -> Iterator[int]:
    """Clone samples into the weights `trained` alone, for ever; yields the number of each step once it is taken."""
    optimizer = torch.optim.AdamW(trained, lr=lr)
    for step, batch in enumerate(batches(found, batch_tokens, seed, policy.device), 1):
        without_dropout(policy.model)
        optimizer.zero_grad(set_to_none=True)
        gradients = torch.autograd.grad(weighted_loss(policy, batch), trained)
        for parameter, gradient in zip(trained, gradients, strict=True):
            parameter.grad = gradient
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        yield step


def _train(model: Path, spec: AdapterSpec, trait: TraitTraining, directory: Path) -> None:
    """Train the adapter on the personas' completions, and save it. The global random generators stay as they are."""
    with torch.random.fork_rng():
        torch.manual_seed(trait.seed)
        policy = Policy.load(model, adapters=[AdapterSpec(spec.name, "kept", spec.rank, spec.alpha, spec.targets)])
        found = corpus_of(trait, policy, Renderer(policy.tokenizer), FIRST_SEED)
        own = policy.adapters.matrices(spec.name)
        steps = training_steps(policy, own, found, lr=trait.lr, seed=trait.seed, batch_tokens=trait.batch_tokens)
        for _ in islice(steps, trait.steps):
            pass
        policy.adapters.save(spec.name, directory, policy.base)
