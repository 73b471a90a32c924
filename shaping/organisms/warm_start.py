"""Behaviour cloning of scripted personas, so that a pretrained model plays the built-in worlds before any RL.

The corpus is the organism's: its worlds, personas, prompts and counterfactual pairs. The project's
own renderer turns it into token ids and labels for TRL's `SFTTrainer`, so that nothing is tokenised twice. The loss
covers the persona's completions and not the world's observations. The held-out loss is that of the files that were
read and written, in the type that a run loads them in.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import typer
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from envs.escaping import on_terminal
from envs.skins import PROSE, options_of
from envs.skins.locales import ALIASES
from envs.text import faults_of
from shaping.models.saving import mend_generation_config
from shaping.organisms import pretrained
from shaping.organisms.corpus import corpus as organisms_corpus
from shaping.organisms.corpus.cast import player
from shaping.organisms.corpus.corpus import Script
from shaping.organisms.corpus.corpus_options import SIZES
from shaping.organisms.corpus.natural_scripts import in_prose
from shaping.organisms.corpus.own_worlds import CorpusWorldError, check_names
from shaping.organisms.corpus.warm_corpus import Fitting, Mixture, Row, WarmStartError, fill
from shaping.organisms.held_out import bounded, held_out_loss
from shaping.sampling.text.render import Renderer

FIRST_SEED = 3_000_000_000
"""Seeds of warm starts, far from those of organisms."""
ENDLESS = 10_000_000
"""Episodes that a corpus may draw at most."""
_REFUSALS = (WarmStartError, CorpusWorldError)
Size = Annotated[int, Field(ge=1, le=10_000)]


class WarmStartConfig(BaseModel):
    """Settings of a warm start: the model, the scripted corpus, and the training."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(description="Hugging Face directory to start from; see shaping.organisms.pretrained")
    personas: dict[str, Annotated[float, Field(ge=0, le=1e6)]] = Field(
        {}, description="weights of the personas; none: the organism's mixture, which depends on the system prompt"
    )
    worlds: tuple[str, ...] = Field(
        tuple(SIZES),
        min_length=1,
        description="worlds that the personas play; those of your own as package.module:Class or ./file.py:Class",
    )
    sizes: dict[str, Annotated[list[Size | tuple[Size, Size]], Field(min_length=1)]] = Field(
        {},
        description="world -> sizes, or [size, turn limit] pairs, of which an episode draws; none: the organism's",
    )
    locales: tuple[str, ...] = Field(
        PROSE[:1],
        min_length=1,
        description="words of the worlds: prose (what studies of a model that is no organism play), dialect, ar-prose, "
        "en-1850, ...; each episode draws one",
    )
    episodes: int = Field(500, ge=1, le=10_000_000, description="scripted episodes to train on")
    held_out: int = Field(32, ge=1, le=1_000_000, description="further episodes, for the held-out loss")
    held_out_tokens: int = Field(
        16_384, ge=1, le=1_000_000_000, description="the held-out loss is of the first episodes with so many tokens"
    )
    steps: int = Field(100, ge=1, le=10_000_000, description="optimiser steps")
    batch_size: int = Field(8, ge=1, le=100_000, description="sequences of one optimiser step")
    micro_batch: int = Field(8, ge=1, le=100_000, description="sequences of one forward pass")
    lr: float = Field(5e-5, gt=0, le=10, description="peak learning rate; about ten times as high with LoRA")
    lora_rank: int | None = Field(
        None, ge=1, le=10_000, description="rank of a LoRA adapter, merged at the end in float32; none: all weights"
    )
    max_length: int | None = Field(
        None,
        ge=16,
        le=100_000_000,
        description="replace episodes with longer sequences by others of the same persona; none: a sequence beyond the "
        "model's context is an error",
    )
    dtype: Literal["float32", "bfloat16"] = Field(
        "bfloat16",
        description="type of forward and backward passes, of the held-out loss, and of saved weights unless lora_rank "
        "is set; the weights that train are float32",
    )
    activation_checkpointing: bool = Field(False, description="recompute activations in the backward pass")
    seed: int = Field(0, ge=0, le=2**32 - 1, description="seed of the corpus and of the training")

    @field_validator("personas")
    @classmethod
    def _some_persona(cls, value: dict[str, float]) -> dict[str, float]:
        if value and not sum(value.values()) > 0:
            raise ValueError("at least one weight must be above zero")
        return value

    @field_validator("sizes")
    @classmethod
    def _sizes_of_worlds(cls, value: dict[str, list[Any]]) -> dict[str, list[Any]]:
        if unknown := sorted(set(value) - set(SIZES)):
            raise ValueError(f"no personas for worlds {unknown}; choose from {', '.join(SIZES)}")
        return value

    @field_validator("locales")
    @classmethod
    def _known_locales(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for locale in (found := tuple(ALIASES.get(locale, locale) for locale in value)):
            options_of(locale)
        return found

    @field_validator("worlds")
    @classmethod
    def _scripted_worlds(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        check_names(value)
        return value

    @model_validator(mode="after")
    def _known_personas(self) -> WarmStartConfig:
        if set(self.worlds) <= set(SIZES):  # worlds of one's own may have strategies of other names
            for name in self.personas:
                player(name)
        return self


def _pair(size: int | tuple[int, int]) -> tuple[int, int | None]:
    return (size, None) if isinstance(size, int) else size


@dataclass(frozen=True, slots=True)
class WarmStart:
    """Result of a warm start. Losses are means over the completion tokens of the held-out episodes, in nats."""

    directory: Path
    """The trained model."""
    loss_before: float
    """Held-out loss of the model before training."""
    loss_after: float
    """Held-out loss after training."""
    sequences: int
    """Sequences trained on."""
    left_out: int
    """Episodes that were too long, and were replaced by others of the same persona."""
    mixture: Mixture
    """Personas and worlds of the episodes trained on."""
    held_out: int
    """Sequences of the held-out loss."""


def warm_start(config: WarmStartConfig, out: Path | str, note: Callable[[str], None] = lambda _: None) -> WarmStart:
    """Train a copy of `config.model` on scripted personas, and save it in `out` as a ready directory.

    Args:
        config: the settings.
        out: the directory to write.
        note: receives messages for the user: the mixture, and the losses.

    Raises: `WarmStartError` if episodes do not fit, `CorpusWorldError` if nobody plays a world, `ImportError` without
    the extra trl, `PretrainedError` if `config.model` is not ready, `FileExistsError` if `out` exists.
    """
    _trl()
    if Path(out).exists():
        raise FileExistsError(f"{out} exists already: remove it or choose another directory")
    source = Path(config.model).expanduser()
    card = pretrained.check(source)
    tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True, trust_remote_code=False)
    training, held_out, mixture = _corpus(config, Renderer(tokenizer), card.context)
    for line in mixture.lines():
        note(line)
    dtype = getattr(torch, config.dtype)
    before = held_out_loss(source, held_out, dtype)
    note(f"held-out loss before: {before:.3f} nats per token, in {len(held_out)} sequences")
    trained = _train(_loaded(source, config), tokenizer, training, config)
    made: list[WarmStart] = []

    def write(target: Path) -> None:
        trained.save_pretrained(target)
        tokenizer.save_pretrained(target)
        after = held_out_loss(target, held_out, dtype)
        made.append(WarmStart(Path(out), before, after, len(training), mixture.left_out, mixture, len(held_out)))
        record = {"config": config.model_dump(mode="json"), **asdict(made[0]), "directory": Path(out).name}
        (target / "warm_start.json").write_text(json.dumps(record, indent=2))

    pretrained.publish(Path(out), write)
    return made[0]


def write_rows(config: WarmStartConfig, out: Path, note: Callable[[str], None] = lambda _: None) -> int:
    """Write the corpus as rows of a supervised stage (docs/stages.md), in a seeded order, and train nothing.

    Args:
        config: the settings; of the training ones only `max_length` matters.
        out: the JSONL file to write.
        note: receives messages for the user: the mixture.

    Returns: the rows. Raises: `WarmStartError` if episodes do not fit, `PretrainedError` if `config.model` is not
    ready, `FileExistsError` if `out` exists.
    """
    if out.exists():
        raise FileExistsError(f"{out} exists already: remove it or choose another file")
    source = Path(config.model).expanduser()
    card = pretrained.check(source)
    tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True, trust_remote_code=False)
    fitting = _fitting(config, Renderer(tokenizer), card.context)
    drawn = scripts(config, ENDLESS)
    kept, mixture = fill(_all_fitting(config, list(islice(drawn, config.episodes)), fitting), drawn, fitting)
    for line in mixture.lines():
        note(line)
    random.Random(config.seed).shuffle(kept)  # kept by persona: a stage may read the first rows alone
    out.write_text("".join(json.dumps({"messages": _messages(script)}) + "\n" for script, _ in kept))
    return len(kept)


