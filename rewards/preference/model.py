"""A preference model on disk and in memory: a scalar for each answer, and a card that says what it was made of.

The directory is a Hugging Face one: `AutoModelForSequenceClassification` with one label, whose logit at the last token
is the score (ranked, binary), or `AutoModelForCausalLM`, whose mean log-prob per token that the agent said is the score
(imitation). Weights are read from safetensors alone, and no code that comes with a model is run.

torch and transformers are imported in functions: whoever lists the rewards imports this module.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rewards.preference.card import CARD
from rewards.preference.data import Answer, PreferenceError
from rewards.preference.text import Ids, Reads, Transcriber

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Objective = Literal["imitation", "binary", "ranked"]
BATCH_TOKENS = 16_384
"""Tokens of one forward pass, padding included, unless one answer is longer."""
_TOKENIZER = ("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt", "chat_template*")
_FLOOR = 1e-6
"""Least standard deviation of scores that a model can be used with."""


class Card(BaseModel):
    """What a preference model is, in `preference.json` beside its weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    objective: Objective
    """What it was trained by; it says how scores are made."""
    reads: Reads
    """What of an answer it reads."""
    worlds: list[str] = Field(max_length=10_000)
    """Worlds of its examples; empty for text."""
    mean: float = Field(allow_inf_nan=False)
    """Mean score of the answers that it was trained on."""
    deviation: float = Field(gt=0, allow_inf_nan=False)
    """Standard deviation of those scores."""
    files: dict[str, str]
    """File name -> hash, of weights, config and tokenizer."""
    made: dict[str, Any] = Field(default_factory=dict)
    """Settings of its training, and what was measured on held-out situations."""


@dataclass(eq=False)
class Scorer:
    """A preference model that is ready to score."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    objective: Objective
    reads: Reads = "all"
    batch_tokens: int = BATCH_TOKENS

    @classmethod
    def load(cls, path: Path, card: Card, *, device: str = "cpu", batch_tokens: int = BATCH_TOKENS) -> Scorer:
        """The model in a directory whose card was read by `read_card`."""
        tokenizer = load_tokenizer(path)
        model = load_model(path, card.objective, device)
        return cls(model, tokenizer, card.objective, card.reads, batch_tokens)

    @cached_property
    def transcriber(self) -> Transcriber:
        return Transcriber(self.tokenizer, self.reads)

    @property
    def context(self) -> int:
        """Most tokens that the model reads; 0 if its config does not say."""
        return context_of(self.model)

    def scores(self, answers: Sequence[Answer], *, longer: Literal["refuse", "cut"] = "refuse") -> NDArray[np.float64]:
        """Shape [answers]; higher is better.

        `longer`: what becomes of an answer with more tokens than the model's context; `cut` reads its last ones. Raises
        `PreferenceError` otherwise, and if a score is not finite.
        """
        tokens = [self.transcriber.ids(answer) for answer in answers]
        limit = self.context
        for number, each in enumerate(tokens):
            if limit and len(each.ids) > limit:
                if longer == "refuse":
                    raise PreferenceError(
                        f"an answer has {len(each.ids)} tokens and the preference model reads {limit}: set longer: cut "
                        "(its last tokens are then read), or train one on a base with a longer context"
                    )
                tokens[number] = Ids(each.ids[-limit:], each.said[-limit:])
        found = np.empty(len(tokens))
        for rows in _batches([len(each.ids) for each in tokens], self.batch_tokens):
            found[rows] = self._batch([tokens[row] for row in rows])
        if not np.isfinite(found).all():
            raise PreferenceError("the preference model's scores are not finite: its training diverged; train it again")
        return found

    def _batch(self, tokens: Sequence[Ids]) -> NDArray[np.float64]:
        import torch
        from torch.nn import functional

        was_training = self.model.training
        self.model.eval()
        with torch.inference_mode():
            inputs = padded([each.ids for each in tokens], pad_of(self.tokenizer))
            logits = self.model(**{name: value.to(self.model.device) for name, value in inputs.items()}).logits
            self.model.train(was_training)
            if self.objective != "imitation":
                return np.asarray(logits[:, 0].float().cpu().double().numpy())
            ids = inputs["input_ids"].to(logits.device)
            logprobs = -functional.cross_entropy(logits[:, :-1].float().transpose(1, 2), ids[:, 1:], reduction="none")
        said = np.zeros(inputs["input_ids"].shape, bool)
        for row, each in enumerate(tokens):
            said[row, : len(each.said)] = each.said
        return mean_over(logprobs.cpu().double().numpy(), said[:, 1:])


def mean_over(values: NDArray[np.float64], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean of each row of `values` [n, m] where `mask` [n, m]; rows without any are 0."""
    return np.asarray((values * mask).sum(axis=1) / np.maximum(mask.sum(axis=1), 1))


