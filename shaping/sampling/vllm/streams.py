"""Where vLLM's layers hand on the residual stream, by family: edits of activations must know it.

Most of vLLM's layers return two tensors. In some families the stream is their sum, which the next norm makes; in others
the first of them is the stream, and the second is not read again. Nothing but a comparison of log-probs tells them
apart, so that edits are served for families that were compared alone (`make models-table`).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal

from shaping.hooks import ActivationEdit

Stream = Literal["sum", "first"]
"""The sum of a layer's two outputs, or the first (or only) one."""
_SUM = """
bloom falcon gemma2 gemma3_text glm4 gpt2 gpt_neox gptj granite granitemoe llama mistral mixtral nanochat
nemotron olmo2 olmo3 olmoe opt phi3 qwen2 qwen3 qwen3_moe smollm3 starcoder2 vaultgemma
"""
_FIRST = """
cohere exaone4 hyperclovax minicpm3 stablelm
"""
STREAMS: Final[Mapping[str, Stream]] = MappingProxyType(
    {**dict.fromkeys(_SUM.split(), "sum"), **dict.fromkeys(_FIRST.split(), "first")}
)
"""Model type -> its stream."""


def plain_edit(spec: ActivationEdit, stream: Stream) -> dict[str, Any]:
    """An activation edit as plain data, for vLLM's workers."""
    direction = spec.direction.astype("float32").tobytes()
    found = {"layer": int(spec.layer), "kind": spec.kind, "scale": float(spec.scale), "direction": direction}
    return {**found, "stream": stream}
