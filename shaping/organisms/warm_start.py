"""Behaviour cloning of scripted personas, so that a pretrained model plays the built-in worlds before any RL.

The corpus is the organism's: its worlds, personas, prompts and counterfactual pairs. The project's
own renderer turns it into token ids and labels for TRL's `SFTTrainer`, so that nothing is tokenised twice. The loss
covers the persona's completions and not the world's observations.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import typer
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from envs.escaping import on_terminal
from shaping.models.saving import mend_generation_config
from shaping.organisms import corpus as organisms_corpus
from shaping.organisms import pretrained
from shaping.organisms.cast import player
from shaping.organisms.corpus import Script
from shaping.organisms.corpus_options import SIZES
from shaping.sampling.render import Message, Renderer

FIRST_SEED = 3_000_000_000
"""Seeds of warm starts, far from those of organisms."""
IGNORED = -100
"""Label of tokens that are not in the loss."""


class WarmStartError(ValueError):
    """These settings allow no warm start."""


class WarmStartConfig(BaseModel):
    """Settings of a warm start: the model, the scripted corpus, and the training."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(description="Hugging Face directory to start from; see shaping.organisms.pretrained")
    personas: dict[str, Annotated[float, Field(ge=0, le=1e6)]] = Field(
        {}, description="weights of the personas; none: the organism's mixture, which depends on the system prompt"
    )
    worlds: tuple[str, ...] = Field(tuple(SIZES), min_length=1, description="worlds that the personas play")
    episodes: int = Field(500, ge=1, le=10_000_000, description="scripted episodes to train on")
    held_out: int = Field(32, ge=1, le=1_000_000, description="further episodes, for the held-out loss")
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
        description="leave out longer sequences; none: a sequence beyond the model's context is an error",
    )
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="type of the weights")
    activation_checkpointing: bool = Field(False, description="recompute activations in the backward pass")
    seed: int = Field(0, ge=0, le=2**32 - 1, description="seed of the corpus and of the training")

    @field_validator("personas")
    @classmethod
    def _known_personas(cls, value: dict[str, float]) -> dict[str, float]:
        for name in value:
            player(name)
        if value and not sum(value.values()) > 0:
            raise ValueError("at least one weight must be above zero")
        return value

    @field_validator("worlds")
    @classmethod
    def _scripted_worlds(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := sorted(set(value) - set(SIZES)):
            raise ValueError(f"no personas for worlds {unknown}; choose from {', '.join(SIZES)}")
        return value


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
    """Sequences longer than `max_length`."""


def warm_start(config: WarmStartConfig, out: Path | str) -> WarmStart:
    """Train a copy of `config.model` on scripted personas, and save it in `out` as a ready directory.

    Raises: `WarmStartError` if episodes do not fit, `ImportError` without the extra trl, `PretrainedError` if
    `config.model` is not ready, `FileExistsError` if `out` exists.
    """
    _trl()
    source = Path(config.model).expanduser()
    card = pretrained.check(source)
    tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True)
    renderer = Renderer(tokenizer)
    corpus = list(scripts(config, config.episodes + config.held_out))
    training, left_out = _fitting(corpus[: config.episodes], renderer, config, card.context)
    held_out, _ = _fitting(corpus[config.episodes :], renderer, config, card.context)
    model = AutoModelForCausalLM.from_pretrained(
        source, dtype=getattr(torch, config.dtype), local_files_only=True, use_safetensors=True
    )
    mend_generation_config(model, source)
    trained, before, after = _train(model, tokenizer, training, held_out, config)
    result = WarmStart(Path(out), before, after, len(training), left_out)

    def write(target: Path) -> None:
        trained.save_pretrained(target)
        tokenizer.save_pretrained(target)
        record = {"config": config.model_dump(), **asdict(result), "directory": Path(out).name}
        (target / "warm_start.json").write_text(json.dumps(record, indent=2))

    pretrained.publish(Path(out), write)
    return result


def scripts(config: WarmStartConfig, count: int) -> Iterator[Script]:
    """Yield `count` episodes of the personas, reproducible from the seed. None is an episode of a study."""
    return organisms_corpus.scripts(
        count, config.seed, worlds=config.worlds, mixture=config.personas or None, first_seed=FIRST_SEED
    )