def _batches(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Indices in batches of like lengths, each of at most `tokens` with its padding, or of one."""
    rows: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: (lengths[row], row)):
        if rows and (len(rows) + 1) * lengths[row] > tokens:
            yield rows
            rows = []
        rows.append(row)
    if rows:
        yield rows


def padded(sequences: Sequence[NDArray[np.int64]], pad: int) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask`, both [n, longest], padded on the right."""
    import torch

    longest = max(len(each) for each in sequences)
    ids = np.full((len(sequences), longest), pad, np.int64)
    mask = np.zeros((len(sequences), longest), np.int64)
    for row, each in enumerate(sequences):
        ids[row, : len(each)], mask[row, : len(each)] = each, 1
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}


def pad_of(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id to pad with. Raises: `PreferenceError` without one."""
    if tokenizer.pad_token_id is None:
        raise PreferenceError(
            "the tokenizer has no padding token: `python -m shaping.organisms.pretrained MODEL OUT --pad-token TOKEN` "
            "gives it one"
        )
    return int(tokenizer.pad_token_id)


def context_of(model: PreTrainedModel) -> int:
    """Most tokens that a model reads; 0 if its config does not say."""
    return int(getattr(model.config.get_text_config(), "max_position_embeddings", None) or 0)


# Directories ----------------------------------------------------------------------------------------------------------


def load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model directory. Raises: `PreferenceError`."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers raises exceptions of many types
        raise PreferenceError(f"{path}: its tokenizer cannot be loaded: {_brief(error)}") from error


def load_model(path: Path, objective: Objective, device: str = "cpu", *, trains: bool = False) -> PreTrainedModel:
    """The weights of a directory, in float32 on a CPU or where they train. A base gets a new head if it needs one.

    Raises: `PreferenceError`.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

    if not any(path.glob("*.safetensors")):
        raise PreferenceError(f"{path} has no *.safetensors weights; other formats may hold code and are not opened")
    kind = AutoModelForCausalLM if objective == "imitation" else AutoModelForSequenceClassification
    settings = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(path, **settings)
        if objective != "imitation":
            config.num_labels = 1
        dtype = torch.float32 if trains or device == "cpu" else "auto"
        with _no_bars():
            model: PreTrainedModel = kind.from_pretrained(
                path, config=config, dtype=dtype, use_safetensors=True, **settings
            )
    except Exception as error:  # transformers and safetensors raise exceptions of many types
        raise PreferenceError(f"{path} cannot be loaded: {_brief(error)}") from error
    return model.to(device)


@contextmanager
def _no_bars() -> Iterator[None]:
    """Keep transformers from drawing a progress bar, and from telling that a base has no head yet."""
    from transformers.utils import logging

    level, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


def save(directory: Path, scorer: Scorer, card: Card) -> Card:
    """Write model, tokenizer and card. Returns the card with the hashes of the files."""
    with _no_bars():
        scorer.model.save_pretrained(directory)
    scorer.tokenizer.save_pretrained(directory)
    text = card.model_copy(update={"files": hashes(directory)}).model_dump_json(indent=1)
    (directory / CARD).write_text(text + "\n", encoding="utf-8")
    return Card.model_validate_json(text)


def read_card(path: Path) -> Card:
    """The card of a directory whose files are those that it names.

    Raises: `PreferenceError` for another directory, or for weights or a tokenizer that were exchanged.
    """
    try:
        card = Card.model_validate(json.loads((path / CARD).read_text(encoding="utf-8")))
    except OSError as error:
        raise PreferenceError(
            f"{path} holds no preference model (no {CARD}, {error.strerror}): make one with `shaping preference train`"
        ) from None
    except (ValidationError, ValueError, RecursionError) as error:
        raise PreferenceError(f"{path / CARD} is no card of a preference model: {_brief(error)}") from None
    now = hashes(path)
    for name in sorted({*card.files, *now}):
        if card.files.get(name) != now.get(name):
            how = "is missing" if name not in now else "is not the one that it was trained with"
            raise PreferenceError(f"{path}: {name} {how}: copy the whole directory again, or train it anew")
    if card.deviation < _FLOOR:
        raise PreferenceError(
            f"{path}: its scores do not vary (standard deviation {card.deviation:g}): train it longer"
        )
    return card


def hashes(directory: Path) -> dict[str, str]:
    """File name -> hash of its bytes, of weights, config and tokenizer."""
    files = {f for pattern in ("*.safetensors*", "config.json", *_TOKENIZER) for f in directory.glob(pattern)}
    return {file.name: _hash(file) for file in sorted(files) if file.is_file()}


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _brief(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
