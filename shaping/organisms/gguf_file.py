"""What a GGUF file says of its model, read before anything is converted: seconds instead of minutes for a refusal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

_ALIASES = {"minimax-m2": "minimax_m2", "gpt-oss": "gpt_oss", "qwen2moe": "qwen2_moe", "qwen3moe": "qwen3_moe"}
"""Architectures that transformers knows under another name."""


@dataclass(frozen=True, slots=True)
class GgufFacts:
    """Metadata of a GGUF file."""

    architecture: str
    """llama.cpp's name of it; empty if the file does not say."""
    context: int
    """Longest sequence in tokens; 0 if the file does not say."""
    window: int
    """Tokens that sliding-window layers look back; 0: none."""
    tokenizer: str
    """llama.cpp's name of its kind; empty if the file has no tokenizer."""
    template: bool
    """True if it has a chat template."""
    padding: bool
    """True if it names a padding token."""

    @property
    def known(self) -> bool:
        """True if transformers can convert the architecture."""
        return _ALIASES.get(self.architecture, self.architecture) in GGUF_SUPPORTED_ARCHITECTURES

    def lacking(self, *, template: bool, padding: bool) -> list[str]:
        """What is missing, each with the option that supplies it.

        Args:
            template: a chat template is given.
            padding: a padding token is given.
        """
        missing = []
        if not self.known:
            names = ", ".join(sorted(GGUF_SUPPORTED_ARCHITECTURES))
            missing.append(
                f"an architecture that transformers converts (it has {self.architecture or 'none'!r}; known: {names}): "
                "take the model's own directory instead"
            )
        if not self.tokenizer:
            missing.append("a tokenizer: take a file that was converted with it")
        if not (self.template or template):
            missing.append("a chat template (--chat-template FILE, or chat_template=)")
        if not (self.padding or padding):
            missing.append("a padding token (--pad-token TOKEN, or pad_token=, often the end-of-turn token)")
        return missing


def read_facts(path: Path) -> GgufFacts:
    """Read the metadata; tensors are not read. Raises what the package gguf raises for a damaged file."""
    from gguf import GGUFReader

    fields = GGUFReader(path).fields

    def value(key: str) -> Any:
        return fields[key].contents() if key in fields else None

    architecture = str(value("general.architecture") or "")
    return GgufFacts(
        architecture=architecture,
        context=_number(value(f"{architecture}.context_length")),
        window=_number(value(f"{architecture}.attention.sliding_window")),
        tokenizer=str(value("tokenizer.ggml.model") or ""),
        template="tokenizer.chat_template" in fields,
        padding="tokenizer.ggml.padding_token_id" in fields,
    )


def _number(value: Any) -> int:
    return int(value) if isinstance(value, (int, float)) else 0