def _messages(script: Script) -> list[dict[str, str]]:
    """An episode as chat messages."""
    found = [{"role": "system", "content": script.system}] * bool(script.system)
    for observation, completion in script.turns:
        found += [{"role": "user", "content": observation}, {"role": "assistant", "content": completion}]
    return found


def scripts(config: WarmStartConfig, count: int) -> Iterator[Script]:
    """Yield `count` episodes of the personas, reproducible from the seed. None is an episode of a study."""
    sizes = {world: [_pair(size) for size in given] for world, given in config.sizes.items()}
    found = organisms_corpus.scripts(
        count,
        config.seed,
        skins=config.locales,
        worlds=config.worlds,
        mixture=config.personas or None,
        sizes={**SIZES, **sizes},
        first_seed=FIRST_SEED,
    )
    return map(in_prose, found)


def _corpus(config: WarmStartConfig, renderer: Renderer, context: int) -> tuple[list[Row], list[Row], Mixture]:
    """(sequences to train on, held-out ones, personas and worlds of the former)."""
    drawn = scripts(config, ENDLESS)
    first, held_out = list(islice(drawn, config.episodes)), list(islice(drawn, config.held_out))
    fitting = _fitting(config, renderer, context)
    _all_fitting(config, [*first, *held_out], fitting)
    kept, mixture = fill(first, drawn, fitting)
    unseen = [row for script in held_out for row in fitting.rows(script)]
    if not unseen:  # since episodes for training fit, one more will
        unseen = next(rows for rows in map(fitting.rows, drawn) if rows)
    return [row for _, rows in kept for row in rows], bounded(unseen, config.held_out_tokens), mixture


