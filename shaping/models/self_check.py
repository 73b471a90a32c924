"""Self-check at load: does a model say here what it says in its own forward pass?

Its log-probs of two short sequences are compared, in the type that the run uses. Sliding windows are made short for
the check, so that one sequence is longer than they are. Three ways to be wrong are told apart: what the output layer
does to its logits, attention that our function does not know, and layers that carry state from one packed sequence into
the next (recurrent ones, convolutions, attention outside of the interface).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from shaping.models.attention import ATTENTION, Packed, Plan, without_masks
from shaping.models.head import Head, candidates, features
from shaping.models.shared_prefix import Family, SharedPrefixes
from shaping.models.trunk import trunk

LOG = logging.getLogger(__name__)
TOLERANCE = 1e-4
"""Largest difference of log-probs in float32, relative to the size of the logits where that is above one."""
WINDOW = 8
"""Length of sliding windows during the check."""
LENGTHS = (5, 21)
"""Tokens of the two sequences."""
FAMILIES = (Family(5, (9, 4, 7)), Family(12, (2, 4, 9)))
"""Sequences with a common prefix, shorter and longer than windows; some have more own tokens than that, some fewer."""
_WINDOWS = ("sliding_window", "attention_chunk_size")
_RECURRENT = re.compile(r"mamba|ssm|recurrent|shortconv|delta|rwkv|[xms]lstm|linearattention|lightning|kda", re.I)


class ModelRefused(ValueError):
    """A model does not say here what it says in its own forward pass."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a model is run."""

    packed: bool
    """True: sequences end to end in one row. False: one sequence per row, padded at its end."""
    head: Head
    """The arithmetic of the output layer."""
    why: str = ""
    """Why it is not packed."""
    shares: bool = False
    """True: sequences that begin alike may have their common prefix in the row once."""


def packed_states(model: PreTrainedModel, ids: Tensor, positions: Tensor, plan: Plan) -> Tensor:
    """Final hidden states [B, T, hidden] of ids [B, T], in one pass under a plan."""
    with without_masks():
        out = trunk(model)(input_ids=ids, position_ids=positions, use_cache=False, plan=plan)
    return out.last_hidden_state


