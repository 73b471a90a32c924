"""The embedded engine: any causal language model of transformers, on CPU or GPU, with continuous batching.

Every episode keeps its keys and values in a slot, so a turn costs only its new tokens. Requests of many episodes form
batches: prompts are read together, then all active rows decode together.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from itertools import accumulate, count
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from shaping.hooks import ActivationEdit, AdapterSpec, Capture
from shaping.models.attention import Packed
from shaping.models.context import longest_context
from shaping.models.edits import applied
from shaping.models.forward import adopt, head_logits, layer_states
from shaping.models.lora.adapters import Adapters
from shaping.models.shared_prefix import common_prefix
from shaping.sampling.embedded.cache import SlotCache, Slots, why_not_cached
from shaping.sampling.embedded.decode_graph import DecodeGraphs
from shaping.sampling.embedded.draw import Drawing
from shaping.sampling.embedded.request import Request
from shaping.sampling.embedded.states import Reader
from shaping.sampling.engine import Completion, EngineError, SamplingParams, Session
from shaping.sampling.players import PlayerMode, Players, by_player, check_player
from shaping.sampling.text.forbid import CommandMask
from shaping.sampling.text.render import Renderer
from shaping.sampling.text.turn_ends import ends_of_model
from shaping.sampling.transfer import weights
from shaping.sampling.truncate import recorded, truncate
from shaping.sampling.truncation import Truncation

LOG = logging.getLogger(__name__)


class TransformersEngine:
    """Samples from `model` in place: a learner that shares the module only calls `set_version` after an update.

    Args:
        model: a causal language model; it is switched to the packed attention.
        renderer: of the model's tokenizer.
        slots: episodes that can be open at once.
        context_length: longest episode in tokens; the model's own limit by default.
        verify: weight updates that return a checksum, which reads every weight.
        captures: hidden states that completions bring along. Those of a completion's last token come with the
            session's next call of `complete`, from the weights and edits of that time.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        renderer: Renderer,
        *,
        slots: int = 64,
        context_length: int | None = None,
        verify: Literal["first", "always"] = "first",
        captures: Sequence[Capture] = (),
    ) -> None:
        self.model = adopt(model)
        self._reader = Reader(model, captures)
        self.renderer = renderer
        self._ends = renderer.ends | ends_of_model(model)
        self.context_length = context_length or longest_context(model.config)
        self.version = 0
        self.slots = slots
        self._verify: Literal["first", "always", "done"] = verify
        self._vocabulary = int(model.get_output_embeddings().weight.shape[0])
        if why := why_not_cached(model):
            LOG.warning("%s reads whole sequences for every token, which is slow, since %s", type(model).__name__, why)
        self._cache = None if why else SlotCache(slots, self.context_length)
        self._free = list(range(slots))[::-1]
        self._slot: dict[int, int] = {}
        self._cached: dict[int, list[int]] = {}
        self._waiting: list[Request] = []
        self._active: list[Request] = []
        self._loop: asyncio.Task[None] | None = None
        self._mask: CommandMask | None = None
        self._drawing = Drawing()
        self._edits: tuple[ActivationEdit, ...] = ()
        self._served: Adapters | None = None
        self._adapters: Adapters | None = None
        self._players: dict[str, PlayerMode] = {}
        self._numbers = count()
        self.device = next(model.parameters()).device
        self.graphs = DecodeGraphs(model, slots, self.device)

    # -- protocol ------------------------------------------------------------------------------------------------

    def open(self, session: Session) -> None:
        if not self._free:
            raise RuntimeError(f"all {len(self._slot)} slots are taken: play fewer episodes at once or add slots")
        self._slot[session.id] = self._free.pop()
        self._cached[session.id] = []

    def close(self, session: Session) -> None:
        self._free.append(self._slot.pop(session.id))
        self._free.sort(reverse=True)  # low slots first keeps the active rows contiguous
        del self._cached[session.id]
        self._reader.forget(session.id)

    def set_edits(self, edits: Sequence[ActivationEdit]) -> None:
        self._edits = tuple(edits)
        self._drop_cache()

    def set_players(self, adapters: Adapters, players: Players) -> None:
        """Sample each session with the adapters and edits of its player from now on; none: as the model is."""
        self._adapters, self._players = adapters, dict(players)
        self._drop_cache()

    async def load_weights(self, state: dict[str, Tensor], version: int) -> str:
        """Copy new weights into the model, except tensors that are the model's own. Returns their checksum, or "".

        All names, shapes and types are checked first, so that weights that do not fit leave the model as it is.
        """
        if self._served:
            raise EngineError("an adapter is served: load_adapter(None, version) comes before new full weights")
        parameters = self.model.state_dict()
        if unknown := sorted(set(state) - set(parameters)):
            raise KeyError(f"weights for parameters this model does not have: {unknown[:3]}")
        for name, tensor in state.items():
            if (shape := tuple(tensor.shape)) != (own := tuple(parameters[name].shape)):
                raise ValueError(f"weights for {name!r} have shape {shape}, not {own}; the model keeps its weights")
            if tensor.is_complex() or tensor.is_meta:
                raise ValueError(f"weights for {name!r} are {tensor.dtype} on {tensor.device}; the model keeps its own")
        with torch.no_grad():
            for name, tensor in state.items():
                if parameters[name].data_ptr() != tensor.data_ptr():
                    parameters[name].copy_(tensor)
        self.version = version
        self._drop_cache()
        if self._verify == "done":
            return ""
        if self._verify == "first":
            self._verify = "done"
        return checksum(self.model)

    async def load_adapter(self, directory: Path | None, version: int) -> str:
        """Sample with an adapter from now on, also in completions under way.

        Only for an engine with its own model. An engine that shares its model with a learner samples with the
        learner's adapters.
        """
        served = ""
        if directory is not None:
            settings = weights.adapter_settings(directory)
            served = weights.checksum(load_file(directory / "adapter_model.safetensors"))
        if not self._served and any(hasattr(module, "lora_A") for module in self.model.modules()):
            raise EngineError("this model carries the adapters of a learner that shares it: set_version() is enough")
        if self._served:
            self._served.drop(tuple(self._served.specs))
            self._served = None
        if directory is not None:
            spec = AdapterSpec(
                f"served_{next(self._numbers)}",
                "frozen",
                rank=settings["r"],
                alpha=settings["lora_alpha"],
                path=str(directory),
            )
            self._served = Adapters(self.model, [spec])
        self.set_version(version)
        return served

    def shutdown(self) -> None:
        """Fail completions under way, and drop the served adapter from the model."""
        self._fail(EngineError("the engine has been shut down"))
        if self._served:
            self._served.drop(tuple(self._served.specs))

    def release(self) -> None:
        """Free the memory of keys and values on a GPU, for whoever samples there next. The engine can go on."""
        if self._cache is not None and self.device.type == "cuda":
            self._drop_cache()
            self._cache = SlotCache(self.slots, self.context_length)

    def set_version(self, version: int) -> None:
        """Declare that the shared module has been updated in place. Cached keys and values are dropped."""
        self.version = version
        self._drop_cache()

    async def complete(self, session: Session, tokens: Sequence[int], params: SamplingParams) -> Completion:
        if session.id not in self._slot:
            raise ValueError(f"session {session.id} is not open: call open(session) before complete()")
        if len(tokens) + params.max_tokens > self.context_length:
            raise ValueError(f"{len(tokens)} tokens and a reply do not fit in a context of {self.context_length}")
        check_player(session.player, self._players)
        unread = self._reader.unread(session.id)
        if list(tokens[: len(unread)]) != unread:  # the prefix has changed at a split: the old one is read before
            await self.complete(session, unread, SamplingParams(max_tokens=0))
        uniforms = np.random.Generator(np.random.Philox(key=params.seed)).random(params.max_tokens)
        future: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        self._waiting.append(Request(session.id, session.player, tokens, params, future, uniforms))
        if self._loop is None or self._loop.done():
            self._loop = asyncio.create_task(self._run())
        return await future

    # -- the batching loop ---------------------------------------------------------------------------------------

    def _drop_cache(self) -> None:
        """Forget all keys and values. Completions under way are read again, with the tokens sampled so far."""
        self._waiting = [*self._active, *self._waiting]
        self._active = []
        self.graphs.forget()
        for session in self._cached:
            self._cached[session] = []

    async def _run(self) -> None:
        """Read all waiting prompts once there are as many as decoding rows; otherwise decode one token per row."""
        await asyncio.sleep(0)
        while self._waiting or self._active:
            # Drop requests of cancelled callers: their sessions are closed, and perhaps their event loops.
            self._waiting = [r for r in self._waiting if not r.future.done()]
            self._active = [r for r in self._active if not r.future.done()]
            try:
                if self._waiting and len(self._waiting) >= len(self._active):
                    admitted, self._waiting = self._waiting, []
                    self._active += admitted  # before the forward pass, whose error must reach their callers
                    self._active.sort(key=lambda r: self._slot[r.session])
                    for own in by_player(admitted, self._players):
                        self._read(own)
                elif self._active:
                    for own in by_player(self._active, self._players):
                        self._decode(own)
                self._finish()
            except Exception as error:
                self._fail(error)
            await asyncio.sleep(0)

    def _fail(self, error: Exception) -> None:
        """Raise the error in every caller. The cache is dropped, because its contents are unknown after an error."""
        for request in self._active + self._waiting:
            if not request.future.done():
                request.future.set_exception(error)
        self._active, self._waiting = [], []
        self._drop_cache()

    def _read(self, requests: list[Request]) -> None:
        """Read the tokens that are not cached yet, right-padded to the longest row, and sample the next token."""
        requests.sort(key=lambda r: self._slot[r.session])
        new: list[list[int]] = []
        for request in requests:
            whole = [*request.tokens, *request.sampled]
            cached = self._cached[request.session]
            if cached != whole[: min(len(cached), len(whole) - 1)]:  # changed at a split, or sampled again
                del cached[common_prefix(cached, whole[:-1]) :]
            new.append(whole[len(cached) :])
        width = max(map(len, new))
        ids = torch.zeros(len(requests), width, dtype=torch.long)
        start = torch.zeros(len(requests), 1, dtype=torch.long)
        for row, (request, tokens) in enumerate(zip(requests, new, strict=True)):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            start[row] = len(self._cached[request.session])
            self._cached[request.session].extend(tokens)
        positions = (start + torch.arange(width)).clamp_(max=self.context_length - 1)
        last = torch.tensor([len(tokens) - 1 for tokens in new])
        self._go_on(requests, self._forward(requests, ids, positions, last, self._reader.layers))

    def _decode(self, requests: list[Request]) -> None:
        logits = self._replayed(requests)
        ids = torch.tensor([[r.sampled[-1]] for r in requests])
        positions = torch.tensor([[len(self._cached[r.session])] for r in requests])
        for request in requests:
            self._cached[request.session].append(request.sampled[-1])
        last = torch.zeros(len(requests), dtype=torch.long)
        if logits is None:
            logits = self._forward(requests, ids, positions, last, self._reader.decoded)
        self._go_on(requests, logits)

    def _go_on(self, requests: list[Request], logits: Tensor) -> None:
        """Sample the next token of every completion, except of those that were only to be read."""
        going = [row for row, request in enumerate(requests) if not request.has_ended(self._ends)]
        if len(going) < len(requests):
            requests, logits = [requests[row] for row in going], logits[going]
        if requests:
            self._sample(requests, logits)

    @torch.inference_mode()
    def _replayed(self, requests: list[Request]) -> Tensor | None:
        """Logits [rows, vocabulary] of a decoding step from a recorded one; None if it has not been recorded.

        A recording holds the adapters that were on, and shows no states; players have other adapters in each pass.
        """
        if self._cache is None or self._players or self._reader.decoded:
            return None
        tokens = {self._slot[r.session]: r.sampled[-1] for r in requests}
        lengths = {slot: len(self._cached[session]) for session, slot in self._slot.items()}
        return self.graphs.logits(self._cache, tokens, lengths, self._edits)

    @torch.inference_mode()
    def _forward(
        self, requests: list[Request], ids: Tensor, positions: Tensor, last: Tensor, layers: Sequence[int]
    ) -> Tensor:
        """Logits [rows, vocabulary] after token `last` of each row. The states of these layers are kept."""
        edits = self._playing(requests)
        if self._cache is None:
            return self._reread(requests, edits, layers)
        self._cache.reserve(int(positions.max()) + 1)
        rows = [self._slot[r.session] for r in requests]
        plan = Slots(self._cache, rows, positions, self.device)
        with applied(self.model, edits):
            ids, at = ids.to(self.device), positions.to(self.device)
            hidden, states = layer_states(self.model, ids, at, plan, layers)
        self._reader.keep(requests, states, positions[:, 0].tolist(), (last + 1).tolist())
        return head_logits(self.model, hidden[torch.arange(len(rows)), last])

    def _playing(self, requests: list[Request]) -> tuple[ActivationEdit, ...]:
        """Switch the adapters of the requests' one player on, and return its edits."""
        if not self._players or self._adapters is None:
            return self._edits
        mode = self._players[requests[0].player]
        self._adapters.activate(mode.adapters)
        return mode.edits

    def _reread(self, requests: list[Request], edits: tuple[ActivationEdit, ...], layers: Sequence[int]) -> Tensor:
        """Logits [rows, vocabulary] after the last token of each row, from the whole sequences."""
        rows = [self._cached[r.session] for r in requests]
        starts = [0, *accumulate(map(len, rows))]
        ids = torch.tensor([token for row in rows for token in row], device=self.device)
        positions = torch.cat([torch.arange(len(row), device=self.device) for row in rows])
        with applied(self.model, edits):
            row, states = layer_states(self.model, ids[None], positions[None], Packed(starts), layers)
        hidden = row[0]
        for number, (request, start) in enumerate(zip(requests, starts, strict=False)):
            own = {layer: of_layer[:, start : starts[number + 1]] for layer, of_layer in states.items()}
            self._reader.keep([request], own, [0], [len(rows[number])])
        return head_logits(self.model, hidden[torch.tensor(starts[1:], device=self.device) - 1])

    @torch.inference_mode()
    def _sample(self, requests: list[Request], logits: Tensor) -> None:
        """Sample by the inverse CDF of each request's own uniform numbers: the rest of the batch has no influence."""
        temperature = torch.tensor([[r.params.temperature or 1.0] for r in requests], device=logits.device)
        logits = logits.float().div_(temperature)
        for row, request in enumerate(requests):
            if request.params.forbid and (ids := self._masked_tokens(request)):
                logits[row, list(ids)] = -torch.inf
                request.masked_tokens.append((len(request.sampled), ids))
        self._truncate(requests, logits)
        uniforms = torch.tensor([r.uniforms[len(r.sampled)] for r in requests], dtype=torch.float64)
        greedy = torch.tensor([r.params.temperature == 0 for r in requests])
        try:
            chosen, picked = self._drawing(logits, uniforms.to(logits.device), greedy.to(logits.device))
        except FloatingPointError as error:
            broken = "the model's logits are not finite: its weights are broken, or an activation edit is"
            raise RuntimeError(broken) from error
        for request, token, logprob in zip(requests, chosen.tolist(), picked.tolist(), strict=True):
            request.sampled.append(token)
            request.logprobs.append(logprob)
            request.version.append(self.version)

    @staticmethod
    def _truncate(requests: list[Request], logits: Tensor) -> None:
        """Leave each row the tokens that its truncation keeps, and record them. Greedy rows need none."""
        alike: dict[Truncation, list[int]] = {}
        for row, request in enumerate(requests):
            if request.params.truncation.on and request.params.temperature:
                alike.setdefault(request.params.truncation, []).append(row)
        for how, rows in alike.items():
            for row, kept in zip(rows, truncate(logits, rows, how), strict=True):
                request, position = requests[row], len(requests[row].sampled)
                if request.masked_tokens and request.masked_tokens[-1][0] == position:
                    request.masked_tokens.pop()  # what is kept says it all
                request.masked_tokens.append((position, recorded(kept)))

    def _masked_tokens(self, request: Request) -> tuple[int, ...]:
        if self._mask is None:
            self._mask = CommandMask(self.renderer, self._vocabulary)
        return self._mask.masked_tokens(request.sampled, request.params.forbid)

    def _finish(self) -> None:
        """Hand completed requests to their callers."""
        unfinished: list[Request] = []
        for request in self._active:
            if not request.has_ended(self._ends):
                unfinished.append(request)
            elif not request.future.done():
                request.future.set_result(request.completion(self._ends, self._reader))
        self._active = unfinished


def checksum(model: PreTrainedModel) -> str:
    """Checksum of a model's parameters and persistent buffers."""
    return weights.checksum(model.state_dict())
