"""The vLLM engine: continuous batching, paged keys and values with prefix caching, in its own processes.

The engine runs in its own event loop, so that it outlives a caller's loop. Its random numbers are not those of the
transformers engine: distributions agree, samples do not.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import shutil
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from shaping.hooks import ActivationEdit
from shaping.sampling.background import BackgroundLoop
from shaping.sampling.engine import Completion, EngineError, SamplingParams, Session
from shaping.sampling.players import check_player
from shaping.sampling.text.forbid import CommandMask
from shaping.sampling.text.render import Renderer
from shaping.sampling.text.turn_ends import ends_of_directory
from shaping.sampling.transfer.broadcast import WeightTransfer
from shaping.sampling.transfer.pair_group import TransferError
from shaping.sampling.transfer.scratch import Scratch
from shaping.sampling.transfer.weights import combined, digests
from shaping.sampling.vllm.adapters import ServedAdapter, check_servable, digest
from shaping.sampling.vllm.config import ModelFiles, VLLMConfig
from shaping.sampling.vllm.start import Serving, completion_of, start, vllm_request


class VLLMEngine:
    """Serves a model directory. The start takes 15 to 60 seconds; `shutdown()` ends its processes.

    Args:
        model: directory in the Hugging Face layout with safetensors weights.
        renderer: of the model's tokenizer.
        config: memory, context, adapters.
    Raises: EngineError if the model or the settings cannot work.
    """

    def __init__(self, model: Path | str, renderer: Renderer, config: VLLMConfig | None = None) -> None:
        self.renderer = renderer
        self.config = config = config or VLLMConfig()
        self.version = 0
        self.prompt_tokens, self.cached_tokens = 0, 0  # cached / prompt is the hit rate of the prefix cache
        self._files = ModelFiles(Path(model))
        self._ends = renderer.ends | ends_of_directory(Path(model))
        self.context_length = self._files.context_length(config)
        self._sessions: set[int] = set()
        self._count = itertools.count(1)
        self._running: set[asyncio.Task[Any]] = set()
        self._retiring: set[asyncio.Task[None]] = set()
        self._broken = ""
        self._edits: list[dict[str, Any]] = []
        self._adapter: ServedAdapter | None = None
        self._players: dict[str, ServedAdapter | None] = {}
        self._in_use: Counter[ServedAdapter] = Counter()
        self._verified = False
        self._mask: CommandMask | None = None
        self._scratch = Scratch()
        self._loop = BackgroundLoop("vllm")
        self._serving: list[Serving] = []
        self._close = weakref.finalize(self, _stop, self._loop, self._scratch, self._serving)  # also runs at exit
        try:
            self._loop.block(start(self._files, config, self._serving, renderer.template.settings.arguments))
        except BaseException:
            self._close()
            raise
        self.eager, self.dtype = self._serving[0].eager, self._serving[0].dtype

    @property
    def _llm(self) -> Any:
        """vLLM's AsyncLLM."""
        return self._serving[0].llm

    # -- sampling ------------------------------------------------------------------------------------------------

    def open(self, session: Session) -> None:
        if session.id in self._sessions:
            raise ValueError(f"session {session.id} is open already")
        self._sessions.add(session.id)

    def close(self, session: Session) -> None:
        """End a session. It frees nothing: vLLM caches prefixes by content, not by session."""
        self._sessions.remove(session.id)

    async def complete(self, session: Session, tokens: Sequence[int], params: SamplingParams) -> Completion:
        if session.id not in self._sessions:
            raise ValueError(f"session {session.id} is not open: call open(session) before complete()")
        if len(tokens) + params.max_tokens > self.context_length:
            raise ValueError(f"{len(tokens)} tokens and a reply do not fit in a context of {self.context_length}")
        check_player(session.player, self._players)
        name = f"{session.id}-{next(self._count)}"
        completion = await self._loop.wait(self._complete(name, session.player, list(tokens), params))
        if not np.isfinite(completion.logprobs).all():
            raise EngineError("the model's logits are not finite: its weights are broken, or an activation edit is")
        if not params.forbid or completion.masked_tokens:  # what a truncation has kept is what a mask had left
            return completion
        self._mask = self._mask or CommandMask(self.renderer, self._serving[0].vocabulary)
        sampled = completion.tokens.tolist()
        by_position = ((n, self._mask.masked_tokens(sampled[:n], params.forbid)) for n in range(len(sampled)))
        masked_tokens = tuple((n, ids) for n, ids in by_position if ids)
        return Completion(
            completion.tokens, completion.logprobs, completion.policy_versions, completion.finished, masked_tokens
        )

    async def _complete(self, name: str, player: str, tokens: list[int], params: SamplingParams) -> Completion:
        from vllm.inputs.engine import tokens_input

        task, adapter = asyncio.current_task(), self._players.get(player, self._adapter)
        stamp = self.version if self._players else adapter.version if adapter else None
        assert task is not None
        self._check()
        self._running.add(task)
        self._in_use.update([adapter] if adapter else [])
        try:
            request = vllm_request(params, self._ends)
            lora = adapter.request if adapter else None
            (output,) = [o async for o in self._llm.generate(tokens_input(tokens), request, name, lora_request=lora)]
        except asyncio.CancelledError:
            self._check()
            raise
        except Exception as error:
            raise EngineError(f"vLLM failed on a completion: {error.__cause__ or error}") from error
        finally:
            self._running.discard(task)
            if adapter:
                self._release(adapter)
        self.prompt_tokens += len(tokens)
        self.cached_tokens += output.num_cached_tokens or 0
        truncated = params.truncation.on and params.temperature > 0
        return completion_of(output.outputs[0], self._ends, stamp, truncated=truncated)

    def _check(self) -> None:
        if self._broken:
            raise EngineError(self._broken)

    # -- weights, adapters, edits --------------------------------------------------------------------------------

    async def load_weights(self, state: Mapping[str, Tensor], version: int) -> str:
        """Take all weights at once. Sampling pauses only while they are loaded, and continues with them.

        Completions under way are read again under the new weights, so that every token's log-prob belongs to the
        version that the token carries. Returns: the checksum of the served weights; empty if it was not computed.
        """
        self._check_full()
        tensors = self._files.checked_weights(state)
        return await self._loop.wait(self._load_weights(tensors, state, version), finish=True)

    async def _load_weights(self, tensors: Mapping[str, Tensor], state: Mapping[str, Tensor], version: int) -> str:
        served = {n: t.detach().to("cpu", self.dtype).contiguous() for n, t in tensors.items()}
        path = self._scratch.path(f"{version}.safetensors", sum(t.nbytes for t in served.values()))
        shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
        try:
            await asyncio.to_thread(save_file, served, path)
            expected = await asyncio.to_thread(digests, state, self.dtype) if self._verifies else {}
            return await self._update({"path": str(path)}, expected, shapes, version)
        finally:
            path.unlink(missing_ok=True)

    async def receive_weights(self, transfer: WeightTransfer, version: int) -> str:
        """As `load_weights`, but through a process group from the sender's process, without a file.

        Sampling continues while the weights are under way. Raises: TransferError if they do not arrive; the engine
        then keeps serving its present weights.
        """
        self._check_full()
        if self.config.tensor_parallel_size > 1:
            raise EngineError("weights by broadcast are for tensor_parallel_size=1: use load_weights")
        shapes = {name: shape for name, (_, shape) in transfer.tensors.items()}
        names = self._files.checked_names(shapes)
        dtype = str(self.dtype).removeprefix("torch.")
        floating = {name for name in names if getattr(torch, transfer.tensors[name][0]).is_floating_point}
        wanted = [[n, dtype if n in floating else transfer.tensors[n][0], list(shapes[n])] for n in names]
        return await self._loop.wait(self._receive_weights(transfer, wanted, shapes, version), finish=True)

    async def _receive_weights(
        self, transfer: WeightTransfer, wanted: list[Any], shapes: Mapping[str, tuple[int, ...]], version: int
    ) -> str:
        from vllm.distributed.weight_transfer.base import WeightTransferInitRequest

        self._check()
        address = {name: getattr(transfer, name) for name in ("host", "port", "session", "number", "timeout")}
        try:
            await self._llm.init_weight_transfer_engine(WeightTransferInitRequest({**address, "wanted": wanted}))
            while (failure := (await self._llm.collective_rpc("shaping_broadcast_outcome"))[0]) is None:
                await asyncio.sleep(0.005)
            expected = (await self._llm.collective_rpc("shaping_arrived_digests"))[0] if self._verifies else {}
        except Exception as error:  # vLLM has failed, not the transfer
            raise EngineError(
                f"vLLM failed on the weights of version {version}: {error}. Start a new engine"
            ) from error
        if failure:
            raise TransferError(f"the weights of version {version} have not arrived by broadcast: {failure}")
        return await self._update({}, expected, shapes, version)

    async def _update(
        self,
        source: Mapping[str, str],
        expected: Mapping[str, str],
        shapes: Mapping[str, tuple[int, ...]],
        version: int,
    ) -> str:
        """Load the weights at `source`. Returns the checksum of the served weights if `expected` digests are given."""
        from vllm.distributed.weight_transfer.base import WeightTransferUpdateRequest

        served = ""
        async with self._paused(f"weight update to version {version}"):
            await self._llm.start_weight_update()
            await self._llm.update_weights(WeightTransferUpdateRequest(dict(source)))
            await self._llm.finish_weight_update(str(version))
            if expected:
                served = await self._verify(expected, shapes)
        self.version = version
        return served

    @property
    def _verifies(self) -> bool:
        return self.config.verify == "always" or not self._verified

    def _check_full(self) -> None:
        if self._adapter or self._players:
            raise EngineError(
                f"an adapter (version {self.version}) is served: load_adapter(None, version) comes before "
                "new full weights"
            )

    async def _verify(self, expected: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]]) -> str:
        """The checksum of the served weights. Raises EngineError if a digest differs from the `expected` one."""
        if self.config.tensor_parallel_size > 1:
            return ""  # no worker holds a whole tensor
        plain = {name: list(shape) for name, shape in shapes.items()}
        (served,) = await self._llm.collective_rpc("shaping_served_digests", args=(plain,))
        if wrong := sorted(name for name in served if name in expected and served[name] != expected[name]):
            raise EngineError(
                f"{len(wrong)} of {len(shapes)} weights are not served as they were sent, {wrong[0]!r} first"
            )
        self._verified = True
        return combined(served) if len(served) == len(shapes) else ""

    async def load_adapter(self, directory: Path | None, version: int) -> str:
        """Sample with an adapter from now on. Completions under way keep their adapter, and so their version."""
        check_servable(self.config, [directory])
        return await self._loop.wait(self._load_adapter(directory, version), finish=True)

    async def load_players(self, directories: Mapping[str, Path | None], version: int) -> dict[str, str]:
        """Sample each session with the adapter of its player from now on; None: with the base alone.

        An adapter whose weights are those that its player has already is kept: past policies change rarely. All tokens
        carry `version`. Returns: the checksum of every player's adapter, empty without one.
        """
        check_servable(self.config, list(directories.values()))
        return await self._loop.wait(self._load_players(directories, version), finish=True)

    async def _load_players(self, directories: Mapping[str, Path | None], version: int) -> dict[str, str]:
        self._check()
        found: dict[str, ServedAdapter | None] = {}
        for player, directory in directories.items():
            known = self._players.get(player)
            if directory is None or (known and known.digest == digest(directory)):
                found[player] = known if directory else None
            else:
                found[player] = await self._added(directory, version)
        previous, self._players, self.version = self._players, found, version
        for adapter in filter(None, previous.values()):
            self._release(adapter, 0)
        await self._llm.update_weight_version(str(version))
        return {player: adapter.digest if adapter else "" for player, adapter in found.items()}

    async def _load_adapter(self, directory: Path | None, version: int) -> str:
        self._check()
        previous, self.version, served = self._adapter, version, ""
        if directory is None:
            self._adapter = None
            await self._llm.update_weight_version(str(version))
        else:
            self._adapter = await self._added(directory, version)
            served = self._adapter.digest
        if previous:
            self._release(previous, 0)
        return served

    async def _added(self, directory: Path, version: int) -> ServedAdapter:
        from vllm.lora.request import LoRARequest

        size = (directory / "adapter_model.safetensors").stat().st_size
        number = next(self._count)
        path = self._scratch.path(f"adapter-{version}-{number}", size)
        partial = path.with_suffix(".part")
        await asyncio.to_thread(shutil.copytree, directory, partial)
        os.replace(partial, path)
        request = LoRARequest(f"policy-{version}-{number}", number, str(path))
        adapter = ServedAdapter(request, path, version, digest(path))
        try:
            async with asyncio.timeout(self.config.update_timeout):
                await self._llm.add_lora(adapter.request)
        except Exception as error:
            shutil.rmtree(path, ignore_errors=True)
            reason = f"took more than {self.config.update_timeout} s" if isinstance(error, TimeoutError) else error
            raise EngineError(f"vLLM does not take the adapter in {directory}: {reason}") from error
        return adapter

    def _release(self, adapter: ServedAdapter, count: int = 1) -> None:
        """Count `count` uses fewer. An adapter that is neither in use nor the newest is dropped, with its files."""
        self._in_use[adapter] -= count
        if self._in_use[adapter] > 0 or adapter is self._adapter or adapter in self._players.values():
            return

        async def retire() -> None:
            await self._llm.remove_lora(adapter.request.lora_int_id)
            shutil.rmtree(adapter.directory, ignore_errors=True)

        del self._in_use[adapter]
        task = asyncio.create_task(retire())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    def set_edits(self, edits: Sequence[ActivationEdit]) -> None:
        """Apply these edits, and no others, from now on. They are Python hooks, which compiled models do not call."""
        plain = [self._files.checked_edit(spec) for spec in edits]
        if plain and not self.eager:
            raise EngineError(
                "activation edits need enforce_eager=True: vLLM's compiled model does not call hooks. Set it in the "
                "engine's settings (sampling gets slower), or use the transformers engine"
            )
        if plain != self._edits:
            self._loop.block(self._set_edits(plain))

    async def _set_edits(self, plain: list[dict[str, Any]]) -> None:
        async with self._paused("change of activation edits"):
            await self._llm.collective_rpc("shaping_set_edits", args=(plain,))
        self._edits = plain

    @asynccontextmanager
    async def _paused(self, what: str) -> AsyncIterator[None]:
        """Pause sampling inside the block, and forget all keys and values. If the block fails, sampling stays paused.

        A half-changed model must not serve: every caller gets the error, now and later.
        """
        self._check()
        try:
            async with asyncio.timeout(self.config.update_timeout):
                await self._llm.pause_generation(mode="keep", clear_cache=True)
                yield
                await self._llm.resume_generation()
        except BaseException as error:
            reason = f"took more than {self.config.update_timeout} s" if isinstance(error, TimeoutError) else error
            self._broken = f"the {what} failed: {reason}. The engine no longer samples: start a new one"
            for task in self._running:
                task.cancel()
            raise EngineError(self._broken) from error

    def shutdown(self) -> None:
        self._broken = "the engine has been shut down"
        self._close()


def _stop(loop: BackgroundLoop, scratch: Scratch, serving: list[Serving]) -> None:
    try:
        while serving:
            llm = serving.pop().llm
            if (handler := llm.output_handler) is not None:  # otherwise it would report the end as a failure
                loop.block(_cancelled(handler), timeout=5)
            llm.shutdown(timeout=20)
            del llm, handler
            gc.collect()  # otherwise it shuts down again at the end of the interpreter, without its modules
    finally:
        loop.stop()
        scratch.remove()


async def _cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait([task])