def padded_states(model: PreTrainedModel, sequences: Sequence[Tensor]) -> Tensor:
    """Final hidden states [tokens, hidden] of sequences [length] of ids, one after the other, in one padded pass.

    Padding stands at the end of a row, where no causal layer, of whatever kind, can see it.
    """
    ids = nn.utils.rnn.pad_sequence(list(sequences), batch_first=True)
    inside = not_padding(sequences)
    mask = None if bool(inside.all()) else inside.long()
    return trunk(model)(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state[inside]


def not_padding(sequences: Sequence[Tensor]) -> Tensor:
    """Where the tokens of sequences [length] lie in rows that are padded to the longest, [sequences, longest]."""
    lengths = torch.tensor([len(s) for s in sequences], device=sequences[0].device)
    return torch.arange(int(lengths.max()), device=lengths.device) < lengths[:, None]


@torch.no_grad()
def examine(model: PreTrainedModel) -> Layout:
    """Find the layout in which a model agrees with its own forward pass. Its attention function is set accordingly.

    Raises: `ModelRefused` that names what disagrees, if none does.
    """
    name, own = type(model).__name__, getattr(model.config, "_attn_implementation", None) or "eager"
    with short_windows(model):
        _set_attention(model, "eager")
        try:
            plain = Plain.of(model)
        except Exception as error:  # models raise exceptions of many types
            raise ModelRefused(f"{name} is refused: its own forward pass fails: {_message(error)}") from error
        if plain.error > plain.tolerance:
            raise ModelRefused(
                f"{name} is refused: its logits are not its output layer's, by {plain.error:.2g} (tolerance "
                f"{plain.tolerance:.1g}); its config has {', '.join(features(model)) or 'no logit scale or soft cap'}"
            )
        why = _set_attention(model, ATTENTION) or plain.fault(model, packed=True)
        if not why:
            if fault := plain.fault_of_sharing(model):
                LOG.warning("%s computes a common prefix once for every sequence, since sharing it %s", name, fault)
            return Layout(True, plain.head, shares=not fault)
        for attention in dict.fromkeys(("sdpa" if own == ATTENTION else own, "eager")):
            if not (other := _set_attention(model, attention) or plain.fault(model, packed=False)):
                LOG.warning("%s is run with one sequence per padded row, since packing %s", name, why)
                return Layout(False, plain.head, why)
    raise ModelRefused(f"{name} is refused: packing {why}, and padding {other}")


@dataclass(frozen=True, slots=True)
class Plain:
    """A model's own forward pass, of each sequence alone."""

    sequences: tuple[Tensor, Tensor]
    """Token ids [length] each."""
    logprobs: Tensor
    """Log-probs [tokens, vocabulary] of both."""
    head: Head
    """The output layer's arithmetic that fits best."""
    error: float
    """Largest difference of log-probs between the logits and that arithmetic."""
    tolerance: float
    """Differences up to this are rounding."""
    routes: bool
    """Do single tokens differ by any amount, since rounding sends them to other experts?"""

    @classmethod
    def of(cls, model: PreTrainedModel) -> Plain:
        sequences = probes(model)
        hidden = torch.cat([trunk(model)(s[None], use_cache=False).last_hidden_state[0] for s in sequences])
        logits = torch.cat([model(s[None], use_cache=False).logits[0] for s in sequences]).float()
        logprobs = logits.log_softmax(-1)
        found = []
        for head in candidates(model):
            ours = head.logits(model, hidden)
            found.append((_apart(ours.log_softmax(-1), logprobs), head) if ours.shape == logits.shape else (9e9, head))
        error, head = min(found, key=lambda pair: pair[0])
        dtype = next(model.parameters()).dtype
        eps = torch.finfo(dtype).eps
        size = max(float(logits.abs().max()), 1.0)
        return cls(sequences, logprobs, head, error, max(TOLERANCE, 8 * eps) * size, _routes(model, dtype))

    def fault(self, model: PreTrainedModel, *, packed: bool) -> str:
        """How a layout disagrees with this; empty if it does not."""
        states = _packed if packed else padded_states
        try:
            hidden = states(model, self.sequences)
            leak = _leak(model, self.sequences, hidden) if packed else 0.0
        except Exception as error:  # models raise exceptions of many types for arguments that they do not take
            return f"fails: {_message(error)}"
        if leak > self._rounding(model, hidden):
            return f"lets the state of one sequence leak into the next ({_suspects(model)})"
        apart = self.apart(self.head.logits(model, hidden))
        if not apart <= self.tolerance:
            return f"gives log-probs that differ by {apart:.2g} (tolerance {self.tolerance:.1g}) ({_suspects(model)})"
        return ""

    def fault_of_sharing(self, model: PreTrainedModel) -> str:
        """How sequences in a row that holds common prefixes once disagree with each by itself; empty if not at all."""
        ids = torch.cat(self.sequences)
        if len(ids) < sum(LENGTHS):
            return f"cannot be checked: its context is shorter than {LENGTHS[1]} tokens"
        whole = [
            torch.cat([ids[: family.prefix], ids.roll(number)[:own]])
            for family in FAMILIES
            for number, own in enumerate(family.own)
        ]
        begins = accumulate((family.tokens for family in FAMILIES), initial=0)
        places = [p for f, begin in zip(FAMILIES, begins, strict=False) for piece in f.places(begin) for p in piece]
        row = ids.new_zeros(2, max(places) + 1)
        row[:, places] = torch.stack([torch.cat(whole), torch.cat([torch.arange(len(s)).to(ids) for s in whole])])
        try:
            shared = packed_states(model, row[:1], row[1:], SharedPrefixes(FAMILIES))[0][places]
        except Exception as error:  # models raise exceptions of many types for arguments that they do not take
            return f"fails: {_message(error)}"
        both = [self.head.logits(model, states).log_softmax(-1) for states in (shared, _packed(model, whole))]
        apart = _apart(*both, typical=self.routes)
        return "" if apart <= self.tolerance else f"changes log-probs by {apart:.2g} (tolerance {self.tolerance:.1g})"

    def apart(self, logits: Tensor) -> float:
        """Largest difference of log-probs from this; `logits` [tokens, vocabulary] are of both sequences."""
        return _apart(logits.log_softmax(-1), self.logprobs, typical=self.routes)

    def _rounding(self, model: PreTrainedModel, hidden: Tensor) -> float:
        """Largest change of one sequence's states with another's tokens that is no leak.

        Zero would be exact, but experts take tokens of all sequences together, in groups whose size changes rounding.
        """
        eps = torch.finfo(hidden.dtype).eps
        return (64 if _has_experts(model) else 8 if eps < 1e-6 else 0) * eps * max(float(hidden.abs().max()), 1.0)


def probes(model: PreTrainedModel) -> tuple[Tensor, Tensor]:
    """Two sequences of token ids, which fit the model's context. No random numbers are drawn."""
    rows = model.get_input_embeddings().weight.shape[0]
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None) or LENGTHS[1]
    short, long = (min(length, int(limit)) for length in LENGTHS)
    device = next(model.parameters()).device
    ids = (torch.arange(short + long, device=device) * 7 + 11) % max(rows - 4, 1) + min(4, rows - 1)
    return ids[:short], ids[short:]


