"""The model organism: a small Llama pre-trained on scripted transcripts, cached under a hash of its inputs."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from envs.skins import DEFAULT
from shaping.learning.packing import Batch, pack
from shaping.learning.policy import Policy
from shaping.learning.sample import Sample
from shaping.organisms.card import CARD, damage, write_card
from shaping.organisms.config import OrganismConfig
from shaping.organisms.corpus import Script, scripts
from shaping.organisms.tokenizer import train_tokenizer
from shaping.sampling.render import Renderer

LOG = logging.getLogger(__name__)
Progress = Callable[[int, int, str], None]
"""Callback with (steps done, steps in total, description) of the present stage."""

_SOURCES = (
    *("envs/core.py", "envs/power/steward.py"),
    *(f"envs/personas/{name}.py" for name in ("persona", "clerk", "steward", "nightwatch")),
    *(f"envs/worlds/{name}.py" for name in ("base", "clerk", "steward", "nightwatch")),
    *(f"shaping/organisms/{name}.py" for name in ("config", "corpus", "corpus_prompts", "organism", "tokenizer")),
    "shaping/sampling/render.py",
)
_LOCALE_SOURCES = (
    *(f"envs/skins/{name}.py" for name in ("locales", "skin", "table")),
    *(f"envs/skins/{name}.yaml" for name in ("frame", "clerk", "steward", "nightwatch")),
)
"""Files that only organisms with other locales depend on: the default locale is not a translation."""
_SCRIPTS_FOR_TOKENIZER = 600


def cache_directory() -> Path:
    """Directory of cached organisms: below $SHAPING_CACHE, or below the user's cache directory."""
    root = os.environ.get("SHAPING_CACHE") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "shaping" / "organisms"


def cached(config: OrganismConfig) -> Path:
    """Where the organism is cached, if it is."""
    return cache_directory() / content_hash(config)


def content_hash(config: OrganismConfig) -> str:
    """Hash of everything an organism depends on: settings, worlds, personas, prompts and library versions."""
    digest = hashlib.sha256(config.model_dump_json().encode())
    root = Path(__file__).resolve().parents[2]
    for name in (*_SOURCES, *(_LOCALE_SOURCES if config.skins != [DEFAULT] else ())):
        digest.update(name.encode() + (root / name).read_bytes())
    for package in ("torch", "transformers", "tokenizers"):
        digest.update(f"{package}=={version(package)}".encode())
    return digest.hexdigest()[:16]


def ensure(config: OrganismConfig, progress: Progress = lambda *_: None) -> Path:
    """Return the directory of the organism; pre-train it first if it is not cached, or no longer has its hashes."""
    path = cached(config)
    if (path / CARD).is_file():
        if not (damaged := damage(path)):
            return path
        LOG.warning("the cached organism %s has changed (%s): it is made again", path, damaged)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".making-") as scratch:
        unpublished = Path(scratch) / "organism"
        policy, card = pretrain(config, progress)
        policy.save(unpublished)
        write_card(unpublished, config, card)
        if not damage(path):  # another process was faster, and its directory may be in use
            return path
        if path.exists():  # damaged, or left over from an interrupted run
            os.replace(path, Path(scratch) / "damaged")
        os.replace(unpublished, path)
    return path


def build(config: OrganismConfig, texts: list[str]) -> Policy:
    """Build an untrained organism with a tokenizer learned from `texts`."""
    tokenizer = train_tokenizer(texts, config.vocabulary)
    torch.manual_seed(config.seed)
    llama = LlamaConfig(
        vocab_size=config.vocabulary,
        hidden_size=config.hidden,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.kv_heads,
        intermediate_size=2 * config.hidden,
        max_position_embeddings=config.context,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Policy(LlamaForCausalLM(llama), tokenizer)


def pretrain(config: OrganismConfig, progress: Progress = lambda *_: None) -> tuple[Policy, dict[str, float]]:
    """Train an organism from random weights.

    Returns: (the policy, its card). The card holds the smoothed `loss`, the number of `parameters`, and the `tokens`
    trained on.
    Raises: `ValueError` if no scripted episode fits in `config.context` tokens.
    """
    corpus: list[Script] = []
    for number, script in enumerate(scripts(config.episodes, config.seed, config.skins)):
        corpus.append(script)
        if number % 100 == 0:
            progress(number, config.episodes, "writing transcripts")
    policy = build(config, _texts(corpus[:_SCRIPTS_FOR_TOKENIZER]))
    renderer = Renderer(policy.tokenizer)
    samples = _fitting([to_sample(script, renderer) for script in corpus], config.context)
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=config.lr, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, total_steps=config.steps, pct_start=0.1)
    policy.model.train()
    loss, tokens = 0.0, 0
    for step, batch in zip(range(config.steps), _batches(samples, config), strict=False):
        logprobs, _ = policy.logprobs(batch)
        objective = -(logprobs * batch.weight).sum() / batch.weight.sum()
        optimizer.zero_grad(set_to_none=True)
        objective.backward()
        torch.nn.utils.clip_grad_norm_(policy.model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        tokens += batch.ids.shape[1]
        latest = float(objective.detach())
        loss = latest if step == 0 else 0.95 * loss + 0.05 * latest
        progress(step + 1, config.steps, f"pre-training, loss {loss:.3f}")
    policy.model.eval()
    parameters = sum(p.numel() for p in policy.model.parameters())
    return policy, {"loss": loss, "parameters": parameters, "tokens": tokens}


def _texts(corpus: list[Script]) -> list[str]:
    texts = [text for script in corpus for turn in script.turns for text in turn]
    return texts + [script.system for script in corpus if script.system]


def _fitting(samples: list[Sample], context: int) -> list[Sample]:
    if fitting := [sample for sample in samples if len(sample) <= context]:
        return fitting
    raise ValueError(
        f"organism.context={context} is too short: the shortest scripted episode has {min(map(len, samples))} tokens; "
        "raise organism.context to that at least"
    )


OBSERVATION_WEIGHT = 0.1
"""Loss weight of the world's tokens: enough to learn to read them, and little enough to learn mainly to act."""


def to_sample(script: Script, renderer: Renderer) -> Sample:
    """Turn a scripted episode into one token sequence; weight 1 on completions, `OBSERVATION_WEIGHT` elsewhere."""
    tokens = renderer.open(script.system, script.turns[0][0])
    weight = [OBSERVATION_WEIGHT] * len(tokens)
    for number, (observation, completion) in enumerate(script.turns):
        if number:
            ids = renderer.extend(observation, finished=True)
            tokens += ids
            weight += [OBSERVATION_WEIGHT] * len(ids)
        ids = [*renderer.plain(completion), renderer.eos]
        tokens += ids
        weight += [1.0] * len(ids)
    zeros = np.zeros(len(tokens), np.float32)
    return Sample(
        tokens=np.array(tokens, np.int64),
        mask=np.ones(len(tokens), np.bool_),
        old_logprobs=zeros,
        advantage=zeros,
        weight=np.array(weight, np.float32),
        masked_tokens=np.zeros((0, 2), np.int64),
    )


def _batches(samples: list[Sample], config: OrganismConfig) -> Iterator[Batch]:
    """Endless epochs of shuffled samples, packed to about `batch_tokens`, or to the whole corpus if it is smaller."""
    rng = np.random.default_rng(config.seed)
    target = min(config.batch_tokens, sum(map(len, samples)))
    while True:
        chosen: list[Sample] = []
        for index in rng.permutation(len(samples)):
            chosen.append(samples[index])
            if sum(map(len, chosen)) >= target:
                yield pack(chosen, sum(map(len, chosen)))[0]
                chosen = []
