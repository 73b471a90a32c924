"""Pretrained models: check a Hugging Face directory for training, or make a ready one from another or a GGUF file.

A directory is *ready* if it holds safetensors weights, a tokenizer with a usable chat template, an end-of-turn token
and a padding token. What can surprise is told: sliding windows, turn ends, text that the template adds. Nothing is
downloaded, no pickle is opened, and no code that comes with a model is run.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from tokenizers import Tokenizer
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from envs.escaping import on_terminal
from shaping.models.model_files import INDEX, damaged_weights, indexed_weights
from shaping.models.saving import mend_generation_config
from shaping.organisms.gguf_file import GgufFacts, read_facts
from shaping.organisms.template_notes import inserted_prompt
from shaping.sampling.text.render import Renderer, TemplateError
from shaping.sampling.text.turn_ends import ends_of_directory


class PretrainedError(ValueError):
    """A model cannot be used as it is; the message names the missing part and how to supply it."""


@dataclass(frozen=True, slots=True)
class Card:
    """Description of a ready directory."""

    directory: Path
    """The directory itself."""
    architecture: str
    """Class of the model in transformers, e.g. `LlamaForCausalLM`."""
    context: int
    """Longest sequence in tokens; 0 if the config does not say."""
    vocabulary: int
    """Number of tokens that the model embeds."""
    stable: bool
    """True if the chat template keeps earlier turns unchanged. Otherwise an episode is split at every turn, and each
    part costs a forward pass."""
    window: int
    """Tokens that layers with a sliding window look back; 0: none."""
    ends: tuple[str, ...]
    """Tokens that end a turn: of the chat template, the tokenizer and the generation config."""
    inserted: str
    """Text that the chat template adds where a conversation has no system message; mostly empty."""

    def lines(self) -> list[str]:
        """The description in words."""
        turns = "kept" if self.stable else "rewritten: an episode is split there"
        context = str(self.context) if self.context else "unknown"
        return [
            f"{self.directory}: {self.architecture}, context {context}, {self.vocabulary} tokens",
            f"chat template: earlier turns are {turns}",
            f"a turn ends at: {' '.join(self.ends)}",
            *([f"sliding window: some layers look back {self.window} tokens"] if self.window else []),
            *(
                [f"without a system message the template adds: {self.inserted!r}; arms without a prompt have it, too"]
                if self.inserted
                else []
            ),
        ]


def check(directory: Path | str) -> Card:
    """Check that a directory is ready for training, and describe it.

    Raises: `PretrainedError` that names every missing part.
    """
    path = Path(directory)
    if not (path / "config.json").is_file():
        raise PretrainedError(f"{path} is not a Hugging Face model directory: it has no config.json")
    _check_weights(path)
    try:
        whole = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        config = whole.get_text_config()
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers raises OSError, ValueError, KeyError and others for broken files
        raise PretrainedError(f"{path}: config or tokenizer cannot be loaded: {error}") from error
    renderer = _check_tokenizer(tokenizer, path)
    if len(tokenizer) > config.vocab_size:
        raise PretrainedError(
            f"{path}: the tokenizer has {len(tokenizer)} tokens but the model embeds {config.vocab_size}: they belong "
            "to different models, or tokens were added; take the model's own tokenizer, or resize the embeddings"
        )
    ends = sorted(renderer.ends | ends_of_directory(path))
    if foreign := [token for token in ends if not 0 <= token < config.vocab_size]:
        raise PretrainedError(
            f"{path}: eos_token_id {foreign[0]} of its generation_config.json or config.json is none of the model's "
            f"{config.vocab_size} tokens, so that no turn would end there: correct the file"
        )
    return Card(
        directory=path,
        architecture=(whole.architectures or ["?"])[0],
        context=int(getattr(config, "max_position_embeddings", None) or 0),
        vocabulary=int(config.vocab_size),
        stable=renderer.stable,
        window=_window(config),
        ends=tuple(map(str, tokenizer.convert_ids_to_tokens(ends))),
        inserted=inserted_prompt(tokenizer),
    )


def _window(config: PreTrainedConfig) -> int:
    """The sliding window of a config; 0 if no layer has one."""
    window = getattr(config, "sliding_window", None)
    layers = getattr(config, "layer_types", None)
    used = getattr(config, "use_sliding_window", True) and (not layers or "sliding_attention" in layers)
    return window if isinstance(window, int) and used else 0


def prepare(
    source: Path | str, out: Path | str, *, chat_template: str | None = None, pad_token: str | None = None
) -> Card:
    """Copy a model directory to `out`, and add the chat template or padding token that it lacks.

    Weights are copied unchanged.

    Args:
        source: the model directory.
        out: the directory to write.
        chat_template: Jinja text; None keeps the source's template.
        pad_token: a token of the vocabulary; None keeps the source's padding token.
    Raises: `PretrainedError` if the result is not ready, `FileExistsError` if `out` exists.
    """
    path = Path(source)
    if not (path / "config.json").is_file():
        raise PretrainedError(f"{path} is not a Hugging Face model directory: it has no config.json")
    tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    _complete(tokenizer, chat_template, pad_token)

    def write(target: Path) -> None:
        for pattern in ("config.json", "generation_config.json", "*.safetensors", INDEX):
            for file in path.glob(pattern):
                shutil.copy2(file, target / file.name)
        tokenizer.save_pretrained(target)

    return publish(Path(out), write)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4)


def from_gguf(
    file: Path | str,
    out: Path | str,
    *,
    dtype: torch.dtype = torch.bfloat16,
    chat_template: str | None = None,
    pad_token: str | None = None,
) -> Card:
    """Turn a GGUF file into a ready Hugging Face directory: dequantised weights as safetensors, and the tokenizer.

    The result is the quantised model in a format that can be trained; precision lost to quantisation does not come
    back. Arguments are those of `prepare`; the weights are stored as `dtype`.

    Raises: `PretrainedError` if the file cannot be read or the result is not ready, `FileExistsError` if `out` exists.
    """
    path = Path(file)
    if find_spec("gguf") is None:
        raise PretrainedError("reading a GGUF file needs the package gguf: pip install 'shaping[gguf]'")
    if not path.is_file() or _head(path) != b"GGUF":
        raise PretrainedError(f"{path} is not a GGUF file")
    facts = _facts(path, template=chat_template is not None, padding=pad_token is not None)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            path.parent, gguf_file=path.name, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # unknown kinds of tokenizers
        raise PretrainedError(f"{path} cannot be converted: {type(error).__name__}: {error}") from error
    _complete(tokenizer, chat_template, pad_token)
    _check_tokenizer(tokenizer, path)
    try:
        model = _dense(path, dtype)
    except Exception as error:  # truncated files, unknown quantisation types
        raise PretrainedError(f"{path} cannot be converted: {type(error).__name__}: {error}") from error
    if facts.window and facts.window < (facts.context or facts.window + 1) and not _window(model.config):
        raise PretrainedError(
            f"{path} has a sliding window of {facts.window} tokens (context {facts.context}), which transformers drops "
            "when it converts this architecture: take the model's own directory instead"
        )
    tokenizer = _of_size(tokenizer, model.config.vocab_size)
    _complete(tokenizer, chat_template, pad_token)

    def write(target: Path) -> None:
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)

    return publish(Path(out), write)


def _facts(path: Path, *, template: bool, padding: bool) -> GgufFacts:
    """The file's metadata. Raises `PretrainedError` if something is missing."""
    try:
        facts = read_facts(path)
    except Exception as error:  # the reader raises exceptions of many types for damaged files
        raise PretrainedError(f"{path} cannot be converted: {type(error).__name__}: {error}") from error
    if lacking := facts.lacking(template=template, padding=padding):
        raise PretrainedError(f"{path} lacks {' and '.join(lacking)}")
    return facts