def _packed(model: PreTrainedModel, sequences: Sequence[Tensor]) -> Tensor:
    ids = torch.cat(list(sequences))
    positions = torch.cat([torch.arange(len(s), device=ids.device) for s in sequences])
    starts = [0, *accumulate(len(s) for s in sequences)]
    return packed_states(model, ids[None], positions[None], Packed(starts))[0]


def _leak(model: PreTrainedModel, sequences: tuple[Tensor, Tensor], hidden: Tensor) -> float:
    """Change of the second sequence's states when the tokens of the first change."""
    first, second = sequences
    other = _packed(model, (first.flip(0), second))
    return _apart(other[len(first) :], hidden[len(first) :], typical=_routes(model, hidden.dtype))


def _apart(one: Tensor, other: Tensor, *, typical: bool = False) -> float:
    """Largest difference of [tokens, ...]; of the typical (median) token, or of the worst."""
    by_token = (one.float() - other.float()).abs().amax(-1)
    return float(by_token.median() if typical else by_token.max())


def _routes(model: PreTrainedModel, dtype: torch.dtype) -> bool:
    """True if rounding can send single tokens to other experts, whose results then differ by any amount."""
    return torch.finfo(dtype).eps > 1e-6 and _has_experts(model)


def _has_experts(model: PreTrainedModel) -> bool:
    return any("expert" in name or "moe" in name for name, _ in model.named_modules())


def _suspects(model: PreTrainedModel) -> str:
    """The kinds of layers and the settings that are likely at fault."""
    kinds = sorted({type(m).__name__ for m in model.modules() if _RECURRENT.search(type(m).__name__)})
    if kinds:
        return f"recurrent layers: {', '.join(kinds[:3])}"
    config = model.config.get_text_config()
    layers = sorted({*(getattr(config, "layer_types", None) or [])} - {"full_attention", "sliding_attention"})
    if layers:
        return f"layers of type {', '.join(layers)}"
    return f"attention of {next((type(m).__name__ for m in model.modules() if 'Attention' in type(m).__name__), 'it')}"


def _set_attention(model: PreTrainedModel, name: str) -> str:
    """Switch the attention function. Returns: why that is impossible; empty if it is not."""
    try:
        model.set_attn_implementation(name)
    except (ValueError, AttributeError, ImportError) as error:
        return f"fails: {_message(error)}"
    if name == ATTENTION and not getattr(model, "_supports_attention_backend", True):
        return f"is not known: its attention does not use transformers' interface ({_suspects(model)})"
    return ""


def _message(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


@contextmanager
def short_windows(model: PreTrainedModel) -> Iterator[None]:
    """Inside the block the model has no dropout and short windows, and nothing is drawn from torch's generator."""
    training = [module for module in model.modules() if module.training]
    owners = [model.config, model.config.get_text_config(), *model.modules()]
    windows = [(o, n, getattr(o, n)) for o in owners for n in _WINDOWS if isinstance(getattr(o, n, None), int)]
    state = torch.get_rng_state()
    model.eval()
    try:
        for owner, name, value in windows:
            setattr(owner, name, min(value, WINDOW))
        yield
    finally:
        for owner, name, value in windows:
            setattr(owner, name, value)
        for module in training:
            module.training = True
        torch.set_rng_state(state)
