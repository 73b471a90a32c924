"""A judge in this process: a model directory, served by the transformers engine to any number of threads."""

from __future__ import annotations

import asyncio
import itertools
import threading
from concurrent.futures import TimeoutError as LateError
from functools import cache
from pathlib import Path
from typing import Any, cast

from envs.escaping import on_one_line
from shaping.monitors.judging.endpoint import Answer, EndpointError
from shaping.monitors.judging.judge import Judge

SLOTS = 8
"""Questions under way at once; further ones wait."""
CONTEXT = 16_384
"""Tokens of a question and its answer at most, whatever the model could read: each slot keeps as many."""
_SHOWN = 200


class LocalModel:
    """A causal language model that answers chat messages. Requests of several threads share its passes.

    Args:
        directory: a model in the Hugging Face layout, with a chat template; nothing is fetched, and no code of it runs.
    Raises: `EndpointError` if it cannot be loaded.
    """

    def __init__(self, directory: str) -> None:
        import torch  # a study without such a judge waits for none of these
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from shaping.sampling.embedded.transformers_engine import TransformersEngine
        from shaping.sampling.text.render import Renderer

        path = Path(directory).expanduser()
        if not (path / "config.json").is_file() or not any(path.glob("*.safetensors")):
            raise EndpointError("unreachable", f"{path} is no model directory with safetensors weights", again=False)
        try:
            model = AutoModelForCausalLM.from_pretrained(path, local_files_only=True, use_safetensors=True)
            renderer = Renderer(AutoTokenizer.from_pretrained(path, local_files_only=True))
        except Exception as error:  # the libraries raise whatever a damaged file makes them raise
            said = on_one_line(f"{type(error).__name__}: {error}", _SHOWN)
            raise EndpointError("unreachable", f"{path} does not load: {said}", again=False) from None
        self._torch, self._renderer = torch, renderer
        model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
        limit = min(CONTEXT, int(getattr(model.config, "max_position_embeddings", CONTEXT)))
        self._engine = TransformersEngine(model, renderer, slots=SLOTS, context_length=limit)
        self._sessions = itertools.count()
        self._loop = asyncio.new_event_loop()
        self._gate = asyncio.Semaphore(SLOTS)
        threading.Thread(target=self._loop.run_forever, name="local judge", daemon=True).start()

    def answer(self, judge: Judge, messages: list[dict[str, str]]) -> Answer:
        """The reply to chat messages. Raises: `EndpointError` if they are too long, or no reply is there in time."""
        asked = asyncio.run_coroutine_threadsafe(self._answer(judge, messages), self._loop)
        try:
            return asked.result(judge.timeout)
        except LateError:
            asked.cancel()
            raise EndpointError("slow", f"no answer within {judge.timeout:g} s", again=True) from None

    async def _answer(self, judge: Judge, messages: list[dict[str, str]]) -> Answer:
        from shaping.sampling.engine import SamplingParams, Session
        from shaping.sampling.text.template import Message

        tokens = self._renderer.conversation([Message(each["role"], each["content"]) for each in messages])
        room = self._engine.context_length - len(tokens)
        if room < judge.max_tokens:
            said = f"the question has {len(tokens)} tokens, and with {judge.max_tokens} of an answer the model reads "
            raise EndpointError("refused", f"{said}{self._engine.context_length}: set a smaller window", again=False)
        number = next(self._sessions)
        session = Session(number, cast(Any, None))  # no world: nothing is played
        async with self._gate:
            self._engine.open(session)
            try:
                params = SamplingParams(judge.max_tokens, judge.temperature, number)
                with self._torch.no_grad():
                    completion = await self._engine.complete(session, tokens, params)
            finally:
                self._engine.close(session)
        return Answer(self._renderer.text(completion.tokens.tolist()), (len(tokens), len(completion.tokens)))


_loading = threading.Lock()
_loaded = cache(LocalModel)


def local_model(directory: str) -> LocalModel:
    """The model of a directory, which a process loads once. Raises: `EndpointError`."""
    with _loading:
        return _loaded(directory)