def _dense(path: Path, dtype: torch.dtype) -> Any:
    """Load the model with plain weights, and drop the marks by which transformers would treat it as quantised."""
    from transformers import GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        path.parent,
        gguf_file=path.name,
        dtype=dtype,
        quantization_config=GgufConfig(dequantize=True),
        local_files_only=True,
    )
    if quantised := [name for name, p in model.named_parameters() if not p.is_floating_point()]:
        raise PretrainedError(f"{path}: weights are still quantised after loading: {quantised[:3]}")
    mend_generation_config(model, path)
    model.hf_quantizer = None
    model.is_quantized = False
    for owner in (model, model.config):
        for name in ("quantization_config", "quantization_method"):
            if hasattr(owner, name):
                delattr(owner, name)
    return model


def _of_size(tokenizer: PreTrainedTokenizerBase, size: int) -> PreTrainedTokenizerBase:
    """Drop the tokens above `size`: transformers adds them where a GGUF file names none, but no embedding exists."""
    if len(tokenizer) <= size:
        return tokenizer
    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    parts["added_tokens"] = [token for token in parts["added_tokens"] if token["id"] < size]
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(parts)),
        chat_template=tokenizer.chat_template,
        **tokenizer.special_tokens_map,
    )


def _complete(tokenizer: PreTrainedTokenizerBase, chat_template: str | None, pad_token: str | None) -> None:
    if chat_template is not None:
        tokenizer.chat_template = chat_template
    if pad_token is not None:
        if pad_token not in tokenizer.get_vocab():
            raise PretrainedError(f"pad_token {pad_token!r} is not in the tokenizer's vocabulary: name a token that is")
        tokenizer.pad_token = pad_token


