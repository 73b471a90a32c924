"""Action masks inside vLLM: one function on logits, and an adapter for each of its two model runners.

Requests carry the forbidden commands in `SamplingParams.extra_args`. The masked tokens are not sent back: the engine
computes them again, with the same `CommandMask` on the sampled tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from transformers import AutoTokenizer
from vllm.v1.sample.logits_processor import BatchUpdate
from vllm.v1.sample.logits_processor import LogitsProcessor as V1LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates
from vllm.v1.worker.gpu.sample.logits_processor import LogitsContext, LogitsProcRequestState
from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor as V2LogitsProcessor

from shaping.sampling.text.forbid import CommandMask
from shaping.sampling.text.render import Renderer
from shaping.sampling.text.template import TemplateSettings
from shaping.sampling.vllm.config import TEMPLATE

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.sampling_params import SamplingParams

FORBID = "shaping_forbid"
"""Key of the forbidden commands in a request's extra arguments."""


class Row(NamedTuple):
    """A masked row of logits."""

    number: int
    """Index of the row."""
    sampled: Sequence[int]
    """Token ids sampled so far."""
    commands: tuple[str, ...]
    """Forbidden commands."""


def suppress(logits: Tensor, rows: Sequence[Row], mask: CommandMask) -> Tensor:
    """Set the logits [rows, vocabulary] of masked tokens to minus infinity, in place."""
    pairs = [(row.number, token) for row in rows for token in mask.masked_tokens(row.sampled, row.commands)]
    if pairs:
        index = torch.tensor(pairs, device=logits.device)
        logits[index[:, 0], index[:, 1]] = -torch.inf
    return logits


def forbidden_commands(params: SamplingParams) -> tuple[str, ...]:
    """The commands that a request forbids. Raises: ValueError if they are no list of strings."""
    commands = (params.extra_args or {}).get(FORBID, ())
    if not isinstance(commands, (list, tuple)) or not all(isinstance(command, str) for command in commands):
        raise ValueError(f"extra_args[{FORBID!r}] must be a list of commands, not {commands!r}")
    return tuple(commands)


def _mask_of(vllm_config: VllmConfig) -> CommandMask:
    model = vllm_config.model_config
    tokenizer = AutoTokenizer.from_pretrained(model.tokenizer or model.model, local_files_only=True)
    further = getattr(vllm_config, "additional_config", None)
    arguments = further.get(TEMPLATE, {}) if isinstance(further, dict) else {}
    return CommandMask(Renderer(tokenizer, TemplateSettings(arguments=arguments)), model.get_vocab_size())


class V1CommandMask(V1LogitsProcessor):
    """For the V1 model runner, which announces changes of the batch and shares its lists of sampled tokens."""

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        self._config = vllm_config
        self._mask: CommandMask | None = None
        self._rows: dict[int, tuple[Sequence[int], tuple[str, ...]]] = {}

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        forbidden_commands(sampling_params)

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        def entry(params: SamplingParams, _prompt: Any, sampled: list[int]) -> tuple[list[int], tuple[str, ...]] | None:
            commands = forbidden_commands(params)
            return (sampled, commands) if commands else None

        process_dict_updates(self._rows, batch_update, entry)

    def apply(self, logits: Tensor) -> Tensor:
        if not self._rows:
            return logits
        self._mask = self._mask or _mask_of(self._config)
        return suppress(logits, [Row(i, *entry) for i, entry in self._rows.items()], self._mask)


class V2CommandMask(V2LogitsProcessor):
    """For the V2 model runner, which keeps requests in slots and sampled tokens on the device."""

    def __init__(self, vllm_config: VllmConfig, req_states: LogitsProcRequestState) -> None:
        self._config = vllm_config
        self._states = req_states
        self._mask: CommandMask | None = None
        self._commands: dict[int, tuple[str, ...]] = {}

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        forbidden_commands(sampling_params)

    def add_request(self, req_idx: int, sampling_params: SamplingParams) -> bool:
        self._commands[req_idx] = forbidden_commands(sampling_params)
        return bool(self._commands[req_idx])

    def apply(self, logits: Tensor, ctx: LogitsContext) -> Tensor:
        slots = ctx.idx_mapping_np.tolist()
        if not any(self._commands.get(slot) for slot in slots):
            return logits
        self._mask = self._mask or _mask_of(self._config)
        rows = [
            Row(row, self._sampled(slot, length), self._commands[slot])
            for row, (slot, length) in enumerate(zip(ctx.expanded_idx_mapping.tolist(), ctx.pos.tolist(), strict=True))
            if self._commands.get(slot)
        ]
        return suppress(logits, rows, self._mask)

    def _sampled(self, slot: int, position: int) -> list[int]:
        """Tokens of a slot after its prompt, up to the one at `position`, inclusive."""
        start = int(self._states.prompt_len.np[slot])
        return list(self._states.all_token_ids.gpu[slot, start : position + 1].tolist())
