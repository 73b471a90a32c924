"""Training of preference models, by one of three objectives (arXiv:2112.00861, sections 3 and 4).

- imitation: -log p(what was said) of good answers; the score is the mean log-prob per token.
- binary: -log sigmoid(r) of good answers and -log sigmoid(-r) of bad ones, each by itself.
- ranked: -log sigmoid(r_better - r_worse) of pairs (Bradley-Terry).

Pairs are trained by TRL's RewardTrainer. It takes nothing but pairs and has no other loss, so that the other two run on
the trainer beneath it. torch and transformers are imported in functions: whoever lists the rewards imports this module.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from rewards.preference.data import Answer, Examples, PreferenceError
from rewards.preference.model import (
    Card,
    Objective,
    Scorer,
    context_of,
    load_model,
    load_tokenizer,
    pad_of,
    padded,
)
from rewards.preference.text import Ids, Reads

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

OnStep = Callable[[int, float, float], None]
IGNORED = -100
"""Label of tokens that are not in the loss."""
SMALL = 20_000_000
"""Parameters below which a model is an organism, which learns at higher rates."""
_RATES = {(True, False): 1e-3, (True, True): 3e-3, (False, False): 1e-5, (False, True): 2e-4}
"""(small, LoRA) -> learning rate."""


class PreferenceTraining(BaseModel):
    """How a preference model is trained on some examples."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    objective: Objective = Field("ranked", description="imitation, binary or ranked")
    epochs: float = Field(1.0, gt=0, le=1000, description="passes over the examples")
    steps: int | None = Field(None, ge=1, le=10_000_000, description="optimiser steps, in place of epochs")
    batch_size: int = Field(16, ge=1, le=100_000, description="pairs, or answers, of one optimiser step")
    micro_batch: int = Field(8, ge=1, le=100_000, description="pairs, or answers, of one forward pass")
    lr: float | None = Field(
        None, gt=0, le=10, description="peak learning rate; none: 1e-3 for models of organisms' size, 1e-5 for others"
    )
    lora_rank: int | None = Field(
        None, ge=1, le=10_000, description="rank of a LoRA adapter, merged at the end; none: all weights train"
    )
    max_length: int | None = Field(
        None, ge=16, le=100_000_000, description="leave out examples with longer answers; none: the model's context"
    )
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="type of forward and backward passes")
    seed: int = Field(0, ge=0, le=2**32 - 1, description="seed of the new head, of the batches and of dropout")


@dataclass(frozen=True, slots=True)
class Trained:
    """A preference model in memory."""

    scorer: Scorer
    examples: int
    """Pairs or answers that it was trained on."""
    left_out: int
    """Those that were too long."""
    tokens: int
    """Tokens of one pass over the examples."""
    loss: float
    """Mean training loss over the last tenth of the steps, in nats."""

    def card(self, examples: Examples, made: dict[str, Any]) -> Card:
        """The card of the model: the scale of its scores is that of its training answers, at most `SCALE` of them."""
        answers = [each.answer for each in examples.as_labels()[:SCALE]]
        scores = self.scorer.scores(answers, longer="cut")
        return Card(
            objective=self.scorer.objective,
            reads=self.scorer.reads,
            worlds=examples.worlds,
            mean=float(scores.mean()),
            deviation=max(float(scores.std()), 1e-12),
            files={},
            made=made,
        )


SCALE = 512
"""Answers of which the mean and the deviation of scores are taken."""