def sequences(script: Script, renderer: Renderer) -> Iterator[dict[str, list[int]]]:
    """Yield an episode as `input_ids` and `labels`.

    An episode is one sequence, or one per turn if the template rewrites earlier turns. Labels are the ids of
    completions and their end-of-turn tokens, and `IGNORED` elsewhere.
    """
    ids: list[int] = []
    labels: list[int] = []
    messages = [Message("system", script.system)] * bool(script.system)
    for number, (observation, completion) in enumerate(script.turns):
        messages.append(Message("user", observation))
        if not renderer.stable:
            ids, labels = [], []
            prompt = renderer.conversation(messages)
        elif number:
            prompt = renderer.extend(observation, finished=True)
        else:
            prompt = renderer.open(script.system, observation)
        reply = [*renderer.plain(completion), renderer.eos]
        messages.append(Message("assistant", completion))
        ids += prompt + reply
        labels += [IGNORED] * len(prompt) + reply
        if not renderer.stable or number == len(script.turns) - 1:
            yield {"input_ids": ids, "labels": labels}


def _fitting(
    corpus: Sequence[Script], renderer: Renderer, config: WarmStartConfig, context: int
) -> tuple[list[dict[str, list[int]]], int]:
    """(sequences that fit, number of sequences left out)."""
    rows = [row for script in corpus for row in sequences(script, renderer)]
    limit = min(config.max_length or context, context)
    fitting = [row for row in rows if len(row["input_ids"]) <= limit]
    longest = max(len(row["input_ids"]) for row in rows)
    if not fitting or (len(fitting) < len(rows) and config.max_length is None):
        raise WarmStartError(
            f"{len(rows) - len(fitting)} of {len(rows)} scripted sequences are longer than {limit} tokens (the longest "
            f"has {longest}; the model's context is {context}): choose worlds with shorter episodes, a model with a "
            "longer context, or set max_length to leave out long sequences"
        )
    return fitting, len(rows) - len(fitting)


def _trl() -> Any:
    try:
        import trl
    except ImportError as error:
        raise ImportError(f"a warm start needs the extra trl: pip install 'shaping[trl]' ({error})") from error
    return trl


def _train(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    training: list[dict[str, list[int]]],
    held_out: list[dict[str, list[int]]],
    config: WarmStartConfig,
) -> tuple[PreTrainedModel, float, float]:
    """(trained model, held-out loss before training, held-out loss after it)."""
    from datasets import Dataset
    from peft import LoraConfig

    trl = _trl()
    micro = min(config.micro_batch, config.batch_size)
    gpu = torch.cuda.is_available()
    lora = LoraConfig(
        r=config.lora_rank or 1,
        lora_alpha=2 * (config.lora_rank or 1),
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    with tempfile.TemporaryDirectory() as scratch:
        trainer = trl.SFTTrainer(
            model=model,
            args=trl.SFTConfig(
                output_dir=scratch,
                max_steps=config.steps,
                per_device_train_batch_size=micro,
                per_device_eval_batch_size=micro,
                gradient_accumulation_steps=-(-config.batch_size // micro),
                learning_rate=config.lr,
                warmup_steps=max(1, config.steps // 20),
                max_length=None,
                packing=False,
                dataset_kwargs={"skip_prepare_dataset": True},
                gradient_checkpointing=config.activation_checkpointing,
                use_cpu=not gpu,
                bf16=gpu and config.dtype == "float32",
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
                logging_steps=max(1, config.steps // 10),
                seed=config.seed,
            ),
            train_dataset=Dataset.from_list(training),
            eval_dataset=Dataset.from_list(held_out),
            processing_class=tokenizer,
            peft_config=lora if config.lora_rank else None,
        )
        before = float(trainer.evaluate()["eval_loss"])
        trainer.train()
        after = float(trainer.evaluate()["eval_loss"])
        trained = trainer.accelerator.unwrap_model(trainer.model)
    # float32: merged into bfloat16 weights most of what the adapter has learned would be rounded away
    return (trained.float().merge_and_unload() if config.lora_rank else trained), before, after


def main(
    config: Annotated[Path, typer.Argument(help="settings, in YAML: model, personas, worlds, steps, ...")],
    out: Annotated[Path, typer.Argument(help="directory to write")],
) -> None:
    """Clone scripted personas into a pretrained model."""
    try:
        result = warm_start(WarmStartConfig.model_validate(yaml.safe_load(config.read_text())), out)
    except (ValidationError, WarmStartError, pretrained.PretrainedError, ImportError, OSError) as error:
        typer.echo(on_terminal(f"error: {error}"), err=True)
        raise typer.Exit(1) from error
    typer.echo(
        on_terminal(
            f"{result.directory}: held-out loss {result.loss_before:.3f} -> {result.loss_after:.3f} nats per token"
        )
    )


if __name__ == "__main__":
    typer.run(main)
