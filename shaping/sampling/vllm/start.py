"""Start vLLM, and translate requests and completions. Only this module knows vLLM's arguments."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from shaping.sampling.engine import Completion, EngineError, SamplingParams
from shaping.sampling.truncate import recorded
from shaping.sampling.vllm.config import TEMPLATE, ModelFiles, VLLMConfig
from shaping.sampling.vllm.diagnose import explain_import
from shaping.sockets import LOOPBACK, use_interface

#: Set before the import of vLLM, unless the user has set them. Binding to cores would put all engines on the same ones.
ENVIRONMENT = {
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    "VLLM_WORKER_SHUTDOWN_TIMEOUT_SECONDS": "1",
}


@dataclass(frozen=True, slots=True)
class Serving:
    """A running vLLM engine."""

    llm: Any
    """vLLM's AsyncLLM."""
    dtype: torch.dtype
    """Type of the served weights."""
    vocabulary: int
    """Number of logits."""
    eager: bool
    """True if the model is not compiled, so that hooks work."""


async def start(
    files: ModelFiles, config: VLLMConfig, serving: list[Serving], template: Mapping[str, Any] | None = None
) -> None:
    """Start vLLM and append it to `serving`, also if a later step of the start fails.

    `template` are arguments of the chat template, by which masks know whether replies begin in a thought.

    Raises: EngineError if vLLM cannot be imported, or cannot serve the model with these settings.
    """
    vllm_config, eager = engine_config(files, config, template)
    model = vllm_config.model_config
    try:
        from vllm.v1.engine.async_llm import AsyncLLM

        serving.append(
            Serving(
                llm=AsyncLLM.from_vllm_config(vllm_config, disable_log_stats=True),
                dtype=model.dtype,
                vocabulary=int(model.get_vocab_size()),
                eager=eager,
            )
        )
        await serving[0].llm.update_weight_version("0")
    except Exception as error:
        raise EngineError(
            f"vLLM does not start with {files.path}: {error}. Its EngineCore process has printed the cause above; if "
            "memory is short, lower gpu_memory_utilization, kv_cache_gib, max_num_seqs or max_model_len"
        ) from error


def engine_config(files: ModelFiles, config: VLLMConfig, template: Mapping[str, Any] | None = None) -> tuple[Any, bool]:
    """(vLLM's config of an engine, whether it does not compile the model).

    Raises: EngineError if vLLM cannot be imported, or cannot serve the model with these settings.
    """
    os.environ.update({name: value for name, value in ENVIRONMENT.items() if name not in os.environ})
    use_interface(LOOPBACK, "GLOO_SOCKET_IFNAME")  # an engine's processes are on one machine
    try:
        from vllm.platforms import current_platform
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine import async_llm  # noqa: F401
    except Exception as error:  # broken binaries raise exceptions of many types
        raise EngineError(explain_import(error)) from error
    cpu = bool(current_platform.is_cpu())
    if cpu:
        _check_cpu(files)
    files.check_memory(config, cpu=cpu, free=_free_memory() if cpu else None)
    eager = cpu if config.enforce_eager is None else config.enforce_eager
    try:
        arguments = _arguments(files, config, cpu=cpu, eager=eager)
        if template:
            arguments.additional_config = {TEMPLATE: dict(template)}
        vllm_config = arguments.create_engine_config(UsageContext.ENGINE_CONTEXT)
    except Exception as error:
        raise EngineError(f"vLLM cannot serve {files.path} with these settings: {error}") from error
    runner = "V2" if vllm_config.use_v2_model_runner else "V1"
    vllm_config.model_config.logits_processors = [f"shaping.sampling.vllm.masks:{runner}CommandMask"]
    return vllm_config, eager


