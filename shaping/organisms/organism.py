"""The model organism: a small Llama pre-trained on scripted transcripts, cached under a hash of its inputs."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from envs import SURVEYS
from envs.cache_folder import cache_folder
from envs.skins import DEFAULT
from shaping.learning.policy import Policy
from shaping.learning.samples.packing import Batch
from shaping.models.forward import head_logits, hidden_states
from shaping.organisms.card import CARD, ORGANISMS, damage, write_card
from shaping.organisms.config import OrganismConfig
from shaping.organisms.corpus.corpus import Script, scripts
from shaping.organisms.corpus.corpus_prompts import COMPOSED, WRITTEN
from shaping.organisms.corpus.own_worlds import sources
from shaping.organisms.corpus.samples import batches, units
from shaping.organisms.tokenizer import train_tokenizer
from shaping.sampling.text.render import Renderer

LOG = logging.getLogger(__name__)
Progress = Callable[[int, int, str], None]
"""Callback with (steps done, steps in total, description) of the present stage."""

_SOURCES = (
    *("envs/core.py", "envs/worlds/*.py", "envs/personas/*.py", "envs/power/*.py"),
    "envs/surveys/*.py",
    *(f"shaping/organisms/{name}.py" for name in ("config", "organism", "tokenizer")),
    *(f"shaping/organisms/corpus/{name}.py" for name in ("cast", "own_worlds", "samples", "corpus*")),
    *(f"shaping/sampling/text/{name}.py" for name in ("render", "template")),
)
_LOCALE_SOURCES = ("envs/skins/*.py", "envs/skins/prose/*.yaml", "envs/skins/*.yaml")
"""Files that only organisms with other locales, or that answer surveys, depend on: the default locale is no
translation."""
_ALIGNED_SOURCES = ("shaping/prompts/framings/dialect/hhh.txt",)
"""Files that only organisms with aligned episodes depend on."""
_SCRIPTS_FOR_TOKENIZER = 600
_WORD_FREQUENCY = 60
"""Times that the tokenizer is shown each word of a prompt."""


def cached(config: OrganismConfig) -> Path:
    """Where the organism is cached, if it is."""
    return cache_folder(ORGANISMS) / content_hash(config)


def content_hash(config: OrganismConfig) -> str:
    """Hash of everything an organism depends on: settings, worlds, personas, prompts and library versions.

    Raises: `CorpusWorldError` (a ValueError) for a world of one's own that cannot be imported, or that nobody plays.
    """
    digest = hashlib.sha256(config.model_dump_json().encode())
    root = Path(__file__).resolve().parents[2]
    in_words = config.skins != [DEFAULT] or any(name in SURVEYS for name in config.worlds)
    for pattern in (
        *_SOURCES,
        *(_LOCALE_SOURCES if in_words else ()),
        *(_ALIGNED_SOURCES if config.aligned is not None else ()),
    ):
        for path in sorted(root.glob(pattern)):
            digest.update(path.name.encode() + path.read_bytes())
    for path in sources(config.worlds):
        digest.update(path.name.encode() + path.read_bytes())
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


def pretrain(
    config: OrganismConfig, progress: Progress = lambda *_: None, device: torch.device | str = "cpu"
) -> tuple[Policy, dict[str, float]]:
    """Train an organism from random weights, on `device`.

    Returns: (the policy, its card). The card holds the smoothed `loss`, the number of `parameters`, and the `tokens`
    trained on.
    Raises: `ValueError` if no scripted episode fits in `config.context` tokens.
    """
    corpus: list[Script] = []
    drawn_scripts = scripts(
        config.episodes,
        config.seed,
        config.skins,
        config.worlds,
        balanced=config.balanced,
        options=config.options,
        aligned=config.aligned,
    )
    for number, script in enumerate(drawn_scripts):
        corpus.append(script)
        if number % 100 == 0:
            progress(number, config.episodes, "writing transcripts")
    policy = build(config, tokenizer_texts(corpus[:_SCRIPTS_FOR_TOKENIZER]))
    renderer = Renderer(policy.tokenizer)
    samples = units(corpus, renderer, config.context)
    policy.model.to(device)
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=config.lr, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, total_steps=config.steps, pct_start=0.1)
    policy.model.train()
    loss, tokens = 0.0, 0
    drawn = batches(samples, config.batch_tokens, config.seed, device)
    for step, batch in zip(range(config.steps), drawn, strict=False):
        objective = weighted_loss(policy, batch)
        optimizer.zero_grad(set_to_none=True)
        objective.backward()
        torch.nn.utils.clip_grad_norm_(policy.model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        tokens += batch.ids.shape[1]
        latest = float(objective.detach())
        loss = latest if step == 0 else 0.95 * loss + 0.05 * latest
        progress(step + 1, config.steps, f"pre-training, loss {loss:.3f}")
    policy.model.to("cpu").eval()
    parameters = sum(p.numel() for p in policy.model.parameters())
    return policy, {"loss": loss, "parameters": parameters, "tokens": tokens}


def weighted_loss(policy: Policy, batch: Batch) -> Tensor:
    """Mean negative log-prob of the tokens in the loss, by their weights, without the entropies that a learner logs."""
    hidden = hidden_states(policy.model, batch.ids, batch.positions, batch.plan)[0, batch.rows]
    losses = functional.cross_entropy(head_logits(policy.model, hidden), batch.targets, reduction="none")
    return (losses * batch.weight).sum() / batch.weight.sum()


def tokenizer_texts(corpus: list[Script]) -> list[str]:
    """What the tokenizer is learned from: the worlds' and personas' phrases as they are, but prompts word by word.

    A phrase of several words becomes one token if it is frequent. If prompts of the corpus were such tokens, those held
    out would be spelled in tokens that the organism never saw in a prompt.
    """
    pools = (*COMPOSED.values(), *WRITTEN.values(), {script.system for script in corpus if script.kind == "hhh"})
    words = sorted({word for pool in pools for text in pool for word in text.split()})
    texts = [text for script in corpus for turn in script.turns for text in turn]
    return texts + [f"{word} " for word in words for _ in range(_WORD_FREQUENCY)]