def train(
    start: Path | Scorer,
    examples: Examples,
    settings: PreferenceTraining,
    reads: Reads = "all",
    note: Callable[[str], None] = lambda _: None,
    *,
    device: str | None = None,
    on_step: OnStep = lambda *_: None,
) -> Trained:
    """Train a preference model on `examples`.

    Args:
        start: a model directory, or a preference model to go on with, such as one that was pre-trained on other
            examples: a binary and a ranked one have the same head, so that each can go on as the other.
        examples: what to learn from.
        settings: the objective and the optimiser.
        reads: what of an answer the model reads; with a `Scorer` as `start`, what that one reads.
        note: receives messages for the user.
        device: where it trains, `cpu` or `cuda`; none: a GPU where there is one. A `Scorer` must be there already.
        on_step: receives the number of an optimiser step, from 0, with its loss in nats and its learning rate.
    Raises: `PreferenceError` if the examples do not fit the objective or the model.
    """
    import torch

    torch.manual_seed(settings.seed)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if isinstance(start, Scorer):
        if (start.objective == "imitation") != (settings.objective == "imitation"):
            raise PreferenceError(
                f"a model of objective {start.objective} cannot go on as {settings.objective}: imitation has no head"
            )
        model, tokenizer, reads = start.model, start.tokenizer, start.reads
    else:
        tokenizer = load_tokenizer(start)
        model = load_model(start, settings.objective, device, trains=True)
    scorer = Scorer(model, tokenizer, settings.objective, reads)
    model.config.get_text_config().pad_token_id = model.config.pad_token_id = pad_of(tokenizer)
    limit = min(filter(None, (settings.max_length, context_of(model))), default=10**9)
    rows, left_out, tokens = _rows(scorer, examples, limit)
    if left_out:
        note(f"{left_out} of {len(rows) + left_out} examples have answers of more than {limit} tokens and are left out")
    if not rows:
        raise PreferenceError(f"every example has an answer of more than {limit} tokens: raise max_length")
    losses = _run(scorer, rows, settings, device, on_step)
    scorer.model.eval()
    return Trained(scorer, len(rows), left_out, tokens, float(np.mean(losses[-max(1, len(losses) // 10) :])))


def _rows(scorer: Scorer, examples: Examples, limit: int) -> tuple[list[dict[str, Any]], int, int]:
    """(rows of the objective's data set, examples that are too long, tokens in all rows)."""
    if scorer.objective == "ranked":
        if not examples.pairs:
            raise PreferenceError("ranked needs pairs, and these examples are labels: choose binary or imitation")
        groups: Sequence[tuple[Answer, ...]] = [(pair.better, pair.worse) for pair in examples.pairs]
        goods = [True] * len(groups)
    else:
        labelled = examples.as_labels()
        if len({each.good for each in labelled}) == 1:
            raise PreferenceError(
                f"{scorer.objective} needs good answers and bad ones, and all of these are of one class"
            )
        if scorer.objective == "imitation":
            labelled = [each for each in labelled if each.good]
        groups = [(each.answer,) for each in labelled]
        goods = [each.good for each in labelled]
    rows, tokens = [], 0
    for answers, good in zip(groups, goods, strict=True):
        ids = [scorer.transcriber.ids(answer) for answer in answers]
        if max(len(each.ids) for each in ids) <= limit:
            rows.append(_row(scorer.objective, ids, good))
            tokens += sum(len(each.ids) for each in ids)
    return rows, len(groups) - len(rows), tokens


def _row(objective: Objective, ids: Sequence[Ids], good: bool) -> dict[str, Any]:
    if objective == "ranked":
        better, worse = ids
        return {"chosen_ids": better.ids.tolist(), "rejected_ids": worse.ids.tolist()}
    labels = float(good) if objective == "binary" else np.where(ids[0].said, ids[0].ids, IGNORED).tolist()
    return {"input_ids": ids[0].ids.tolist(), "labels": labels}


def binary_loss(scores: Tensor, good: Tensor, items: Tensor | int | None = None) -> Tensor:
    """Sum over answers of -log sigmoid(r) of good ones and -log sigmoid(-r) of bad ones, over `items` (default: all).

    `scores` and `good` (1 or 0) have shape [answers]; in nats.
    """
    from torch.nn import functional

    total = functional.binary_cross_entropy_with_logits(scores.float(), good.float(), reduction="sum")
    return total / (len(scores) if items is None else items)


def _run(
    scorer: Scorer, rows: list[dict[str, Any]], settings: PreferenceTraining, device: str, on_step: OnStep
) -> list[float]:
    """Train the model of `scorer` in place, and return the losses of the optimiser steps that were logged."""
    from datasets import Dataset
    from transformers import PrinterCallback, Trainer, TrainingArguments

    model = scorer.model
    model.train()
    data = Dataset.from_list(rows)
    trained: Any = model if settings.lora_rank is None else _adapted(model, settings)
    with tempfile.TemporaryDirectory() as scratch:
        arguments = _arguments(settings, model, scratch, device)
        if settings.objective == "ranked":
            trl = _trl()
            trainer: Any = trl.RewardTrainer(
                model=trained,
                args=trl.RewardConfig(max_length=None, **arguments),
                train_dataset=data,
                processing_class=scorer.tokenizer,
            )
        else:
            trainer = Trainer(
                model=trained,
                args=TrainingArguments(**arguments),
                train_dataset=data,
                data_collator=_Collator(pad_of(scorer.tokenizer), settings.objective),
                compute_loss_func=_binary if settings.objective == "binary" else None,
            )
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(_told(on_step))
        trainer.train()
        kept = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    scorer.model = kept.merge_and_unload() if settings.lora_rank is not None else kept
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry] or [float("nan")]


def _told(on_step: OnStep) -> Any:
    """A callback of the trainer that tells of every optimiser step."""
    from transformers import TrainerCallback

    class Told(TrainerCallback):
        def on_log(
            self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any
        ) -> None:
            if logs is not None and "loss" in logs:
                on_step(state.global_step - 1, logs["loss"], logs["learning_rate"])

    return Told()


def _binary(outputs: Any, labels: Tensor, num_items_in_batch: Tensor | int | None = None) -> Tensor:
    return binary_loss(outputs.logits[:, 0], labels, num_items_in_batch)


@dataclass(frozen=True, slots=True)
class _Collator:
    """Rows to a batch of tensors, padded on the right."""

    pad: int
    objective: Objective

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        import torch

        batch = padded([np.asarray(row["input_ids"], np.int64) for row in rows], self.pad)
        if self.objective == "binary":
            return {**batch, "labels": torch.tensor([row["labels"] for row in rows])}
        labels = padded([np.asarray(row["labels"], np.int64) for row in rows], IGNORED)["input_ids"]
        return {**batch, "labels": labels}


def _adapted(model: PreTrainedModel, settings: PreferenceTraining) -> Any:
    from peft import LoraConfig, get_peft_model

    head = {"task_type": "CAUSAL_LM"} if settings.objective == "imitation" else {"task_type": "SEQ_CLS"}
    rank = settings.lora_rank or 1
    return get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", **head))


def _trl() -> Any:
    try:
        import trl
    except ImportError as error:
        raise PreferenceError(
            f"ranked preference models need the extra trl: pip install 'shaping[trl]' ({error})"
        ) from error
    return trl


def _arguments(settings: PreferenceTraining, model: PreTrainedModel, scratch: str, device: str) -> dict[str, Any]:
    """The settings of the trainers."""
    micro = min(settings.micro_batch, settings.batch_size)
    size = sum(parameter.numel() for parameter in model.parameters())
    rate = settings.lr or _RATES[size < SMALL, settings.lora_rank is not None]
    return {
        "output_dir": scratch,
        "num_train_epochs": settings.epochs,
        "max_steps": settings.steps or -1,
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": -(-settings.batch_size // micro),
        "learning_rate": rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.05,
        "weight_decay": 0.01,
        "max_grad_norm": 1.0,
        "gradient_checkpointing": size >= SMALL,
        "use_cpu": device == "cpu",
        "bf16": settings.dtype == "bfloat16",
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "logging_strategy": "steps",
        "logging_steps": 1,
        "remove_unused_columns": False,
        "seed": settings.seed,
    }