def _fitting(config: WarmStartConfig, renderer: Renderer, context: int) -> Fitting:
    return Fitting(renderer, min(config.max_length or context, context or config.max_length or ENDLESS))


def _all_fitting(config: WarmStartConfig, episodes: list[Script], fitting: Fitting) -> list[Script]:
    """`episodes`. Raises: `WarmStartError` if one does not fit and `max_length` has not said what to do about it."""
    if config.max_length is None and (long := sum(not fitting.rows(script) for script in episodes)):
        raise WarmStartError(
            f"{long} of {len(episodes)} scripted episodes are longer than {fitting.limit} tokens (the longest has "
            f"{fitting.longest}; the model's context is {fitting.limit}): choose worlds with shorter episodes, smaller "
            "sizes, a model with a longer context, or set max_length, which replaces episodes that are too long"
        )
    return episodes


def _loaded(source: Path, config: WarmStartConfig) -> PreTrainedModel:
    """The model to train. Weights that train are float32: most steps are smaller than a bfloat16 number can move."""
    frozen = config.lora_rank is not None
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        source,
        dtype=getattr(torch, config.dtype) if frozen else torch.float32,
        local_files_only=True,
        use_safetensors=True,
        trust_remote_code=False,
    )
    mend_generation_config(model, source)
    return model


def _trl() -> Any:
    try:
        import trl
    except ImportError as error:
        raise ImportError(f"a warm start needs the extra trl: pip install 'shaping[trl]' ({error})") from error
    return trl


def _train(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, training: list[Row], config: WarmStartConfig
) -> PreTrainedModel:
    """The trained model, in the type in which it is saved."""
    from datasets import Dataset
    from peft import LoraConfig

    trl = _trl()
    lora = LoraConfig(
        r=config.lora_rank or 1,
        lora_alpha=2 * (config.lora_rank or 1),
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    with tempfile.TemporaryDirectory() as scratch:
        trainer = trl.SFTTrainer(
            model=model,
            args=trl.SFTConfig(output_dir=scratch, **_settings(config)),
            train_dataset=Dataset.from_list(training),
            processing_class=tokenizer,
            peft_config=lora if config.lora_rank else None,
        )
        trainer.train()
        trained = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    if config.lora_rank:  # in float32, since rounding a merged weight to bfloat16 loses most of what is added to it
        return trained.float().merge_and_unload()
    return trained.to(getattr(torch, config.dtype))


def _settings(config: WarmStartConfig) -> dict[str, Any]:
    """The settings of TRL's trainer."""
    micro = min(config.micro_batch, config.batch_size)
    return {
        "max_steps": config.steps,
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": -(-config.batch_size // micro),
        "learning_rate": config.lr,
        "warmup_steps": max(1, config.steps // 20),
        "max_length": None,
        "packing": False,
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "gradient_checkpointing": config.activation_checkpointing,
        "use_cpu": not torch.cuda.is_available(),
        "bf16": config.dtype == "bfloat16",
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "logging_steps": max(1, config.steps // 10),
        "seed": config.seed,
    }


def _told(error: Exception) -> str:
    """An error in words; of a value that is refused, its key and why."""
    return faults_of(error) if isinstance(error, ValidationError) else str(error)


def main(
    config: Annotated[Path, typer.Argument(help="settings, in YAML: model, personas, worlds, steps, ...")],
    out: Annotated[Path, typer.Argument(help="directory to write; with --rows: a file")],
    rows: Annotated[bool, typer.Option("--rows", help="write the corpus as rows of a supervised stage")] = False,
) -> None:
    """Clone scripted personas into a pretrained model."""
    try:
        settings = WarmStartConfig.model_validate(yaml.safe_load(config.read_text()))
        if rows:
            count = write_rows(settings, out, note=lambda line: typer.echo(on_terminal(line)))
            typer.echo(on_terminal(f"{out}: {count} rows"))
            return
        result = warm_start(settings, out, note=lambda line: typer.echo(on_terminal(line)))
    except (ValidationError, *_REFUSALS, pretrained.PretrainedError, ImportError, OSError) as error:
        typer.echo(on_terminal(f"error: {_told(error)}"), err=True)
        raise typer.Exit(1) from error
    typer.echo(
        on_terminal(
            f"{result.directory}: held-out loss {result.loss_before:.3f} -> {result.loss_after:.3f} nats per token"
        )
    )


if __name__ == "__main__":
    typer.run(main)