def _check_weights(path: Path) -> None:
    if damaged := damaged_weights(path):
        raise PretrainedError(f"{damaged}; copy or download the model again")
    if (wanted := indexed_weights(path)) is not None:
        if missing := sorted(name for name in wanted if not (path / name).is_file()):
            raise PretrainedError(f"{path}: {len(missing)} of {len(wanted)} weight files are missing: {missing[:3]}")
    elif not any(path.glob("*.safetensors")):
        other = sorted(p.name for p in (*path.glob("*.bin"), *path.glob("*.pt"), *path.glob("*.gguf")))
        instead = f"; it has {', '.join(other[:3])}, which may hold code: convert it first" if other else ""
        raise PretrainedError(f"{path} has no *.safetensors weights{instead}")


def _check_tokenizer(tokenizer: PreTrainedTokenizerBase, path: Path) -> Renderer:
    lacking = []
    if not tokenizer.chat_template:
        lacking.append("a chat template (--chat-template FILE, or chat_template=)")
    if tokenizer.pad_token_id is None:
        lacking.append("a padding token (--pad-token TOKEN, or pad_token=, often the end-of-turn token)")
    if lacking:
        raise PretrainedError(
            f"{path}: the tokenizer lacks {' and '.join(lacking)}: add it with `python -m "
            f"shaping.organisms.pretrained {path} OUT` and that option"
        )
    try:
        renderer = Renderer(tokenizer)
        renderer.open("be brief .", "hello .")
        renderer.extend("go on .", finished=True)
    except TemplateError as error:
        raise PretrainedError(f"{path}: {error}") from error
    except Exception as error:  # Jinja and the templates themselves raise exceptions of many types
        raise PretrainedError(f"{path}: the chat template fails on a two-turn conversation: {error}") from error
    return renderer


def publish(out: Path, write: Callable[[Path], None]) -> Card:
    """Write into a temporary directory, check it, then rename it to `out`.

    An interrupted or unusable conversion thus leaves nothing at `out`. `write` gets the temporary directory.
    """
    if out.exists():
        raise FileExistsError(f"{out} exists already: remove it or choose another directory")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".making-") as scratch:
        unpublished = Path(scratch) / out.name
        unpublished.mkdir()
        write(unpublished)
        check(unpublished)
        os.replace(unpublished, out)
    return check(out)


def main(
    source: Annotated[Path, typer.Argument(help="a Hugging Face model directory or a .gguf file")],
    out: Annotated[
        Path | None, typer.Argument(help="directory to write; without it the source is only checked")
    ] = None,
    chat_template: Annotated[Path | None, typer.Option(help="file with a chat template, in Jinja")] = None,
    pad_token: Annotated[str | None, typer.Option(help="token of the vocabulary to pad with")] = None,
) -> None:
    """Check a model directory, or make a ready one from another or from a GGUF file."""
    template = chat_template.read_text() if chat_template else None
    try:
        if out is None:
            card = check(source)
        else:
            make = prepare if source.is_dir() else from_gguf
            card = make(source, out, chat_template=template, pad_token=pad_token)
    except (PretrainedError, FileExistsError) as error:
        typer.echo(on_terminal(f"error: {error}"), err=True)
        raise typer.Exit(1) from error
    for line in card.lines():
        typer.echo(on_terminal(line))


if __name__ == "__main__":
    typer.run(main)