def _arguments(files: ModelFiles, config: VLLMConfig, *, cpu: bool, eager: bool) -> Any:
    from vllm.config.weight_transfer import WeightTransferConfig
    from vllm.engine.arg_utils import AsyncEngineArgs

    context, tokens = files.context_length(config), config.max_num_batched_tokens
    settings: dict[str, Any] = {}
    if cpu:  # on a CPU, chunked prefill of a seeded request stops the engine
        settings |= {"enable_chunked_prefill": False}
        tokens = max(tokens or 8192, context)
    if config.enable_lora:
        settings |= {"enable_lora": True, "max_loras": config.max_loras, "max_lora_rank": config.max_lora_rank}
    return AsyncEngineArgs(
        model=str(files.path),
        skip_tokenizer_init=True,
        load_format="safetensors",
        generation_config="vllm",  # a model's own defaults would change the sampling distribution
        logprobs_mode="processed_logprobs",
        dtype=config.dtype,
        max_model_len=context,
        max_num_seqs=config.max_num_seqs,
        max_num_batched_tokens=tokens,
        gpu_memory_utilization=config.gpu_memory_utilization,
        kv_cache_memory_bytes=config.cache_bytes(cpu=cpu),
        tensor_parallel_size=config.tensor_parallel_size,
        enforce_eager=eager,
        max_logprobs=config.max_logprobs,
        enable_prefix_caching=True,
        worker_extension_cls="shaping.sampling.vllm.worker.ShapingWorker",
        weight_transfer_config=WeightTransferConfig(backend="shaping"),
        **settings,
    )


def _check_cpu(files: ModelFiles) -> None:
    from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend

    if (size := files.head_size) not in (sizes := CPUAttentionBackend.get_supported_head_sizes()):
        raise EngineError(
            f"vLLM on a CPU serves attention heads of {sizes} numbers; this model's have {size}: use the transformers "
            "engine"
        )


def _free_memory() -> int:
    import psutil

    return int(psutil.virtual_memory().available)


def vllm_request(params: SamplingParams, ends: Collection[int]) -> Any:
    """vLLM's sampling parameters for one completion, which stops at each of the tokens `ends`."""
    from vllm.sampling_params import RequestOutputKind
    from vllm.sampling_params import SamplingParams as VLLMSamplingParams

    from shaping.sampling.vllm.masks import FORBID

    how = params.truncation
    if how.on and not how.top_k:
        raise EngineError("vLLM tells which tokens top_p and min_p have kept only below a top_k: set one")
    return VLLMSamplingParams(
        max_tokens=params.max_tokens,
        temperature=params.temperature,
        seed=params.seed,
        ignore_eos=True,  # only the tokens of `ends` end a turn
        stop_token_ids=sorted(ends),
        logprobs=asked_for(how.top_k) if how.on else 0,
        top_k=how.top_k,
        top_p=how.top_p,
        min_p=how.min_p,
        flat_logprobs=True,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
        extra_args={FORBID: list(params.forbid)} if params.forbid else None,
    )


def completion_of(output: Any, ends: Collection[int], version: int | None, *, truncated: bool = False) -> Completion:
    """A `Completion` from vLLM's output. Each token carries the adapter's `version`, or that of its weights.

    `truncated`: the tokens that were kept are recorded.
    """
    tokens = np.array(output.token_ids, np.int32)
    versions = np.full(len(tokens), -1 if version is None else version, np.int32)
    if version is None:
        for span in output.weight_versions:
            versions[span.start : span.end] = int(span.version)
    flat = output.logprobs
    if len(flat.start_indices) != len(tokens):
        raise EngineError(f"vLLM gave {len(flat.start_indices)} log-probs for {len(tokens)} tokens")
    logprobs = np.array([flat.logprobs[start] for start in flat.start_indices], np.float32)  # the sampled one is first
    masked = kept_tokens(flat) if truncated else ()
    return Completion(tokens, logprobs, versions, bool(len(tokens)) and int(tokens[-1]) in ends, masked)


def asked_for(top_k: int) -> int:
    """Log-probs to ask for, so that all tokens kept are among them: vLLM also keeps those that tie with the last."""
    return 2 * top_k + 64


def kept_tokens(flat: Any) -> tuple[tuple[int, tuple[int, ...]], ...]:
    """(position, ~id of the tokens that could be drawn there) from vLLM's log-probs of the likeliest ones.

    Raises: EngineError if there may be more of them than it has told.
    """
    found = []
    for position, (start, stop) in enumerate(zip(flat.start_indices, flat.end_indices, strict=True)):
        chances = flat.logprobs[start:stop]
        if all(map(np.isfinite, chances)):
            raise EngineError(
                f"vLLM keeps more than {stop - start - 1} tokens that tie under rollout.top_k: lower it, or sample "
                "with the transformers engine"
            )
        kept = {token for token, chance in zip(flat.token_ids[start:stop], chances, strict=True) if np.isfinite(chance)}
        found.append((position, recorded(sorted(kept))))
    return tuple(found)
